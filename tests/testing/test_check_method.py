"""Each law of the contract is broken by a method that is made to break it, and kept by one that is sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import ClassText, Features
from modalign.linalg.similarity import cosine, unit
from modalign.methods.contract.parameters import Fraction
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing import FORMER_LAWS, LAWS, TOWER_LAWS, Subject, check_method


@dataclass(kw_only=True, eq=False, repr=False)
class Mean(VectorMethod):
    """Nearest mean of text and images.

    Parameters
    ----------
    alpha : weight of the text.
    """

    title = "Mean"
    choices = ("alpha",)
    ablations: ClassVar = {"images": {"alpha": 1.0}}

    alpha: Fraction = 0.5

    def _fit(self, problem: Problem) -> None:
        self.alpha_ = self.alpha
        X, y = problem.labeled()
        text = problem.prototypes()
        self.means_ = self.alpha * text + (1 - self.alpha) * unit(torch.zeros_like(text).index_add_(0, y, unit(X)))
        self.diagnosis_ = {"images": len(X)}

    def _scores(self, X: Tensor) -> Tensor:
        return 100 * cosine(X, self.means_)


class Untitled(Mean):
    title = ""


class Contrary(Mean):
    def _scores(self, X):
        return -super()._scores(X)


class Undiagnosed(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        self.diagnosis_ = {"share": {"of": float("nan")}}


class Sharpened(Mean):
    def predict_proba(self, X):
        p = super().predict_proba(X) ** 2
        return p / p.sum(1)[:, None]


class Columns(Mean):
    def decision_function(self, X):
        return self.scores(X)


class Narrow(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        self.seen_ = problem.y.unique()

    def scores(self, X):
        return super().scores(X)[:, self.seen_]


class Numbers(Mean):
    def predict(self, X):
        return self.scores(X).argmax(1)


class Secretive(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        self.shift = 1.0

    def _scores(self, X):
        return super()._scores(X) * self.shift


class Random(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        self.means_ = self.means_ + 1e-3 * torch.rand_like(self.means_)


class Centered(Mean):
    def _scores(self, X):
        return super()._scores(X - X.mean(0))


class Ordered(Mean):
    def _scores(self, X):
        return super()._scores(X) + 0.1 * torch.arange(len(self.means_))


class Arrays(Mean):
    def scores(self, X):
        return np.asarray(super().scores(X))


class Double(Mean):
    def scores(self, X):
        found = super().scores(X)
        return found.double() if isinstance(found, Tensor) else found.astype(np.float64)


class Curious(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        self.means_ = self.means_ + 1e-3 * problem.X.mean(0)


class Untrue(Mean):
    takes_text = False


class Undecided(Mean):
    def _fit(self, problem):
        super()._fit(problem)
        if problem.validation is not None:
            self.means_ = self.means_ + 1e-3 * problem.validation[0].mean(0)


class Unchanged(Mean):
    ablations: ClassVar = {"nothing": {"alpha": 0.5}}


class Forgetful(Mean):
    def fit(self, X, y=None, **more):
        super().fit(X, y, **more)
        self.alpha = 0.25
        return self


class Careless(Mean):
    def fit(self, X, y=None, *, text=None, **more):
        if isinstance(X, Features):
            X, y = X.vectors, X.labels if y is None else y
        return super().fit(X, y, text=text.vectors if isinstance(text, ClassText) else text, **more)


class Lenient(Mean):
    def predict(self, X):
        return super().predict(np.nan_to_num(X) if isinstance(X, np.ndarray) else X)


class Padding(Mean):
    def predict(self, X):
        wide = torch.nn.functional.pad(torch.as_tensor(X), (0, self.n_features_in_ - X.shape[1]))
        return super().predict(wide if isinstance(X, Tensor) else wide.numpy())


BREAKS = {
    "class_attributes_match_the_behavior": Untitled,
    "learns_something": Contrary,
    "diagnosis_is_finite_numbers_and_names": Undiagnosed,
    "probabilities_are_the_softmax_of_the_scores": Sharpened,
    "two_classes_decide_by_sign": Columns,
    "a_class_without_an_image_keeps_its_column": Narrow,
    "string_labels_are_returned": Numbers,
    "learned_attributes_can_be_saved": Secretive,
    "one_seed_gives_the_same_bits": Random,
    "scores_do_not_depend_on_the_batch": Centered,
    "renaming_the_classes_permutes_the_scores": Ordered,
    "torch_in_torch_out_equal_to_numpy": Arrays,
    "half_precision_is_computed_in_single": Double,
    "unlabeled_rows_do_not_change_a_supervised_method": Curious,
    "labels_and_text_have_the_declared_effect": Untrue,
    "chosen_parameters_reproduce_the_model": Undecided,
    "every_ablation_changes_its_own_hyper_parameters_and_fits": Unchanged,
    "fit_does_not_modify_parameters_or_arguments": Forgetful,
    "features_of_another_encoder_are_refused": Careless,
    "non_finite_input_is_refused": Lenient,
    "mismatched_shapes_are_refused": Padding,
}


def test_a_sound_method_keeps_all_laws() -> None:
    check_method(Mean)
    check_method(Mean(alpha=0.25), skip=["learns_something"])


@pytest.mark.parametrize("law", LAWS)
def test_every_law_can_be_broken(law: str) -> None:
    with pytest.raises(AssertionError):
        LAWS[law](Subject(BREAKS[law]()))
    others = [name for name in LAWS if name != law]
    with pytest.raises(AssertionError, match=rf"^{BREAKS[law].__name__} breaks 1 of 1 laws .*:\n- {law}: \S+"):
        check_method(BREAKS[law], skip=others)


def test_all_broken_laws_are_reported_together() -> None:
    class Hopeless(Untitled, Columns, Numbers):
        pass

    with pytest.raises(AssertionError) as caught:
        check_method(Hopeless())
    title, *lines = str(caught.value).splitlines()
    assert title == f"Hopeless breaks {len(lines)} of {len(LAWS)} laws of methods on vectors:"
    found = {line.removeprefix("- ").partition(":")[0] for line in lines}
    assert found == {"class_attributes_match_the_behavior", "two_classes_decide_by_sign", "string_labels_are_returned"}


def test_former_names_of_laws_are_accepted_with_a_warning() -> None:
    assert set(FORMER_LAWS.values()) <= {*LAWS, *TOWER_LAWS}
    assert not set(FORMER_LAWS) & {*LAWS, *TOWER_LAWS}
    others = [name for name in LAWS if name != "string_labels_are_returned"]
    with pytest.warns(FutureWarning, match="^string_labels_come_back is now string_labels_are_returned;"):
        check_method(Columns, skip=[*others, "string_labels_come_back"])


def test_the_object_stays_as_it_is_and_its_settings_count() -> None:
    method: Any = Contrary(alpha=0.125)
    before = dict(vars(method))
    with pytest.raises(AssertionError):
        check_method(method)
    assert vars(method) == before


@pytest.mark.parametrize(
    ("method", "kind", "said"),
    [
        ("zero", UnknownNameError, "zero_shot"),
        ("cmn", UnknownNameError, "did you mean 'cmm'"),
        (3, InputError, "got 3"),
    ],
)
def test_what_is_no_method_on_vectors_is_refused(method: object, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        check_method(method)
    with pytest.raises(UnknownNameError, match="did you mean 'learns_something'"):
        check_method(Mean, skip=["learn_something"])
