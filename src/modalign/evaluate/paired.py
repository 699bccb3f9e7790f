"""Paired comparison of two classifiers: difference in accuracy, confidence interval, and significance.

The test is a sign-flip permutation test of the per-image differences; for correct/incorrect predictions it is McNemar's
test. The interval inverts the test and excludes 0 exactly if the difference is significant. Several comparisons are
corrected together (:func:`compare_pairs`), including their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.core.randomness import require_seed

LEVEL = 0.05
DRAWS = 10_000
_EQUAL = 1e-9  # tolerance for sums that differ by rounding only


@dataclass(frozen=True)
class Comparison:
    """Difference in accuracy of two classifiers on the same images, first minus second.

    Attributes
    ----------
    difference : float
        Mean over images.
    low, high : float
        Interval of confidence ``1 - level``; contains 0 exactly where the difference is not significant.
    p_value : float
        Of the two-sided sign-flip test of "no difference", before any correction.
    n : int
        Images.
    significant : bool
        Whether ``p_value < level``.
    level : float
        Level of this comparison: 0.05, or less where it is one of several (:func:`compare_pairs`).
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    significant: bool
    level: float = LEVEL

    @property
    def verdict(self) -> str:
        """``no significant difference``, ``the first is better`` or ``the second is better``."""
        if not self.significant:
            return "no significant difference"
        return "the first is better" if self.difference > 0 else "the second is better"

    def reversed(self) -> Comparison:
        """The same comparison, second minus first."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low)

    def sentence(self, first: str, second: str) -> str:
        """Return the result as a sentence, the better classifier first, in points of accuracy."""
        if self.significant and self.difference < 0:
            return self.reversed().sentence(second, first)
        points = f"{signed(self.difference)} points, {100 * (1 - self.level):.4g} % interval {self.interval}"
        if self.significant:
            return f"{first} is significantly better than {second} ({points})."
        return f"No significant difference between {first} and {second} ({points})."

    @property
    def interval(self) -> str:
        """The interval in points, such as ``+0.4 to +2.2``."""
        return f"{signed(self.low)} to {signed(self.high)}"


def compare_pair(
    correct_a: ArrayLike, correct_b: ArrayLike, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Comparison:
    """Compare two classifiers on the same images; see :func:`compare_pairs`."""
    return compare_pairs([(correct_a, correct_b)], seed=seed, draws=draws, level=level)[0]


def compare_pairs(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> list[Comparison]:
    r"""Compare several pairs of classifiers, corrected for their number (Holm 1979).

    With per-image differences :math:`d_i` the test compares :math:`|\sum_i d_i|` with
    :math:`|\sum_i \varepsilon_i d_i|` for random signs. Let :math:`k` be the critical value at level :math:`\alpha`
    and :math:`\kappa = k / \sqrt{\sum_i d_i^2}`. The interval holds every :math:`\delta` with
    :math:`|\sum_i (d_i - \delta)| \le \kappa \sqrt{\sum_i (d_i - \delta)^2}`, which is

    .. math:: \bar d \pm \kappa \sqrt{(\overline{d^2} - \bar d^2) / (n - \kappa^2)},

    cut at ±1. It contains 0 exactly where the test does not reject; for right/wrong answers and many images it is
    the score interval of a difference of paired proportions. Where all differences are equal it is a point.

    The k-th smallest of m p-values is compared with level / (m - k + 1), and the first that is not below ends the
    rejections. Each interval has the level of its test, so that test and interval agree for every pair.

    Parameters
    ----------
    pairs : sequence of (array of shape (n,), array of shape (n,))
        Whether the first and the second classifier were right on each image, or the share of right answers over
        seeds.
    seed : int, default=0
        Of the random signs.
    draws : int, default=10000
        Random sign vectors. Only counts of equal differences are drawn, so the cost does not depend on n.
    level : float, default=0.05
        Probability that any difference is called significant where none exists.

    Returns
    -------
    list of Comparison
        In the order of ``pairs``.

    Raises
    ------
    InputError
        If the arrays of a pair differ in length, are empty, or hold values outside 0…1.
    """
    require_seed(seed, "seed")
    samples = [_Sample(*pair, seed=seed, draws=draws) for pair in pairs]
    found: dict[int, Comparison] = {}
    stopped: float | None = None
    for rank, i in enumerate(sorted(range(len(samples)), key=lambda i: samples[i].p_value)):
        own = level / (len(samples) - rank)
        if stopped is None and samples[i].p_value >= own:
            stopped = own
        found[i] = samples[i].at(own if stopped is None else stopped)
    return [found[i] for i in range(len(samples))]


class _Sample:
    """The differences of one pair and their sums under random signs."""

    def __init__(self, correct_a: ArrayLike, correct_b: ArrayLike, *, seed: int, draws: int) -> None:
        a, b = (np.asarray(c, dtype=np.float64) for c in (correct_a, correct_b))
        if a.ndim != 1 or a.shape != b.shape or not len(a):
            raise InputError(f"Expected two equally long rows of right/wrong, got shapes {a.shape} and {b.shape}.")
        if not (((a >= 0) & (a <= 1)).all() and ((b >= 0) & (b <= 1)).all()):
            raise InputError("Expected right/wrong as booleans or shares in 0…1, got values outside.")
        steps, counts = np.unique(np.round(a - b, 12), return_counts=True)
        self.n, self.draws = len(a), draws
        self.total, self.squares = float(steps @ counts), float(steps**2 @ counts)
        sizes, where = np.unique(np.abs(steps), return_inverse=True)
        occurrences = np.bincount(where, weights=counts).astype(np.int64)
        flips = 2 * np.random.default_rng(seed).binomial(occurrences, 0.5, size=(draws, len(sizes))) - occurrences
        self.sums = np.sort(np.abs(flips @ sizes))[::-1]

    @property
    def p_value(self) -> float:
        as_large = np.searchsorted(-self.sums, _EQUAL - abs(self.total), side="right")
        return (1 + int(as_large)) / (self.draws + 1)

    def at(self, level: float) -> Comparison:
        significant = self.p_value < level
        mean = self.total / self.n
        half = self._half_width(level)
        low, high = max(-1.0, mean - half), min(1.0, mean + half)
        if not significant:  # rounding may push an end past the 0 that it equals
            low, high = min(low, 0.0), max(high, 0.0)
        return Comparison(mean, low, high, self.p_value, self.n, significant, level)

    def _half_width(self, level: float) -> float:
        if self.squares == 0:
            return 0.0
        rank = math.ceil(level * (self.draws + 1) - 1 - _EQUAL)  # sums of this rank or above have p >= level
        squared = self.sums[rank - 1] ** 2 / self.squares if rank > 0 else math.inf
        if squared >= self.n - _EQUAL:  # so few images differ that every difference is possible
            return math.inf
        spread = max(0.0, self.squares / self.n - (self.total / self.n) ** 2)
        return math.sqrt(squared * spread / (self.n - squared))


def signed(difference: float) -> str:
    """A difference of shares in points, with its sign: 0.013 → ``+1.3``; what rounds to 0 is ``0.0``."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
