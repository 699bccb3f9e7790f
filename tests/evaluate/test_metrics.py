"""Metrics against scikit-learn, scipy and the definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, recall_score

from modalign.core.errors import InputError
from modalign.evaluate import metrics as m
from modalign.linalg.calibration import expected_calibration_error


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_wilson_interval_is_scipys(counts: tuple[int, int]) -> None:
    hits, n = counts
    ours = m.proportion(hits, n)
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose((ours.low, ours.high), (theirs.low, theirs.high), atol=1e-12)
    assert 0 <= ours.low <= ours.top1 <= ours.high <= 1


@pytest.mark.parametrize(("hits", "n"), [(3, 7), (94, 100), (1690, 1797)])
def test_wilson_ends_are_where_the_score_test_stops_rejecting(hits: int, n: int) -> None:
    z = stats.norm.ppf(0.975)
    interval = m.proportion(hits, n)
    for p in (interval.low, interval.high):
        assert abs(p - hits / n) == pytest.approx(z * math.sqrt(p * (1 - p) / n), rel=1e-9)


def test_accuracy_has_counts_and_percents(rng: np.random.Generator) -> None:
    y, predicted = rng.integers(0, 4, (2, 200))
    result = m.accuracy(y, predicted)
    assert result.top1 == pytest.approx(accuracy_score(y, predicted))
    assert str(m.proportion(1690, 1797)) == "94.0 % (92.9 to 95.0, n = 1,797)"


def test_accuracy_takes_names_as_well_as_numbers() -> None:
    assert m.accuracy(["cat", "dog", "cat"], ["cat", "cat", "cat"]).top1 == pytest.approx(2 / 3)


def test_confusion_is_the_count_of_pairs(rng: np.random.Generator) -> None:
    y, predicted = rng.integers(0, 4, (2, 300))
    table = m.confusion(y, predicted, 5)
    for true in range(5):
        for answer in range(5):
            assert table[true, answer] == sum(t == true and a == answer for t, a in zip(y, predicted, strict=True))


def test_per_class_accuracy_is_recall_and_admits_empty_classes(rng: np.random.Generator) -> None:
    y, predicted = rng.integers(0, 4, (2, 300))
    rows = m.per_class_accuracy(y, predicted, ["a", "b", "c", "d", "never seen"])
    assert [r.accuracy for r in rows[:4]] == pytest.approx(recall_score(y, predicted, average=None))
    assert sum(r.n for r in rows) == 300
    assert rows[4] == m.ClassAccuracy("never seen", 0, None, None, None)


@given(st.floats(1e-3, 1), st.floats(1e-3, 1))
def test_harmonic_mean_is_scipys_and_never_above_the_mean(base: float, new: float) -> None:
    hm = m.harmonic_mean(base, new)
    assert hm == pytest.approx(stats.hmean([base, new]))
    assert hm <= (base + new) / 2 + 1e-12


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    assert m.harmonic_mean(0, 0) == 0
    assert m.harmonic_mean(0.9, 0) == 0


def test_interval_over_seeds_is_students(rng: np.random.Generator) -> None:
    for n in (2, 3, 10):
        values = rng.normal(0.8, 0.05, n)
        ours = m.mean_interval(values)
        theirs = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
        np.testing.assert_allclose((ours.low, ours.high), theirs, rtol=1e-10)
        assert ours.half_width == pytest.approx((theirs[1] - theirs[0]) / 2)


def test_interval_follows_scale_and_shift(rng: np.random.Generator) -> None:
    values = rng.normal(size=5)
    plain, moved = m.mean_interval(values), m.mean_interval(3 * values + 2)
    np.testing.assert_allclose((moved.low, moved.high), (3 * plain.low + 2, 3 * plain.high + 2))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_the_interval_of_accuracies_stays_within_0_and_1_and_holds_the_mean(values: list[float]) -> None:
    cut, whole = m.mean_interval(values, bounds=(0, 1)), m.mean_interval(values)
    assert 0 <= cut.low <= cut.mean <= cut.high <= 1
    assert (cut.low, cut.high) == (max(0, whole.low), min(1, whole.high))
    assert cut.mean == whole.mean == pytest.approx(np.mean(values))


def test_one_run_has_no_spread_to_speak_of() -> None:
    interval = m.mean_interval([0.7])
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert str(interval) == "70.0 (one run)"
    assert m.mean_interval([0.7], bounds=(0, 1)) == m.Interval(0.7, 0.0, 1.0, 1)
    assert interval.spread == m.mean_interval([0.7], bounds=(0, 1)).spread == "one run"


def test_plus_minus_stands_only_where_the_interval_is_symmetric() -> None:
    assert str(m.mean_interval([0.7, 0.7, 0.7], bounds=(0, 1))) == "70.0 ± 0.0"
    assert m.mean_interval([0.7, 0.7, 0.7], bounds=(0, 1)).spread == "all runs equal"
    inside, cut = (m.mean_interval(v, bounds=(0, 1)) for v in ([0.70, 0.71, 0.72], [0.90, 0.95, 0.99]))
    assert str(inside) == "71.0 ± 2.5"
    assert str(cut) == f"94.7 ({100 * cut.low:.1f} to 100.0)"
    assert cut.high == 1.0


@given(st.integers(1, 10_000))
def test_chance_level_is_the_expected_accuracy_of_guessing(classes: int) -> None:
    assert m.chance_level(classes) * classes == pytest.approx(1)


def test_reliability_bins_give_the_calibration_error(rng: np.random.Generator) -> None:
    p = torch.as_tensor(rng.normal(size=(500, 5)) * 2).softmax(dim=1)
    y = torch.as_tensor(rng.integers(0, 5, 500))
    bins = m.reliability(p.numpy(), y.numpy(), bins=15)
    error = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert error == pytest.approx(expected_calibration_error(p, y), abs=1e-6)
    assert sum(b.n for b in bins) == 500
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)


def test_full_confidence_falls_into_the_last_bin() -> None:
    bins = m.reliability(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]), bins=2)
    assert [(b.confidence, b.accuracy, b.n) for b in bins] == [(0.5, 0.0, 1), (1.0, 1.0, 1)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.accuracy([0, 1], [0]), "one prediction per label"),
        (lambda: m.accuracy([], []), "at least one"),
        (lambda: m.accuracy(np.array([0, -1]), np.array([0, 0])), "1 unlabeled"),
        (lambda: m.proportion(3, 2), "3 of 2"),
        (lambda: m.confusion([0, 5], [0, 1], 3), "labels in 0…2"),
        (lambda: m.confusion([0, 1], [0, 9], 3), "predictions in 0…2"),
        (lambda: m.mean_interval([]), "at least one finite"),
        (lambda: m.mean_interval([0.5, np.nan]), "at least one finite"),
        (lambda: m.harmonic_mean(-1, 0.5), "at least 0"),
        (lambda: m.mean_interval([0.5, 1.2], bounds=(0, 1)), "values in 0…1"),
        (lambda: m.chance_level(0), "at least one class"),
        (lambda: m.reliability([[0.5, 0.5]], [0, 1]), "n labels"),
    ],
)
def test_mistakes_are_explained(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_the_legend_explains_the_intervals_that_are_printed() -> None:
    even, cut = m.Interval(0.5, 0.4, 0.6, 3), m.Interval(0.9, 0.4, 1.0, 3)
    assert m.interval_legend([even, even]).startswith("± is half the 95 % interval of the mean over 3 seeds")
    assert m.interval_legend([cut]).startswith("(a to b) is the 95 % interval of the mean")
    assert "(a to b) is the 95 % interval where it is cut, of the mean" in m.interval_legend([even, cut])
    assert "Seeds differ in the labeled images" in m.interval_legend([even, cut])
    assert "labeled" not in m.interval_legend([m.Interval(0.5, 0.5, 0.5, 3)]), "as of zero-shot alone"
