"""Which images are trained on and which are held out: properties over class sizes, shots and settings."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modalign.core.errors import InputError, UnknownNameError
from modalign.data.blobs import BytesBlob
from modalign.data.items import Items
from modalign.methods import method_class
from modalign.model.adaptation.holdout import CROSS_FIT_LIMIT, ENOUGH, plan_holdout

VECTORS, TOWER = method_class("zero_shot")(), method_class("coop")()
SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=6)
SHOTS = st.none() | st.integers(1, 45)


def items(sizes: list[int], parts: list[str] | None = None, unlabeled: int = 0) -> Items:
    labels = np.array([c for c, size in enumerate(sizes) for _ in range(size)] + [-1] * unlabeled)
    return Items(
        tuple(f"{i}.png" for i in range(len(labels))),
        (BytesBlob(b""),) * len(labels),
        labels,
        tuple(f"class {c}" for c in range(len(sizes))),
        parts=None if parts is None else np.array(parts),
        division="" if parts is None else "the folders",
    )


def counts(source: Items, indices: np.ndarray) -> np.ndarray:
    return np.bincount(source.labels[indices], minlength=len(source.class_names))


@given(SIZES, SHOTS, st.sampled_from(["auto", "cross", "none", 1, 7, 0.2, 0.9]), st.booleans(), st.integers(0, 5))
def test_parts_never_overlap_and_hold_labeled_images_only(sizes, shots, validation, inside, unlabeled) -> None:
    method = TOWER if inside and validation != "cross" else VECTORS
    source = items(sizes, unlabeled=unlabeled)
    plan = plan_holdout(source, shots, validation, method, seed=0)
    used = [*plan.learn, *plan.validation]
    assert len(set(used)) == len(used)
    assert (source.labels[used] >= 0).all()
    assert plan.labeled == sum(sizes)
    assert (counts(source, plan.learn) > 0).all()  # every class teaches
    again = plan_holdout(source, shots, validation, method, seed=0)
    np.testing.assert_array_equal(plan.learn, again.learn)
    np.testing.assert_array_equal(plan.validation, again.validation)


@given(SIZES, SHOTS, st.integers(1, 50))
def test_fewer_validation_images_than_asked_for_are_noted(sizes, shots, wanted) -> None:
    source = items(sizes)
    plan = plan_holdout(source, shots, wanted, VECTORS, seed=0)
    found = counts(source, plan.validation)
    note = [note for note in plan.notes if f"fewer than {wanted} validation images" in note]
    assert len(note) == (found < wanted).any()
    assert not note or note[0].startswith(
        "1 class has" if (found < wanted).sum() == 1 else f"{(found < wanted).sum()} "
    )


@given(SIZES, SHOTS)
@example([1, 3], 1)  # too few labels for a threshold: what few shots leave over is left to evaluate on
@example([10, 9], 2)
def test_on_vectors_all_predictions_together_are_enough_as_soon_as_there_are_enough_labels(sizes, shots) -> None:
    source = items(sizes)
    plan = plan_holdout(source, shots, "auto", VECTORS, seed=0)
    assert plan.cross
    held_out = len(plan.learn) + len(plan.validation)
    most = np.array(sizes) if shots is None else np.minimum(sizes, shots + min(shots, 4))
    np.testing.assert_array_equal(counts(source, plan.learn), most)
    assert held_out == max(most.sum(), ENOUGH if sum(sizes) >= ENOUGH else 0)


@given(st.integers(2, 6), st.integers(1, 60), SHOTS)
def test_inside_an_encoder_validation_grows_with_what_there_is(classes, size, shots) -> None:
    source = items([size] * classes)
    plan = plan_holdout(source, shots, "auto", TOWER, seed=0)
    assert not plan.cross
    learned, held = counts(source, plan.learn), counts(source, plan.validation)
    wanted = max(math.ceil(ENOUGH / classes), round((shots or size) / (5 if shots is None else 4)))
    if shots is None:
        assert (held >= min(wanted, size // 2)).all()
        np.testing.assert_array_equal(learned + held, size)
    else:
        np.testing.assert_array_equal(learned, min(shots, max(1, size - 1)))
        np.testing.assert_array_equal(held, min(max(wanted, min(shots, 4)), size - learned[0]))


def test_more_images_never_mean_fewer_held_out() -> None:
    for shots in (None, 4, 300):
        sizes = [len(plan_holdout(items([n] * 3), shots, "auto", TOWER, 0).validation) for n in range(2, 400, 7)]
        assert all(a <= b for a, b in pairwise(sizes))
        assert sizes[-1] > 60 or shots == 4


def test_many_labeled_images_are_not_cross_fitted_unless_requested() -> None:
    few, many = (items([size] * 2) for size in (CROSS_FIT_LIMIT // 2, CROSS_FIT_LIMIT // 2 + 1))
    assert plan_holdout(few, None, "auto", VECTORS, 0).cross
    plan = plan_holdout(many, None, "auto", VECTORS, 0)
    assert not plan.cross
    assert len(plan.validation) == 400
    assert plan_holdout(many, 16, "auto", VECTORS, 0).cross
    crossed = plan_holdout(many, None, "cross", VECTORS, 0)
    assert (crossed.cross, len(crossed.learn), len(crossed.validation)) == (True, len(many), 0)


@pytest.mark.parametrize("shots", [None, 2])
@pytest.mark.parametrize("validation", ["auto", "none", 3, 0.5])
def test_a_validation_list_of_the_source_validates_and_its_test_list_is_never_used(shots, validation) -> None:
    parts = (["train"] * 10 + ["validation"] * 8 + ["test"] * 6) * 3
    source = items([24] * 3, parts)
    plan = plan_holdout(source, shots, validation, VECTORS, 0)
    assert set(source.parts[plan.learn]) == {"train"}
    assert set(source.parts[plan.validation]) <= {"validation"}
    expected = {"auto": 8 if shots is None else 7, "none": 0, 3: 3, 0.5: 4}[validation]
    np.testing.assert_array_equal(counts(source, plan.validation), expected)
    np.testing.assert_array_equal(counts(source, plan.learn), shots or 10)
    assert not plan.cross
    crossed = plan_holdout(source, shots, "cross", VECTORS, 0)
    assert set(source.parts[crossed.learn]) == {"train", "validation"}


def test_a_short_validation_list_is_held_out_beside_cross_fitting() -> None:
    source = items([12] * 3, (["train"] * 10 + ["validation"] * 2) * 3)
    plan = plan_holdout(source, None, "auto", VECTORS, 0)
    assert plan.cross
    assert set(source.parts[plan.learn]) == {"train"}
    assert set(source.parts[plan.validation]) == {"validation"}
    few = plan_holdout(source, 1, "auto", VECTORS, 0)
    np.testing.assert_array_equal(counts(source, few.learn), 1)
    assert len(few.learn) + len(few.validation) == ENOUGH


@pytest.mark.parametrize(
    ("validation", "method", "sentence"),
    [
        ("auot", VECTORS, "did you mean 'auto'"),
        ("cross", TOWER, "does not cross-fit"),
        (0, VECTORS, "got 0"),
        (-1, VECTORS, "got -1"),
        (1.0, VECTORS, "got 1.0"),
        (float("nan"), VECTORS, "got nan"),
        (True, VECTORS, "got True"),
    ],
)
def test_what_makes_no_sense_is_refused(validation, method, sentence) -> None:
    with pytest.raises((InputError, UnknownNameError), match=sentence):
        plan_holdout(items([5, 5]), None, validation, method, 0)


def test_without_labels_there_is_nothing_to_plan() -> None:
    source = items([5, 5]).unlabeled()
    assert plan_holdout(source, None, "auto", VECTORS, 0) is None
    with pytest.raises(InputError, match="labeled images to validate on"):
        plan_holdout(source, None, "cross", VECTORS, 0)
    with pytest.raises(InputError, match="learns from labeled images"):
        plan_holdout(source, None, "auto", method_class("tip_adapter")(), 0)


def test_notes_on_shots_count_the_images_that_are_learned_from() -> None:
    plan = plan_holdout(items([20, 20, 20]), 8, "auto", VECTORS, 0)
    assert plan.cross
    assert plan.notes == (
        "8 training images per class and up to 4 for validation are cross-fitted: the final model learns from all of "
        "them, 12 per class",
    )
    short = plan_holdout(items([12, 12]), 16, "auto", VECTORS, 0)
    assert len(short.learn) == 24
    assert len(short.notes) == 1
    assert short.notes[0].startswith("2 classes have fewer than 16 training images")
    assert short.notes[0].count("(12)") == 2
    assert plan_holdout(items([20, 20, 20]), None, "auto", VECTORS, 0).notes == ()
