"""Intersection over union of classes from pixel counts, with an interval over images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modalign.core.randomness import require_seed
from modalign.evaluate.metrics import percent

RESAMPLES = 1000
"""Draws of images behind an interval."""


@dataclass(frozen=True)
class ClassIoU:
    """Scores of one class; shares are of all pixels that count, None for a division by zero.

    ``iou`` is the intersection over the union of predicted and true pixels, ``precision`` its share of the predicted
    ones, ``recall`` that of the true ones.
    """

    name: str
    iou: float | None
    precision: float | None
    recall: float | None
    share_true: float
    share_predicted: float


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationScores:
    """Pixel counts over images, and the scores computed from them.

    Attributes
    ----------
    names : tuple of str
        K class names.
    confusion : ndarray of shape (K, K), int64
        Pixels of true class k (row) with the label j (column), summed over all images. Ignored pixels are left out.
    missed : ndarray of shape (K,), int64
        Pixels of true class k without a class in the prediction.
    images : ndarray of shape (n, 3, K), int64
        For every image and class the pixels in the intersection, in the truth and in the prediction.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    missed: np.ndarray
    images: np.ndarray

    @property
    def n_images(self) -> int:
        """Images counted."""
        return len(self.images)

    @cached_property
    def iou(self) -> np.ndarray:
        """IoU of every class, (K,); NaN where a class is neither in the truth nor in the prediction.

        IoU_k = C_kk / (Σ_j C_kj + Σ_j C_jk − C_kk), where Σ_j C_kj includes pixels without a predicted class.
        """
        return _iou(self.images.sum(axis=0))

    @property
    def miou(self) -> float:
        """Mean of :attr:`iou` over the classes that occur, as in mmsegmentation; NaN without any pixel."""
        return _mean(self.iou[None])[0]

    @property
    def n_occurring(self) -> int:
        """Classes with a pixel in the truth or in the prediction."""
        return int(np.isfinite(self.iou).sum())

    @property
    def accuracy(self) -> float:
        """Share of the true pixels with the right label; NaN without any pixel."""
        total = int(self.confusion.sum() + self.missed.sum())
        return int(self.confusion.trace()) / total if total else float("nan")

    @property
    def image_miou(self) -> np.ndarray:
        """Mean IoU of every image by itself, (n,); for finding bad images, not a mean to report."""
        return _mean(_iou(np.moveaxis(self.images, 1, 0)))

    @property
    def per_class(self) -> tuple[ClassIoU, ...]:
        """The classes in order."""
        hits, true, predicted = self.images.sum(axis=0)
        total = int(true.sum()) or 1
        return tuple(
            ClassIoU(
                name,
                None if np.isnan(self.iou[k]) else float(self.iou[k]),
                float(hits[k] / predicted[k]) if predicted[k] else None,
                float(hits[k] / true[k]) if true[k] else None,
                float(true[k] / total),
                float(predicted[k] / total),
            )
            for k, name in enumerate(self.names)
        )

    def interval(self, *, random_state: int = 0, confidence: float = 0.95) -> tuple[float, float]:
        """Percentile interval of :attr:`miou` under resampling of images with replacement.

        Images are drawn and not pixels, because the pixels of an image are not independent. With one image, both ends
        equal the value.

        Parameters
        ----------
        random_state : int, default=0
            Seed of the :data:`RESAMPLES` draws.
        confidence : float, default=0.95
            Coverage.
        """
        require_seed(random_state)
        n, _, k = self.images.shape
        rng = np.random.default_rng(random_state)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)  # how often each image is drawn
        sums = (drawn.astype(np.float64) @ self.images.reshape(n, 3 * k)).reshape(RESAMPLES, 3, k)
        low, high = np.nanquantile(_mean(_iou(sums.swapaxes(0, 1))), [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def __repr__(self) -> str:
        miou, accuracy = (f"{percent(value)} %" for value in (self.miou, self.accuracy))
        return (
            f"SegmentationScores(mIoU {miou}, pixel accuracy {accuracy}, n_images={self.n_images}, "
            f"{self.n_occurring} of {len(self.names)} classes)"
        )

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text, in percent."""
        rows = [
            [c.name, *("–" if v is None else percent(v) for v in (c.iou, c.precision, c.recall)),
             percent(c.share_true), percent(c.share_predicted)]
            for c in self.per_class
        ]  # fmt: skip
        return ["class", "IoU", "precision", "recall", "share of truth", "share predicted"], rows

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "miou": self.miou,
            "interval": list(self.interval()),
            "pixel_accuracy": self.accuracy,
            "n_images": self.n_images,
            "n_classes": len(self.names),
            "n_classes_that_occur": self.n_occurring,
            "per_class": [vars(c) for c in self.per_class],
            "confusion": self.confusion.tolist(),
            "without_class": self.missed.tolist(),
        }


def _iou(counts: np.ndarray) -> np.ndarray:
    """Intersection, truth and prediction, (3, …), → IoU; NaN where the union is empty."""
    hits, true, predicted = counts
    union = true + predicted - hits
    return np.divide(hits, union, out=np.full(union.shape, np.nan), where=union > 0)


def _mean(iou: np.ndarray) -> np.ndarray:
    """Means over the classes that occur, (…, K) → (…); NaN where none does."""
    occurs = np.isfinite(iou)
    n = occurs.sum(axis=-1)
    return np.divide(np.where(occurs, iou, 0).sum(axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0)
