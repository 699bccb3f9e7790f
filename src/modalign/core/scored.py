"""Scores of a fitted method with the ids and labels of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modalign.core.features import UNLABELED, Quarantined


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of a fitted method for images.

    Attributes
    ----------
    ids : tuple of str
        The n images that could be decoded.
    labels : ndarray of shape (n,)
        Labels of the images, −1 where unknown.
    logits : ndarray of shape (n, C)
        Scores of the classes.
    quarantined : tuple of Quarantined, default=()
        The images that could not be decoded, with reasons.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    quarantined: tuple[Quarantined, ...] = ()

    def answers(self, ids: Sequence[str]) -> np.ndarray:
        """Return the predicted class of each of ``ids``, (m,), −1 for an id without scores."""
        found = dict(zip(self.ids, self.logits.argmax(axis=1).tolist(), strict=True))
        return np.array([found.get(name, UNLABELED) for name in ids], dtype=np.int64)
