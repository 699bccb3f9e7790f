"""The contract of methods as functions, for packages with methods of their own; needs no pytest.

``check_method(MyMethod())`` checks all laws. Each law is a function that takes a :class:`Subject` and raises an
AssertionError with one sentence if the method breaks it. The laws of methods inside an encoder are :data:`TOWER_LAWS`;
they take a :class:`TowerSubject`. For a test per law::

    @pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
    def test_contract(law):
        law(Subject(MyMethod(random_state=0)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sklearn.base import clone

from modalign.core.errors import InputError, require_choice
from modalign.core.renaming import warn_renamed
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
        answers.class_attributes_match_the_behavior,
        answers.learns_something,
        answers.diagnosis_is_finite_numbers_and_names,
        answers.probabilities_are_the_softmax_of_the_scores,
        answers.two_classes_decide_by_sign,
        answers.a_class_without_an_image_keeps_its_column,
        answers.string_labels_are_returned,
        answers.learned_attributes_can_be_saved,
        invariances.one_seed_gives_the_same_bits,
        invariances.scores_do_not_depend_on_the_batch,
        invariances.renaming_the_classes_permutes_the_scores,
        invariances.torch_in_torch_out_equal_to_numpy,
        invariances.half_precision_is_computed_in_single,
        invariances.unlabeled_rows_do_not_change_a_supervised_method,
        invariances.labels_and_text_have_the_declared_effect,
        invariances.chosen_parameters_reproduce_the_model,
        invariances.every_ablation_changes_its_own_hyper_parameters_and_fits,
        refusals.fit_does_not_modify_parameters_or_arguments,
        refusals.features_of_another_encoder_are_refused,
        refusals.non_finite_input_is_refused,
        refusals.mismatched_shapes_are_refused,
    )
}
"""Name → law."""

FORMER_LAWS = {
    "the_class_describes_itself": "class_attributes_match_the_behavior",
    "string_labels_come_back": "string_labels_are_returned",
    "what_is_learned_can_be_saved": "learned_attributes_can_be_saved",
    "an_image_scores_alike_in_any_batch": "scores_do_not_depend_on_the_batch",
    "unlabeled_rows_teach_a_labeled_method_nothing": "unlabeled_rows_do_not_change_a_supervised_method",
    "what_labels_and_text_change_is_what_the_class_says": "labels_and_text_have_the_declared_effect",
    "what_validation_chose_gives_the_same_model": "chosen_parameters_reproduce_the_model",
    "fit_leaves_parameters_and_arguments_alone": "fit_does_not_modify_parameters_or_arguments",
    "what_is_not_finite_is_refused": "non_finite_input_is_refused",
    "widths_and_counts_that_do_not_fit_are_refused": "mismatched_shapes_are_refused",
    "an_image_of_a_batch_scores_as_alone": "tower_scores_do_not_depend_on_the_batch",
    "what_a_tower_learned_can_be_saved": "learned_tower_parameters_can_be_saved",
    "the_encoder_stays_as_it_is": "the_encoder_is_not_modified",
}
"""Former → current name of a law."""


def check_method(
    method: str | VectorMethod | TowerMethod | type[VectorMethod] | type[TowerMethod],
    *,
    tolerance: float = 1e-4,
    skip: Iterable[str] = (),
) -> None:
    """Raise unless a method satisfies the contract of methods on vectors or of methods inside an encoder.

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
    unfitted, skip = _unfitted(method), {_present_law(name) for name in skip}
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
        sentences = {name: str(e) if isinstance(e, AssertionError) else repr(e) for name, e in broken.items()}
        lines = [f"- {name}: {sentence}" for name, sentence in sentences.items()]
        title = f"{subject.name} breaks {len(broken)} of {len(laws) - len(skip)} laws of {kind}:"
        raise AssertionError("\n".join([title, *lines])) from next(iter(broken.values()))


def _present_law(name: str) -> str:
    if name in FORMER_LAWS:
        warn_renamed(name, FORMER_LAWS[name])
    return FORMER_LAWS.get(name, name)


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
    except Exception as error:  # the method may raise anything
        return error
    return None


__all__ = ["LAWS", "TOWER_LAWS", "FewShot", "Subject", "TowerSubject", "check_method", "few_shot_problem"]
