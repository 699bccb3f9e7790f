"""Metrics of predictions with confidence intervals.

Shares are fractions in 0…1; only text shown to people is in percent. Calibration error and likelihood are in
:mod:`modalign.linalg.calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.linalg.student import student_quantile

CONFIDENCE = 0.95  # coverage of every interval
_EQUAL = 1e-9  # half width of an interval of equal repetitions


@dataclass(frozen=True)
class Accuracy:
    """Accuracy with its Wilson interval; ``str()`` formats it in percent."""

    top1: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{percent(self.top1)} % ({percent(self.low)} to {percent(self.high)}, n = {self.n:,})"


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy among the images of one class; None, not a number, where the class has no image."""

    name: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


class MeasuredClass(ClassAccuracy):
    """Accuracy of a class that has images; see :func:`has_images`."""

    accuracy: float
    low: float
    high: float


def has_images(row: ClassAccuracy) -> TypeGuard[MeasuredClass]:
    """Whether the class has an image, so that its accuracy is a number."""
    return row.n > 0


@dataclass(frozen=True)
class Interval:
    """Mean over repetitions with its Student interval, which is unbounded for a single repetition."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Distance from the mean to the farther end."""
        return max(self.high - self.mean, self.mean - self.low)

    @property
    def is_symmetric(self) -> bool:
        """Whether ± and the half width describe the interval, which is not cut."""
        return math.isclose(self.high - self.mean, self.mean - self.low, abs_tol=5e-4)

    @property
    def spread(self) -> str:
        """Interval in percent, such as ``86.6 to 100.0``; a phrase if the repetitions give no interval."""
        if self.n == 1:
            return "one run"
        if self.half_width <= _EQUAL:
            return "all runs equal"
        return f"{percent(self.low)} to {percent(self.high)}"

    def __str__(self) -> str:
        """The mean with ± where the interval is symmetric, and with its ends where it was cut."""
        if self.n == 1:
            return f"{percent(self.mean)} (one run)"
        if self.is_symmetric:
            return f"{percent(self.mean)} ± {percent(self.half_width)}"
        return f"{percent(self.mean)} ({self.spread})"


def interval_legend(intervals: Iterable[Interval], shown: str = "") -> str:
    """Return what the printed intervals of means over seeds are intervals of; ``shown`` is another way than ``str``."""
    repeated = [interval for interval in intervals if interval.n > 1]
    if not repeated:
        return "Each number is from one run, so there is no interval."
    seeds, symmetric = max(interval.n for interval in repeated), {interval.is_symmetric for interval in repeated}
    ends = "(a to b) is the 95 % interval"
    even = "± is half the 95 % interval" + (f", and {ends} where it is cut," if False in symmetric else "")
    shown = shown or (even if True in symmetric else ends)
    varied = any(interval.half_width > _EQUAL for interval in repeated)
    drawn = "Seeds differ in the labeled images that are drawn and in the training. " if varied else ""
    return (
        f"{shown} of the mean over {seeds} seeds (Student's t, cut at 0 and 100 %). {drawn}The interval does not cover "
        "the choice of the test images."
    )


@dataclass(frozen=True)
class ReliabilityBin:
    """Bin of a reliability diagram: mean confidence, accuracy and number of predictions."""

    confidence: float
    accuracy: float
    n: int


def accuracy(y: ArrayLike, predicted: ArrayLike) -> Accuracy:
    """Top-1 accuracy with the Wilson score interval.

    With p = k/n and z the normal quantile the interval is
    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n); unlike p ± z·σ it stays inside 0…1 and keeps its coverage
    near both ends (Wilson 1927; Brown, Cai and DasGupta 2001).

    Parameters
    ----------
    y : array-like of shape (n,)
        True labels.
    predicted : array-like of shape (n,)
        Answers in the same labels.
    """
    true, answer = _pair(y, predicted)
    return proportion(int((true == answer).sum()), len(true))


def proportion(hits: int, n: int) -> Accuracy:
    """:class:`Accuracy` from counts: ``hits`` of ``n``; the formula is in :func:`accuracy`."""
    if not 0 <= hits <= n or n < 1:
        raise InputError(f"Expected 0 ≤ hits ≤ n and at least one image, got {hits} of {n}.")
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    p, shrink = hits / n, 1 + z * z / n
    center = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else center - half  # both ends are exact there; rounding would miss them by 1e-17
    high = 1.0 if hits == n else center + half
    return Accuracy(p, low, high, n)


def confusion(y: ArrayLike, predicted: ArrayLike, n_classes: int) -> np.ndarray:
    """(C, C) counts, int64: row = true class, column = answer. Labels are indices 0…C−1."""
    true, answer = _pair(y, predicted)
    for what, values in (("labels", true), ("predictions", answer)):
        if values.min() < 0 or values.max() >= n_classes:
            raise InputError(f"Expected {what} in 0…{n_classes - 1}, got {values.min()}…{values.max()}.")
    cells = n_classes * true.astype(np.int64) + answer
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class_accuracy(y: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> tuple[ClassAccuracy, ...]:
    """Accuracy within each class (its recall) with the Wilson interval, in the order of ``class_names``."""
    counts = confusion(y, predicted, len(class_names))
    rows = []
    for name, hits, n in zip(class_names, counts.diagonal().tolist(), counts.sum(axis=1).tolist(), strict=True):
        share = proportion(hits, n) if n else None
        ends = (share.top1, share.low, share.high) if share else (None, None, None)
        rows.append(ClassAccuracy(name, n, *ends))
    return tuple(rows)


def harmonic_mean(base: float, new: float) -> float:
    """2·base·new / (base + new), the one number of base-to-new tables; 0 where both are.

    The papers compute it from accuracies averaged over data sets, which differs from the average of the harmonic means;
    a report should print both.
    """
    if base < 0 or new < 0:
        raise InputError(f"Expected two accuracies of at least 0, got {base} and {new}.")
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


def mean_interval(values: ArrayLike, *, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Mean over repetitions (seeds) and its Student interval: mean ± t(n−1) · s/√n, s with n − 1, cut at ``bounds``.

    The interval of a single value is all of ``bounds``.

    Parameters
    ----------
    values : array-like of shape (n,)
        One value per repetition.
    bounds : tuple of (float, float)
        Smallest and largest possible value, such as 0 and 1 for an accuracy. Cutting loses no coverage.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    n = len(sample)
    if n == 0 or not np.isfinite(sample).all():
        raise InputError(f"Expected at least one finite value to average, got {sample.tolist()[:5]}.")
    lowest, highest = bounds
    if sample.min() < lowest or sample.max() > highest:
        raise InputError(f"Expected values in {lowest}…{highest}, got {sample.min()}…{sample.max()}.")
    mean = min(max(float(sample.mean()), float(sample.min())), float(sample.max()))  # rounding can leave the range
    if n == 1:
        return Interval(mean, lowest, highest, 1)
    half = student_quantile(0.5 + CONFIDENCE / 2, n - 1) * float(sample.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, max(lowest, mean - half), min(highest, mean + half), n)


def chance_level(n_classes: int) -> float:
    """Accuracy of guessing: one class of ``n_classes`` at random, each with the same probability."""
    if n_classes < 1:
        raise InputError(f"Expected at least one class, got {n_classes}.")
    return 1 / n_classes


def reliability(probabilities: ArrayLike, y: ArrayLike, *, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Answers grouped by confidence in ``bins`` equal steps of 0…1; empty groups are left out.

    The expected calibration error is Σ n/N · |accuracy − confidence| over these groups.

    Parameters
    ----------
    probabilities : array-like of shape (n, C)
        Rows sum to 1.
    y : array-like of shape (n,)
        Class indices 0…C−1.
    bins : int, default=15
        How many groups.
    """
    table, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    if table.ndim != 2 or labels.shape != table.shape[:1]:
        raise InputError(f"Expected probabilities (n, C) and n labels, got {table.shape} and {labels.shape}.")
    _require_labels(labels)
    sure, right = table.max(axis=1), table.argmax(axis=1) == labels
    group = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)  # (0, 1/bins], (1/bins, 2/bins], …
    return tuple(
        ReliabilityBin(float(sure[rows].mean()), float(right[rows].mean()), int(rows.sum()))
        for rows in (group == g for g in np.unique(group))
    )


def percent(share: float) -> str:
    """Format a share as a percentage with one decimal: 0.9412 → ``94.1``."""
    return f"{100 * share:.1f}"


def _pair(y: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, answer = np.asarray(y), np.asarray(predicted)
    if true.ndim != 1 or true.shape != answer.shape or not len(true):
        raise InputError(
            f"Expected one prediction per label, at least one, got shapes {answer.shape} and {true.shape}."
        )
    _require_labels(true)
    return true, answer


def _require_labels(labels: np.ndarray) -> None:
    if not len(labels):
        raise InputError("Expected at least one labeled image, got none.")
    if np.issubdtype(labels.dtype, np.integer) and (labels == UNLABELED).any():
        raise InputError(
            f"Expected a label for every image, got {int((labels == UNLABELED).sum())} unlabeled (−1); "
            "select the labeled rows first."
        )
