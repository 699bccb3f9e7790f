"""Paired comparisons: against McNemar, scipy and Holm's definition, and that interval and verdict never disagree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from modalign.core.errors import InputError
from modalign.evaluate.paired import Comparison, compare_pair, compare_pairs, signed


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def answers(only_a: int, only_b: int, both: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two classifiers that differ on so many images."""
    a = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(both)]
    return a, np.r_[np.zeros(only_a), np.ones(only_b), np.ones(both)]


def excludes_zero(found: Comparison) -> bool:
    return found.low > 0 or found.high < 0


shares = st.integers(1, 3).flatmap(
    lambda seeds: st.lists(
        st.tuples(st.integers(0, seeds), st.integers(0, seeds)).map(lambda p: (p[0] / seeds, p[1] / seeds)),
        min_size=1,
        max_size=60,
    )
)


# -- one rule ---------------------------------------------------------------------------------------------------------


@given(st.lists(shares, min_size=1, max_size=6), st.sampled_from([0.05, 0.2]))
@settings(max_examples=150, deadline=None)
def test_an_interval_excludes_zero_exactly_where_the_difference_is_significant(
    tables: list[list[tuple[float, float]]], level: float
) -> None:
    pairs = [tuple(np.array(table).T) for table in tables]
    for (a, b), found in zip(pairs, compare_pairs(pairs, draws=500, level=level), strict=True):
        assert excludes_zero(found) == found.significant == (found.verdict != "no significant difference")
        assert found.significant == (found.p_value < found.level)
        assert -1 <= found.low <= found.difference + 1e-12
        assert found.difference - 1e-12 <= found.high <= 1
        assert found.difference == pytest.approx(np.mean(a - b))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_both_ends_of_an_interval_are_equally_far_from_the_data(only_a: int, only_b: int, both: int) -> None:
    a, b = answers(only_a, only_b, both)
    found, d = compare_pair(a, b, draws=1000), a - b
    assume(not {found.low, found.high} & {-1.0, 0.0, 1.0})

    def distance(difference: float) -> float:
        return abs(np.sum(d - difference)) / math.sqrt(np.sum((d - difference) ** 2))

    assert distance(found.low) == pytest.approx(distance(found.high))
    # an end that equals 0 belongs to the interval, whatever rounding makes of it
    assert found.significant == (distance(0) > distance(found.low) + 1e-9)


def test_many_images_give_the_score_interval_of_paired_proportions(rng: np.random.Generator) -> None:
    a, b = rng.random(4000) < 0.8, rng.random(4000) < 0.7
    found, d = compare_pair(a, b), a.astype(float) - b
    half = stats.norm.ppf(0.975) * d.std() / math.sqrt(4000 - stats.norm.ppf(0.975) ** 2)
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.0006)


def test_the_interval_is_that_of_resampled_images(rng: np.random.Generator) -> None:
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.7
    found = compare_pair(a, b, seed=1)
    drawn = np.random.default_rng(2).integers(0, 400, (10_000, 400))
    low, high = np.quantile((a.astype(float) - b)[drawn].mean(axis=1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize(("p", "q"), [(0.8, 0.8), (0.9, 0.8), (0.95, 0.93)])
def test_intervals_cover_the_true_difference_about_as_often_as_promised(p: float, q: float) -> None:
    rng = np.random.default_rng(0)
    found = [compare_pair(rng.random(150) < p, rng.random(150) < q, seed=i, draws=400) for i in range(300)]
    covered = sum(c.low <= p - q <= c.high for c in found)
    assert covered >= 300 * 0.95 - 3 * math.sqrt(300 * 0.05 * 0.95)


# -- the test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 1), (20, 8), (40, 38)])
def test_p_value_is_mcnemars(only_a: int, only_b: int) -> None:
    exact = stats.binomtest(only_a, only_a + only_b).pvalue
    assert compare_pair(*answers(only_a, only_b)).p_value == pytest.approx(exact, abs=0.02)


def test_a_handful_of_disagreements_proves_nothing() -> None:
    found = compare_pair(*answers(4, 0, 996))  # exact McNemar: p = 0.125, where a bootstrap interval excludes 0
    assert found.verdict == "no significant difference"
    assert found.low <= 0
    assert found.sentence("CMM", "zero-shot").startswith("No significant difference between CMM and zero-shot (+0.4")


def test_equal_classifiers_and_different_ones() -> None:
    right = np.arange(500) % 3 > 0
    same = compare_pair(right, right)
    assert (same.difference, same.low, same.high, same.significant) == (0, 0, 0, False)
    better, worse = compare_pair(np.ones(500), right), compare_pair(right, np.ones(500))
    assert (better.verdict, worse.verdict) == ("the first is better", "the second is better")
    assert worse.reversed() == better
    assert worse.sentence("A", "B") == better.sentence("B", "A")
    assert better.sentence("B", "A").startswith("B is significantly better than A (+33.4 points, 95 % interval +")


def test_few_images_leave_every_difference_open() -> None:
    assert compare_pair([1, 1, 1], [0, 0, 0]) == Comparison(1.0, -1.0, 1.0, pytest.approx(0.25, abs=0.02), 3, False)


def test_comparison_depends_on_pairs_only_and_on_the_seed(rng: np.random.Generator) -> None:
    a, b = rng.random((2, 300)).round(1)
    order = rng.permutation(300)
    assert compare_pair(a, b, seed=3) == compare_pair(a[order], b[order], seed=3)
    assert compare_pair(a, b, seed=3) != compare_pair(a, b, seed=4)


def test_shares_over_seeds_are_compared_like_single_answers(rng: np.random.Generator) -> None:
    a, b = (rng.random((2, 3, 600)) < np.array([0.9, 0.7])[:, None, None]).mean(axis=1)
    assert compare_pair(a, b).significant


# -- several at once --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=7))
@settings(max_examples=100, deadline=None)
def test_several_are_corrected_by_holms_step_down_rule(counts: list[tuple[int, int]]) -> None:
    found = compare_pairs([answers(*pair) for pair in counts], draws=2000)
    ordered = sorted(c.p_value for c in found)
    passed = [p < 0.05 / (len(found) - k) for k, p in enumerate(ordered)]
    rejected = passed.index(False) if False in passed else len(passed)
    assert sum(c.significant for c in found) == rejected
    assert all(c.significant for c in found if c.p_value < (ordered[rejected] if rejected < len(found) else 2))


def test_a_comparison_among_others_is_held_to_a_stricter_level() -> None:
    alone, equal = compare_pair(*answers(14, 4)), answers(3, 3)
    among = compare_pairs([answers(14, 4), equal, equal, equal])[0]
    assert alone.significant
    assert not among.significant
    assert among.low < alone.low
    assert among.level == pytest.approx(0.05 / 4)
    assert "98.75 % interval" in among.sentence("A", "B")
    assert compare_pairs([]) == []


def test_no_family_of_null_comparisons_is_called_significant_more_often_than_promised() -> None:
    rng = np.random.default_rng(0)
    families = [[(rng.random((2, 150)) < 0.8) for _ in range(4)] for _ in range(150)]
    called = sum(any(c.significant for c in compare_pairs(f, seed=i, draws=800)) for i, f in enumerate(families))
    assert called <= 150 * 0.05 + 3 * math.sqrt(150 * 0.05 * 0.95)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compare_pair([True], [True, False]), "equally long"),
        (lambda: compare_pair([], []), "equally long"),
        (lambda: compare_pair([2.0], [0.0]), "0…1"),
    ],
)
def test_mistakes_are_explained(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(("share", "text"), [(0.013, "+1.3"), (-0.013, "−1.3"), (0.0, "0.0"), (-0.0004, "0.0")])
def test_differences_are_written_with_their_sign(share: float, text: str) -> None:
    assert signed(share) == text
