"""Metrics of multi-label predictions: average precision and F1, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.display import text_table
from modalign.core.errors import InputError
from modalign.core.label_matrix import PRESENT, UNKNOWN, label_matrix
from modalign.core.randomness import require_seed
from modalign.evaluate.metrics import percent

DRAWS, LEVEL = 1000, 0.05


@dataclass(frozen=True)
class Share:
    """Metric in 0…1 with its percentile interval over bootstrap draws of the images."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} % ({percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True)
class LabelScores:
    """Metrics of one class; None if no image shows it.

    Attributes
    ----------
    name : str
        The class.
    n, positives : int
        Images whose label is known, and those that show the class.
    average_precision, f1 : Share or None
        Measures.
    """

    name: str
    n: int
    positives: int
    average_precision: Share | None
    f1: Share | None


@dataclass(frozen=True, eq=False)
class MultiLabelScores:
    """Measures over all classes.

    Attributes
    ----------
    mean_average_precision : Share
        Mean over the classes that some image shows.
    micro_f1 : Share
        F1 of all pairs of image and class together.
    macro_f1 : Share
        Mean F1 over the classes that some image shows.
    exact : Share or None
        Share of images with a known label for every class whose set of classes is exactly right; None without any.
    per_class : tuple of LabelScores
        The measures of each class.
    n : int
        Images.
    """

    mean_average_precision: Share
    micro_f1: Share
    macro_f1: Share
    exact: Share | None
    per_class: tuple[LabelScores, ...]
    n: int

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and a row per class, in words."""
        rows = [
            [
                row.name,
                str(row.positives),
                share_in_words(row.average_precision),
                share_in_words(row.f1),
            ]
            for row in self.per_class
        ]
        return ["class", "images", "average precision", "F1"], rows

    @property
    def totals(self) -> dict[str, Share | None]:
        """Name of a metric → value; None where no image has what it needs."""
        return {
            "mean average precision": self.mean_average_precision,
            "micro F1": self.micro_f1,
            "macro F1": self.macro_f1,
            "exactly right sets": self.exact,
        }

    def __str__(self) -> str:
        lines = [f"{name}: {share_in_words(share)}" for name, share in self.totals.items()]
        return "\n".join([text_table(*self.table), "", *lines])


def share_in_words(share: Share | None) -> str:
    """A metric with its interval; a dash for None."""
    return "–" if share is None else str(share)


def multi_label_scores(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike = 0.5,
    *,
    answers: ArrayLike | None = None,
    class_names: Sequence[str] = (),
    draws: int = DRAWS,
    random_state: int | None = 0,
) -> MultiLabelScores:
    r"""Average precision, F1 and exact matches, with percentile bootstrap intervals over the images.

    .. math:: \mathrm{AP} = \sum_i (R_i - R_{i-1}) P_i, \qquad F_1 = \frac{2\,TP}{2\,TP + FP + FN}

    Parameters
    ----------
    labels : array-like of shape (n, C)
        1, 0, and −1 for unknown, which counts in no measure.
    probabilities : array-like of shape (n, C)
        Or scores of any scale.
    thresholds : array-like of shape (C,), default=0.5
        From which an image counts as showing the class.
    answers : array-like of shape (n, C) or None, default=None
        1 where an image counts as showing the class, in place of ``thresholds``.
    class_names : sequence of str, default=()
        C names.
    draws : int, default=DRAWS
        Bootstrap draws; one draw of images serves all classes.
    random_state : int or None, default=0
        Seed of the draws.

    Returns
    -------
    MultiLabelScores
        Cost O(draws · n · C).

    Raises
    ------
    InputError
        Shapes that do not fit, or no image that shows a class.
    """
    y, names = label_matrix(np.asarray(labels), class_names)
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != y.shape or np.isnan(p).any():
        raise InputError(f"Expected a probability for each of {y.shape} labels, got {p.shape}, or NaN among them.")
    if not (y == PRESENT).any():
        raise InputError("Expected an image that shows one of the classes, got none.")
    weights = _weights(len(y), draws, random_state)
    shown = p >= np.broadcast_to(np.asarray(thresholds), p.shape[1:]) if answers is None else np.asarray(answers) == 1
    known, true = y != UNKNOWN, y == PRESENT
    right, wrong, missed = known & true & shown, known & ~true & shown, known & true & ~shown
    tp, fp, fn = (weights @ counts for counts in (right, wrong, missed))
    f1 = _f1(tp, fp, fn)
    precision = np.stack([_average_precision(true[:, k], p[:, k], weights * known[:, k]) for k in range(len(names))], 1)
    has_images = true.any(axis=0)
    whole = known.all(axis=1)
    with np.errstate(invalid="ignore"):  # NaN in a draw without such an image
        exact = (weights[:, whole] @ (shown == true)[whole].all(axis=1)) / weights[:, whole].sum(axis=1)
    rows = [
        LabelScores(
            name,
            int(known[:, k].sum()),
            int(true[:, k].sum()),
            _share(precision[:, k]) if has_images[k] else None,
            _share(f1[:, k]) if has_images[k] else None,
        )
        for k, name in enumerate(names)
    ]
    return MultiLabelScores(
        _share(_mean_of_known(precision[:, has_images])),
        _share(_f1(tp.sum(axis=1), fp.sum(axis=1), fn.sum(axis=1))),
        _share(f1[:, has_images].mean(axis=1)),
        _share(exact) if whole.any() else None,
        tuple(rows),
        len(y),
    )


def micro_f1(labels: np.ndarray, answers: np.ndarray, *, draws: int = DRAWS, random_state: int | None = 0) -> Share:
    """F1 of all pairs of image and class together, with its percentile bootstrap interval over the images.

    Parameters
    ----------
    labels, answers : ndarray of shape (n, C)
        1 where an image shows a class, and where that is answered.
    draws, random_state : int
        As for :func:`multi_label_scores`.
    """
    true, shown = labels == PRESENT, answers == PRESENT
    counts = [(true & shown).sum(axis=1), (~true & shown).sum(axis=1), (true & ~shown).sum(axis=1)]
    return _share(_f1(*(_weights(len(labels), draws, random_state) @ count for count in counts)))


def _weights(n: int, draws: int, random_state: int | None) -> np.ndarray:
    """How often each of n images counts: once in the first row, and in bootstrap draws."""
    require_seed(random_state)
    drawn = np.random.default_rng(random_state).multinomial(n, np.full(n, 1 / n), draws)
    return np.concatenate([np.ones((1, n)), drawn])


def _f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def _average_precision(true: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) average precision for each row of (B, n) weights; NaN where no image that counts shows the class.

    Images of one score enter together, so that their order makes no difference.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(weights[:, order] * true[order], axis=1)[:, ends]
    total = np.cumsum(weights[:, order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (gained * hits / np.maximum(total, 1)).sum(axis=1) / hits[:, -1]
    return np.where(hits[:, -1] > 0, found, np.nan)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean of each row without its NaN; NaN for a draw without an image that shows a class."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def _share(values: np.ndarray) -> Share:
    """The first value, with the interval of the others; draws with NaN are left out."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn if len(drawn) else values[:1], (LEVEL / 2, 1 - LEVEL / 2))
    return Share(float(values[0]), float(low), float(high))
