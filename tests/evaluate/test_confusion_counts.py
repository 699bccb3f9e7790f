"""Pixel counts and IoU against scikit-learn, mmsegmentation's rules, and made-up maps."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score

from modalign import segmentation_scores
from modalign.core.errors import InputError
from modalign.evaluate.masks import confusion_counts
from modalign.evaluate.masks.confusion_counts import ConfusionCounter


def maps(seed: int, n_classes: int, n: int = 3, none: int = 255) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predictions with a few pixels without a class, and truths with a few ignored ones, of several sizes."""
    rng = np.random.default_rng(seed)
    labels, truths = [], []
    dtype = np.uint8 if none == 255 else np.uint16
    for _ in range(n):
        size = rng.integers(1, 24, 2)
        drawn = rng.integers(0, n_classes, (2, *size)).astype(dtype)
        drawn[rng.random(drawn.shape) < 0.1] = none
        labels.append(drawn[0])
        truths.append(drawn[1])
    return labels, truths


def flat(labels: list[np.ndarray], truths: list[np.ndarray], ignore: int = 255) -> tuple[np.ndarray, np.ndarray]:
    answer, true = (np.concatenate([m.ravel() for m in group]).astype(int) for group in (labels, truths))
    return answer[true != ignore], true[true != ignore]


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 12))
def test_iou_precision_and_recall_are_those_of_scikit_learn(seed: int, n_classes: int) -> None:
    labels, truths = maps(seed, n_classes)
    answer, true = flat(labels, truths)
    if not true.size:
        return
    scores = segmentation_scores(labels, truths, n_classes=n_classes)
    occurring = [k for k in range(n_classes) if (true == k).any() or (answer == k).any()]
    if occurring:
        expected = jaccard_score(true, answer, labels=occurring, average="macro", zero_division=0)
        assert scores.miou == pytest.approx(expected, abs=1e-12)
    assert scores.n_occurring == len(occurring)
    assert scores.accuracy == pytest.approx((true == answer).mean())
    both = confusion_matrix(true, answer, labels=[*range(n_classes), 255])
    np.testing.assert_array_equal(scores.confusion, both[:n_classes, :n_classes])
    np.testing.assert_array_equal(scores.missed, both[:n_classes, -1])
    for k, row in enumerate(scores.per_class):
        own = {"labels": [k], "average": "macro"}
        assert row.recall == (pytest.approx(recall_score(true, answer, **own)) if (true == k).any() else None)
        assert row.precision == (pytest.approx(precision_score(true, answer, **own)) if (answer == k).any() else None)
    assert sum(row.share_true for row in scores.per_class) == pytest.approx(1)


def test_more_than_255_classes_have_65535_for_none_and_ignored() -> None:
    labels, truths = maps(0, 300, none=65535)
    scores = segmentation_scores(labels, truths, n_classes=300)
    answer, true = flat(labels, truths, 65535)
    occurring = np.union1d(true, answer[answer != 65535])
    expected = jaccard_score(true, answer, labels=occurring, average="macro", zero_division=0)
    assert scores.miou == pytest.approx(expected, abs=1e-12)


def test_zero_is_ignored_and_others_count_from_one_as_in_mmsegmentation() -> None:
    labels, raw = maps(1, 6)
    literal = []
    for truth in raw:  # mmseg.datasets.transforms.LoadAnnotations
        truth = truth.astype(int)
        truth[truth == 0] = 255
        truth = truth - 1
        truth[truth == 254] = 255
        literal.append(truth)
    fewer = [np.where(m == 5, 255, m) for m in labels]
    reduced = segmentation_scores(fewer, raw, n_classes=5, reduce_zero=True)
    np.testing.assert_array_equal(reduced.confusion, segmentation_scores(fewer, literal, n_classes=5).confusion)


def test_pixels_without_a_class_are_wrong_for_the_truth_and_for_no_other_class() -> None:
    scores = segmentation_scores(np.array([[0, 255, 1]]), np.array([[0, 0, 1]]), n_classes=2)
    assert scores.iou.tolist() == [0.5, 1.0]
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.per_class[1].share_predicted == pytest.approx(1 / 3)


def test_pixels_are_summed_over_images_and_not_averaged_per_image() -> None:
    small, large = np.zeros((1, 1), int), np.zeros((10, 10), int)
    truth = large.copy()
    truth[:, :5] = 1
    scores = segmentation_scores([small, large], [small, truth], n_classes=2)
    assert scores.iou.tolist() == [51 / 101, 0.0]
    assert scores.miou != pytest.approx(scores.image_miou.mean())
    assert scores.image_miou.tolist() == [1.0, 0.25]


def test_strips_and_images_only_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, truths = maps(2, 7)
    whole = segmentation_scores(labels, truths, n_classes=7)
    monkeypatch.setattr(confusion_counts, "_STRIP", 5)
    counter = ConfusionCounter([str(k) for k in range(7)])
    for pair in zip(labels[::-1], truths[::-1], strict=True):
        counter.add(*pair)
    np.testing.assert_array_equal(counter.scores().confusion, whole.confusion)
    np.testing.assert_array_equal(counter.scores().images[::-1], whole.images)


def test_scores_print_as_one_line() -> None:
    scores = segmentation_scores([[0, 0], [1, 1]], [[0, 0], [1, 0]], n_classes=3)
    assert repr(scores) == "SegmentationScores(mIoU 58.3 %, pixel accuracy 75.0 %, n_images=1, 2 of 3 classes)"


def test_the_interval_holds_the_number_and_shrinks_with_images() -> None:
    labels, truths = maps(3, 4, n=40)
    right = [np.where(np.random.default_rng(i).random(t.shape) < i / 40, t, m) for i, (m, t) in
             enumerate(zip(labels, truths, strict=True))]  # fmt: skip
    few, many = (segmentation_scores(right[::s], truths[::s], n_classes=4) for s in (5, 1))
    low, high = many.interval()
    assert low < many.miou < high
    assert many.interval() == (low, high)
    assert high - low < np.subtract(*few.interval()[::-1])
    one = segmentation_scores(labels[0], truths[0], n_classes=4)
    assert one.interval() == pytest.approx((one.miou, one.miou))


@pytest.mark.parametrize(
    ("labels", "truth", "message"),
    [
        ([[0, 1]], [[0], [1]], "of the size of its prediction, 2 × 1 pixels, got 1 × 2 pixels"),
        ([[0, 1]], [[0, 2]], r"values 0…1 in the truth of '0', or 255 to be ignored \(ignore=…\), got 2"),
        ([[0, 7]], [[0, 1]], "values 0…1 in the prediction of '0', got 7"),
        ([[-1, 1]], [[0, 1]], "in the prediction of '0', got -1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_value(labels: list, truth: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        segmentation_scores(labels, truth, n_classes=2)


def test_numbers_of_maps_and_names_must_agree() -> None:
    with pytest.raises(InputError, match="got 1 and 2"):
        segmentation_scores(np.zeros((2, 3, 3), int), np.zeros((3, 3), int), n_classes=2)
    with pytest.raises(InputError, match="Expected 2 names, got 1"):
        segmentation_scores([[0]], [[0]], n_classes=2, names=["a"])
    with pytest.raises(InputError, match="at least one image"):
        ConfusionCounter(["a"]).scores()


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(confusion_counts).failed == 0
