"""The outcome of a fit: its numbers are those of the metrics, and every note follows from a value."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalign.core.features import Features
from modalign.core.scored import Scored
from modalign.evaluate.metrics import accuracy
from modalign.evaluate.outcome import (
    about_copies,
    about_encoder,
    held_out_outcome,
    no_outcome,
    outcome_lines,
    unlabeled_outcome,
)

NAMES = ("cat", "dog", "owl")


def logits(answers: np.ndarray, classes: int = 3) -> np.ndarray:
    return np.eye(classes)[np.asarray(answers)]


def measure(labels, answers, zero_shot=None, names=NAMES, **settings):
    labels = np.asarray(labels)
    scored = Scored(tuple(map(str, range(len(labels)))), labels, logits(answers, len(names)))
    zero_shot = None if zero_shot is None else logits(zero_shot, len(names))
    return held_out_outcome(
        scored, zero_shot, **{"class_names": names, "title": "Method", "how": "validation images"} | settings
    )


def noted(outcome, words: str) -> bool:
    return any(words in note for note in outcome["notes"])


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60))
def test_accuracy_and_zero_shot_are_those_of_the_same_images(rows) -> None:
    labels, answers, zero_shot = np.array(rows).T
    found = measure(labels, answers, zero_shot)
    for key, given_answers in (("held_out", answers), ("zero_shot", zero_shot)):
        expected = accuracy(labels, given_answers)
        assert found[key] == {
            "accuracy": expected.top1, "low": expected.low, "high": expected.high, "n": expected.n,
            "how": "validation images",
        }  # fmt: skip
    assert found["chance"] == 1 / 3
    difference = found["held_out"]["accuracy"] - found["zero_shot"]["accuracy"]
    assert found["difference"]["points"] == pytest.approx(difference)
    assert found == json.loads(json.dumps(found))
    assert noted(found, "worse than zero-shot") == (found["difference"]["significant"] and difference < 0)
    assert noted(found, "not significantly better than zero-shot") == (not found["difference"]["significant"])


def test_harm_no_gain_and_gain_are_distinguished() -> None:
    labels = np.arange(90) % 3
    half = np.where(np.arange(90) < 45, labels, (labels + 1) % 3)
    assert noted(measure(labels, half, labels), "is worse than zero-shot on these 90 images (−50.0 points")
    assert noted(measure(labels, labels, labels), "not significantly better than zero-shot")
    assert not measure(labels, labels, half)["notes"]
    assert measure(labels, half, half, learns=False)["difference"] is None
    assert not measure(labels, half, half, learns=False)["notes"]


def test_zero_shot_at_chance_level_is_reported_for_any_class_shares() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    assert noted(measure(labels, labels, rng.permutation(labels)), "does not recognize these classes")
    uneven = np.array([0] * 270 + [1] * 20 + [2] * 10)
    always = np.zeros(300, dtype=int)  # right on 90 %, and knows nothing
    assert noted(measure(uneven, uneven, always), "does not recognize these classes")
    knows = np.where(np.arange(300) % 5 < 4, uneven, (uneven + 1) % 3)  # right on 80 % of every class
    assert not noted(measure(uneven, uneven, knows), "recognize these classes")
    few = measure([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 2, 1])
    assert noted(few, "too few images to decide")


def test_without_text_the_method_itself_is_held_against_chance() -> None:
    labels = np.arange(60) % 3
    assert noted(measure(labels, (labels + np.arange(60) // 20) % 3), "not significantly better than chance")
    found = measure(labels, labels)
    assert found["zero_shot"] is None
    assert not found["notes"]


def test_a_class_of_which_nothing_is_right_is_named() -> None:
    labels = np.array([0] * 9 + [1] * 9 + [2] * 4)
    found = measure(labels, np.zeros(22, dtype=int), labels)
    assert noted(
        found, "no held-out image of a class is classified correctly: 'dog' (9 images)"
    )  # of four owls nothing is said
    assert not noted(found, "owl")


def test_without_labels_agreement_is_reported() -> None:
    answers = np.array([0] * 30 + [1] * 29 + [2])
    scored = Scored(tuple(map(str, range(60))), np.full(60, -1), logits(answers))
    zero_shot = logits(np.where(np.arange(60) < 15, 1, answers))
    found = unlabeled_outcome(scored, zero_shot, class_names=NAMES)
    assert found["agreement"]["accuracy"] == 45 / 60
    same = unlabeled_outcome(scored, zero_shot, class_names=NAMES, answers=zero_shot.argmax(axis=1))
    assert same["agreement"]["accuracy"] == 1
    assert unlabeled_outcome(scored, zero_shot, class_names=NAMES, learns=False)["agreement"] is None


def test_the_embedded_encoder_is_noted_on_anything_but_its_digits() -> None:
    digits = ("zero", "One", "7")
    for name in ("tiny", "tiny-vision", "tiny-vision+tiny", "openai/clip+tiny"):
        assert "made for drawings of digits" in about_encoder(name, NAMES, guesses=False)[0]
        assert about_encoder(name, digits, guesses=True)
        assert not about_encoder(name, digits, guesses=False)
    assert not about_encoder("openai/clip-vit-base-patch32", NAMES, guesses=True)


def test_near_identical_images_are_found_across_labels_and_parts() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 64)).astype(np.float32)
    X[3] = X[1] + 0.002 * rng.normal(size=64)  # another class
    learned = Features(X[:6], tuple("abcdef"), np.array([0, 1, 1, 2, 2, -1]), NAMES)
    held_out = Features(np.stack([X[0] * 2, X[7]]), ("x", "y"), np.array([0, 1]), NAMES)
    notes = about_copies(learned, held_out, NAMES)
    assert notes[0].startswith("near-identical images carry two labels: 'b' (dog) and 'd' (owl);")
    assert notes[1].startswith("1 validation image is near-identical to training images, such as 'x':")
    assert len(notes) == 2
    assert not about_copies(learned.select([0, 1, 2]), None, NAMES)


def test_lines_have_the_numbers() -> None:
    labels = np.arange(30) % 3
    found = measure(labels, labels, np.where(np.arange(30) < 3, (labels + 1) % 3, labels))
    assert outcome_lines(found) == [
        "accuracy 100.0 % (88.6 to 100.0, n = 30) on validation images; zero-shot on the same images 90.0 % "
        "(74.4 to 96.5, n = 30); chance 33.3 %"
    ]
    assert outcome_lines(no_outcome(NAMES)) == ["accuracy is unknown, since no labeled image was held out"]
    both = found | {"held_out": found["held_out"] | {"how": "cross-fitting over 5 folds and validation images"}}
    assert "n = 30) by cross-fitting over 5 folds and on validation images;" in outcome_lines(both)[0]
