"""The contract of methods as functions, for packages with methods of their own; needs no pytest.

``check_method(MyMethod())`` tries all laws. Each law is a function that takes a :class:`Subject` and raises an
AssertionError with one sentence where the method breaks it; methods inside an encoder have :data:`TOWER_LAWS` and
:class:`TowerSubject`. For a test per law::

    @pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
    def test_contract(law):
        law(Subject(MyMethod(random_state=0)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sklearn.base import clone

from modalign.core.errors import InputError, require_choice
from modalign.methods import method_class
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing import answers, invariances, refusals
from modalign.testing.subject import FewShot, Subject, few_shot_problem
from modalign.testing.tower_laws import TOWER_LAWS, TowerSubject

Law = Callable[[Subject], None]

LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        answers.the_class_describes_itself,
        answers.learns_something,
        answers.diagnosis_is_finite_numbers_and_names,
        answers.probabilities_are_the_softmax_of_the_scores,
        answers.two_classes_decide_by_sign,
        answers.a_class_without_an_image_keeps_its_column,
        answers.string_labels_come_back,
        answers.what_is_learned_can_be_saved,
        invariances.one_seed_gives_the_same_bits,
        invariances.an_image_scores_alike_in_any_batch,
        invariances.renaming_the_classes_permutes_the_scores,
        invariances.torch_in_torch_out_equal_to_numpy,
        invariances.half_precision_is_computed_in_single,
        invariances.unlabeled_rows_teach_a_labeled_method_nothing,
        invariances.what_labels_and_text_change_is_what_the_class_says,
        invariances.what_validation_chose_gives_the_same_model,
        invariances.every_ablation_changes_its_own_hyper_parameters_and_fits,
        refusals.fit_leaves_parameters_and_arguments_alone,
        refusals.features_of_another_encoder_are_refused,
        refusals.what_is_not_finite_is_refused,
        refusals.widths_and_counts_that_do_not_fit_are_refused,
    )
}
"""Name → law."""


def check_method(
    method: str | VectorMethod | TowerMethod | type[VectorMethod] | type[TowerMethod],
    *,
    tolerance: float = 1e-4,
    skip: Iterable[str] = (),
) -> None:
    """Raise unless a method keeps the contract of all methods on vectors, or of all inside an encoder.

    A method on vectors is fitted about twenty times to 20 images of 5 classes, a method inside an encoder twice to 20
    images of 10 classes. Pass hyper-parameters with few steps.

    Parameters
    ----------
    method : str, VectorMethod, TowerMethod or type
        Name, class or unfitted object. An object is not changed. A ``random_state`` of None is set to 0.
    tolerance : float, default=1e-4
        See :class:`Subject`.
    skip : iterable of str
        Names of :data:`LAWS` or :data:`TOWER_LAWS` that do not apply.

    Raises
    ------
    AssertionError
        One line for each law that is broken.
    InputError
        ``method`` is not a method, or ``skip`` names no law.

    Examples
    --------
    >>> from modalign.testing import check_method
    >>> check_method("zero_shot")
    """
    unfitted, skip = _unfitted(method), set(skip)
    laws: Mapping[str, Callable[[Any], None]]
    subject: Subject | TowerSubject
    if isinstance(unfitted, TowerMethod):
        laws, subject, kind = TOWER_LAWS, TowerSubject(unfitted, tolerance), "methods inside an encoder"
    else:
        laws, subject, kind = LAWS, Subject(unfitted, tolerance), "methods on vectors"
    for name in skip:
        require_choice("skip", name, laws)
    broken = {name: error for name, law in laws.items() if name not in skip and (error := _failure(law, subject))}
    if broken:
        said = {name: str(e) if isinstance(e, AssertionError) else repr(e) for name, e in broken.items()}
        lines = [f"- {name}: {sentence}" for name, sentence in said.items()]
        title = f"{subject.name} breaks {len(broken)} of {len(laws) - len(skip)} laws of {kind}:"
        raise AssertionError("\n".join([title, *lines])) from next(iter(broken.values()))


def _unfitted(method: object) -> VectorMethod | TowerMethod:
    found = method_class(method) if isinstance(method, str) else method
    if isinstance(found, type) and issubclass(found, (VectorMethod, TowerMethod)):
        found = found()
    if not isinstance(found, (VectorMethod, TowerMethod)):
        raise InputError(f"Expected a method by name, class or object, got {found!r:.80}.")
    unfitted: VectorMethod | TowerMethod = clone(found)
    if unfitted.get_params().get("random_state", 0) is None:
        unfitted.set_params(random_state=0)
    return unfitted


def _failure(law: Callable[[Any], None], subject: Subject | TowerSubject) -> Exception | None:
    try:
        law(subject)
    except Exception as error:  # of code of others
        return error
    return None


__all__ = ["LAWS", "TOWER_LAWS", "FewShot", "Subject", "TowerSubject", "check_method", "few_shot_problem"]
