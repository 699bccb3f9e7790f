"""The contract of methods on vectors as functions, for packages with methods of their own; needs no pytest.

``check_method(MyMethod())`` tries all laws. Each law is a function that takes a :class:`Subject` and raises an
AssertionError with one sentence where the method breaks it. For a test per law::

    @pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
    def test_contract(law):
        law(Subject(MyMethod(random_state=0)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sklearn.base import clone

from modalign.core.errors import InputError, require_choice
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing import answers, invariances, refusals
from modalign.testing.subject import FewShot, Subject, few_shot_problem

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
    method: str | VectorMethod | type[VectorMethod], *, tolerance: float = 1e-4, skip: Iterable[str] = ()
) -> None:
    """Raise unless a method on vectors keeps the contract of all such methods.

    The method is fitted about twenty times to 20 images of 5 classes; give it hyper-parameters that make that quick.

    Parameters
    ----------
    method : str, VectorMethod or type
        Name, class or unfitted object. An object stays as it is. Where ``random_state`` is None, 0 is used.
    tolerance : float, default=1e-4
        See :class:`Subject`.
    skip : iterable of str
        Names of :data:`LAWS` that do not apply.

    Raises
    ------
    AssertionError
        One line for each law that is broken.
    InputError
        ``method`` is no method on vectors, or ``skip`` names no law.

    Examples
    --------
    >>> from modalign.testing import check_method
    >>> check_method("zero_shot")
    """
    subject = Subject(_unfitted(method), tolerance)
    skip = set(skip)
    for name in skip:
        require_choice("skip", name, LAWS)
    broken = {name: error for name, law in LAWS.items() if name not in skip and (error := _failure(law, subject))}
    if broken:
        said = {name: str(e) if isinstance(e, AssertionError) else repr(e) for name, e in broken.items()}
        lines = [f"- {name}: {sentence}" for name, sentence in said.items()]
        title = f"{subject.name} breaks {len(broken)} of {len(LAWS) - len(skip)} laws of methods on vectors:"
        raise AssertionError("\n".join([title, *lines])) from next(iter(broken.values()))


def _unfitted(method: str | VectorMethod | type[VectorMethod]) -> VectorMethod:
    found = method_class(method) if isinstance(method, str) else method
    if isinstance(found, type) and issubclass(found, VectorMethod):
        found = found()
    if not isinstance(found, VectorMethod):
        raise InputError(f"Expected a method on vectors by name, class or object, got {found!r:.80}.")
    unfitted: VectorMethod = clone(found)
    if unfitted.get_params().get("random_state", 0) is None:
        unfitted.set_params(random_state=0)
    return unfitted


def _failure(law: Law, subject: Subject) -> Exception | None:
    try:
        law(subject)
    except Exception as error:  # of code of others
        return error
    return None


__all__ = ["LAWS", "FewShot", "Subject", "check_method", "few_shot_problem"]
