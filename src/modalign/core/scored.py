"""Scores of a fitted method for images, with the names and the labels of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modalign.core.features import UNLABELLED, Quarantined


@dataclass(frozen=True, eq=False)
class Scored:
    """What a fitted method says about images.

    Attributes
    ----------
    ids : tuple of str
        The n images that could be decoded.
    labels : ndarray of shape (n,)
        As they came with the images, −1 where unknown.
    logits : ndarray of shape (n, C)
        Scores of every class.
    quarantined : tuple of Quarantined, default=()
        The images that could not, with reasons.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    quarantined: tuple[Quarantined, ...] = ()

    def answers(self, ids: Sequence[str]) -> np.ndarray:
        """(m,) the class of the highest logit of each of ``ids``, −1 where there is none."""
        found = dict(zip(self.ids, self.logits.argmax(axis=1).tolist(), strict=True))
        return np.array([found.get(name, UNLABELLED) for name in ids], dtype=np.int64)
