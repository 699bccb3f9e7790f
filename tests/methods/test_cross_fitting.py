"""Cross-fitting against loops written out, and that no prediction comes from a model fitted on the image."""

from __future__ import annotations

from statistics import median_low

import numpy as np
import pytest
import torch
from problems import few_shot, quick
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from modalign.core.errors import InputError
from modalign.core.features import ClassText, Features, concatenate
from modalign.methods.baselines.tip_adapter import TipAdapter
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract import cross_fitting
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.methods.contract.selection import folds
from modalign.methods.contract.vectors import VectorMethod


def problem(**settings) -> tuple[Features, ClassText]:
    data = few_shot(noise=1.6, **settings)
    names = tuple(f"class {c}" for c in range(len(data.text)))
    return Features(data.X, tuple(f"{i}.png" for i in range(len(data.X))), data.y, names), ClassText(data.text, names)


def mirrored(X: Features) -> Features:
    """Two views of the same images, distinguished by their vectors alone."""
    return concatenate([X, Features(np.roll(X.vectors, 1, axis=1), X.ids, X.labels, X.class_names)])


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("name", ["zero_shot", "tip_adapter", "linear_probe", "transclip"])
def test_no_prediction_is_by_a_model_fitted_on_the_image_or_a_copy_of_it(name, views, monkeypatch):
    X, text = problem(shots=5)
    copied = X.vectors.copy()
    copied[7] = copied[2] * 3.0  # the same direction, another class
    X = Features(copied, X.ids, X.labels, X.class_names)
    seen: dict[int, set[str]] = {}
    predicted: list[str] = []
    fit, scores = VectorMethod.fit, VectorMethod.scores

    def spied_fit(self, X, *args, validation=None, **kwargs):
        seen[id(self)] = set(X.ids)
        assert validation is None or not set(X.ids) & set(validation.ids)
        alive.append(self)
        return fit(self, X, *args, validation=validation, **kwargs)

    def spied_scores(self, X):
        predicted.extend(X.ids)
        for image in X.ids:
            assert image not in seen[id(self)]
            assert not ({"2.png", "7.png"} & seen[id(self)] and image in ("2.png", "7.png"))
        return scores(self, X)

    alive: list[VectorMethod] = []  # so that no id is used twice
    monkeypatch.setattr(VectorMethod, "fit", spied_fit)
    monkeypatch.setattr(VectorMethod, "scores", spied_scores)
    found = cross_fit(quick(name), X if views == 1 else mirrored(X), text=text, views=views)
    assert sorted(predicted) == sorted(X.ids)
    assert found.scored.ids == X.ids
    np.testing.assert_array_equal(found.scored.labels, X.labels)
    assert len(seen) == found.folds * (2 if quick(name).choices else 1)


def test_the_logits_are_those_of_a_loop_over_the_folds():
    X, _ = problem(shots=6)
    found = cross_fit(quick("linear_probe", C=10.0), X, random_state=3)
    fold = folds(torch.from_numpy(X.labels), 5, random_state=3).numpy()
    expected = np.empty((len(X), 5))
    for k in range(5):
        model = LogisticRegression(C=10.0, max_iter=1000).fit(X.vectors[fold != k], X.labels[fold != k])
        expected[fold == k] = model.decision_function(X.vectors[fold == k])
    np.testing.assert_allclose(found.scored.logits, expected, atol=2e-2)
    assert found.chosen == {"C": 10.0}


def test_the_choice_is_the_median_of_the_choices_of_the_folds_and_gives_the_predictions():
    X, text = problem(shots=4)
    found = cross_fit(TipAdapter(), X, text=text, random_state=1)
    fold = folds(torch.from_numpy(X.labels), 5, random_state=1).numpy()
    models = [TipAdapter().fit(X.select(fold != k), text=text, validation=X.select(fold == k)) for k in range(5)]
    assert len({(m.alpha_, m.beta_) for m in models}) > 1
    assert found.chosen == {name: median_low([m.chosen()[name] for m in models]) for name in ("alpha", "beta")}
    for k in range(5):
        model = TipAdapter(**found.chosen).fit(X.select(fold != k), text=text)
        np.testing.assert_allclose(found.scored.logits[fold == k], model.scores(X.select(fold == k)), atol=1e-4)


def test_a_method_that_cross_validates_chooses_on_all_images():
    X, text = problem(shots=4)
    method = quick("anchored_gaussian")
    found = cross_fit(method, X, text=text)
    assert found.chosen == clone(method).fit(X, text=text).chosen()
    assert found.chosen["discriminant_weight"] > 0


def test_the_curves_that_a_cross_validation_chose_by_are_kept():
    X, text = problem(shots=4)
    method = quick("cmm")
    found = cross_fit(method, X, text=text)
    curves = clone(method).fit(X, text=text)
    assert found.curves == {"step_curve_": curves.step_curve_, "fusion_curve_": curves.fusion_curve_}
    assert found.chosen["steps"] in found.curves["step_curve_"]["steps"]


def test_a_given_method_and_its_own_choices_stay():
    X, text = problem()
    method = TipAdapter(alpha=2.0)
    before = dict(vars(method))
    assert cross_fit(method, X, text=text).chosen["alpha"] == 2.0
    assert vars(method) == before


def test_without_text_an_only_image_teaches_and_is_not_predicted():
    X, text = problem(shots=3)
    one = np.flatnonzero((X.labels != 4) | (np.arange(len(X)) == 4))  # a single image of class 4
    X = X.select(one)
    alone = cross_fit(ZeroShot(), X)
    assert alone.scored.logits.shape == (len(X) - 1, 5)
    assert not (alone.scored.labels == 4).any()
    assert np.isfinite(alone.scored.logits).all()
    with_text = cross_fit(ZeroShot(), X, text=text)
    assert (with_text.scored.labels == 4).sum() == 1
    np.testing.assert_allclose(with_text.scored.logits, ZeroShot().fit(X, text=text).scores(X), atol=1e-5)


def test_unlabeled_images_teach_in_every_fold(monkeypatch):
    X, text = problem(shots=4)
    labels = np.where(np.arange(len(X)) < 12, X.labels, -1)
    X = Features(X.vectors, X.ids, labels, X.class_names)
    taught = []
    fit = VectorMethod.fit

    def spy(self, X, *args, **settings):
        if isinstance(X, Features):  # what a method fits inside itself is given as tensors
            taught.append(set(X.ids))
        return fit(self, X, *args, **settings)

    monkeypatch.setattr(VectorMethod, "fit", spy)
    found = cross_fit(quick("gpua"), X, text=text)
    assert found.scored.ids == X.ids[:12]
    assert all(set(X.ids[12:]) <= ids for ids in taught)


def test_a_fold_that_leaves_the_method_too_little_has_no_prediction():
    X, text = problem(shots=2)

    class NeedsAll(ZeroShot):
        def _fit(self, problem):
            if len(problem.X) < len(X):
                raise InputError("Expected all images.")
            super()._fit(problem)

    assert NeedsAll().fit(X, text=text).n_features_in_
    found = cross_fit(NeedsAll(), X, text=text)
    assert (len(found.rows), found.scored.logits.shape, found.chosen) == (0, (0, 5), {})


@pytest.mark.parametrize("labels", [[0, -1, -1], [0, 1, 1]])
def test_where_nothing_can_be_held_out_there_is_no_prediction(labels):
    vectors = np.ones((3, 4), dtype=np.float32)
    found = cross_fit(ZeroShot(), Features(vectors, labels=np.array(labels)), text=ClassText(np.eye(4)[:2], ("a", "b")))
    assert (found.scored.ids, found.folds, found.chosen) == ((), 0, {})


def test_one_seed_gives_the_same_folds():
    X, text = problem()
    method = quick("tip_adapter")
    first, second = (cross_fit(clone(method), X, text=text, random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first.scored.logits, second.scored.logits)
    other = cross_fit(method, X, text=text, random_state=6)
    assert not np.array_equal(first.scored.logits, other.scored.logits)


def test_a_fold_is_used_if_it_holds_an_image_out_and_the_others_know_classes() -> None:
    X = Features(np.eye(4, 5, dtype=np.float32), labels=np.array([0, 0, 1, -1]), class_names=("a", "b"))

    def usable(fold: list[int], named_by_text: bool) -> list[bool]:
        images = cross_fitting._Folded(X, None, None, np.array(fold), named_by_text=named_by_text)
        return [images.can_do_without(k) for k in range(2)]

    assert usable([0, 0, 0, -1], named_by_text=True) == [True, False]  # the second fold holds nothing out
    assert usable([0, 0, 1, -1], named_by_text=False) == [False, False]  # one class is left to learn
    assert usable([0, 0, 1, -1], named_by_text=True) == [True, True]
