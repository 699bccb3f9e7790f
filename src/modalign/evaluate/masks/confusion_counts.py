"""Predicted label maps against true ones: pixels counted image by image, as mmsegmentation counts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, argument
from modalign.evaluate.masks.iou import SegmentationScores
from modalign.segmentation.segmented import label_type, none_label

_STRIP = 2**20  # pixels that are counted at once


class ConfusionCounter:
    """Adds up pixel counts, image by image; memory O(n K + K²).

    Parameters
    ----------
    names : sequence of str
        K class names.
    ignore : int, default=None
        Value of the truth that does not count. None: 255, or 65535 above 255 classes.
    reduce_zero : bool, default=False
        Read the truth as mmsegmentation does with ``reduce_zero_label``: 0 is ignored, other values count from 1.
    """

    def __init__(self, names: Sequence[str], *, ignore: int | None = None, reduce_zero: bool = False) -> None:
        self.names = tuple(names)
        self.none = none_label(label_type(len(self.names)))
        self.ignore = self.none if ignore is None else ignore
        self.reduce_zero = reduce_zero
        self._confusion = np.zeros((len(self.names), len(self.names) + 1), dtype=np.int64)  # the last column: none
        self._images: list[np.ndarray] = []

    def add(self, labels: np.ndarray, truth: np.ndarray, name: str = "") -> None:
        """Count one image.

        Parameters
        ----------
        labels : array of shape (H, W)
            Predicted classes 0…K − 1; 255, or 65535 above 255 classes, where there is none.
        truth : array of shape (H, W)
            True classes 0…K − 1, or :attr:`ignore`.
        name : str, default=""
            Of the image, for messages.

        Raises
        ------
        InputError
            The shapes differ, or a value is no class.
        """
        of = f" of '{name}'" if name else ""
        if labels.shape != truth.shape or labels.ndim != 2:
            raise InputError(
                f"Expected a truth{of} of the size of its prediction, {_size(labels)}, got {_size(truth)}."
            )
        counts = np.zeros_like(self._confusion)
        rows = max(1, _STRIP // max(1, labels.shape[1]))
        for top in range(0, len(labels), rows):
            counts += self._count(labels[top : top + rows], truth[top : top + rows], of)
        hits = counts.diagonal()
        self._images.append(np.stack([hits, counts.sum(axis=1), counts[:, :-1].sum(axis=0)]))
        self._confusion += counts

    def scores(self) -> SegmentationScores:
        """Return the scores of the images counted so far.

        Raises
        ------
        InputError
            No image was counted.
        """
        if not self._images:
            raise InputError("Expected at least one image with its truth, got none.")
        counts = self._confusion
        return SegmentationScores(self.names, counts[:, :-1].copy(), counts[:, -1].copy(), np.stack(self._images))

    def _count(self, labels: np.ndarray, truth: np.ndarray, of: str) -> np.ndarray:
        """(K, K + 1) counts of a strip: one bincount."""
        k = len(self.names)
        true, answer = truth.astype(np.int64).ravel(), labels.astype(np.int64).ravel()
        counted = true != self.ignore
        if self.reduce_zero:
            counted &= true != 0
            true = true - 1
        true, answer = true[counted], answer[counted]
        answer = np.where(answer == self.none, k, answer)
        first = int(self.reduce_zero)
        for what, values, most, start in (("truth", true, k - 1, first), ("prediction", answer, k, 0)):
            if values.size and (values.min() < 0 or values.max() > most):
                value = int(values.max() if values.max() > most else values.min()) + start
                ignored = f", or {self.ignore} to be ignored ({argument('ignore')})" if what == "truth" else ""
                raise InputError(f"Expected values {start}…{k - 1 + start} in the {what}{of}{ignored}, got {value}.")
        return np.bincount(true * (k + 1) + answer, minlength=k * (k + 1)).reshape(k, k + 1)


@checked_arguments
def segmentation_scores(
    labels: Any,
    truth: Any,
    *,
    n_classes: int,
    names: Sequence[str] | None = None,
    ignore: int | None = None,
    reduce_zero: bool = False,
) -> SegmentationScores:
    """Compare predicted label maps with true ones: IoU per class, mean IoU, pixel accuracy.

    >>> import numpy as np
    >>> segmentation_scores(np.array([[0, 1]]), np.array([[0, 0]]), n_classes=2).iou.tolist()
    [0.5, 0.0]

    Parameters
    ----------
    labels : array of shape (H, W), or sequence of these
        Predicted classes 0…K − 1; 255, or 65535 above 255 classes, where there is none.
    truth : array of shape (H, W), or sequence of these
        True classes, one map per prediction and of its size.
    n_classes : int
        K.
    names : sequence of str, default=None
        K class names. None: the numbers.
    ignore : int, default=None
        Value of the truth that does not count. None: 255, or 65535 above 255 classes.
    reduce_zero : bool, default=False
        0 of the truth is ignored and other values count from 1.

    Returns
    -------
    scores : SegmentationScores
        IoU per class, mean IoU and pixel accuracy.

    Raises
    ------
    InputError
        Numbers of maps, sizes or values do not fit.
    """
    if n_classes < 1:
        raise InputError(f"Expected {argument('n_classes')} of at least 1, got {n_classes}.")
    own = tuple(map(str, range(n_classes))) if names is None else tuple(names)
    if len(own) != n_classes:
        raise InputError(f"Expected {n_classes} names, got {len(own)}.")
    pairs = [_maps(labels), _maps(truth)]
    if len(pairs[0]) != len(pairs[1]):
        raise InputError(f"Expected a true map per prediction, got {len(pairs[1])} and {len(pairs[0])}.")
    counter = ConfusionCounter(own, ignore=ignore, reduce_zero=reduce_zero)
    for i, (predicted, true) in enumerate(zip(*pairs, strict=True)):
        counter.add(predicted, true, str(i))
    return counter.scores()


def _maps(given: Any) -> list[np.ndarray]:
    """Return one or several maps as a list."""
    several = isinstance(given, (list, tuple)) and bool(given) and np.ndim(given[0]) == 2
    return [np.asarray(m) for m in given] if several or np.ndim(given) == 3 else [np.asarray(given)]


def _size(array: np.ndarray) -> str:
    return " × ".join(map(str, array.shape[::-1])) + (" pixels" if array.ndim == 2 else "")
