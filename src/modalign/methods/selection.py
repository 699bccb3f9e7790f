"""Choosing on held-out images: one way for all methods.

Accuracy on few held-out images comes in coarse steps and its maximum over many candidates is mostly luck; the log-loss
has no steps. It is taken after the best temperature, since scores of different candidates differ in scale and the
temperature is fitted afterwards in any case.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.features import UNLABELLED

SCALES = tuple(2 ** (k / 2) for k in range(2, 17))  # 2 … 256: inverse temperatures for scores of the size of cosines


class Merit(NamedTuple):
    """How good scores are; both are better when greater."""

    accuracy: float
    log_likelihood: float


class ScaledLikelihood:
    """The mean log-likelihood of labels at the best of :data:`SCALES`.

    It is concave in the scale, so climbing finds the best from anywhere; from where the last one was, scores that
    differ little need three evaluations instead of all fifteen. One evaluation is a log-sum-exp of n C numbers.
    """

    def __init__(self) -> None:
        self.at = len(SCALES) // 2

    def __call__(self, scores: Tensor, y: Tensor) -> float:
        """``scores`` (n, C), ``y`` (n,) class indices."""
        behind = scores - scores.gather(1, y[:, None])
        known: dict[int, float] = {}

        def value(at: int) -> float:
            if at not in known:
                known[at] = -torch.logsumexp(SCALES[at] * behind, dim=1).double().mean().item()
            return known[at]

        for direction in (1, -1):
            while 0 <= self.at + direction < len(SCALES) and value(self.at + direction) > value(self.at):
                self.at += direction
        return value(self.at)


def accuracy(scores: Tensor, y: Tensor) -> float:
    """Share of the rows of ``scores`` (n, C) whose largest entry is at the true class."""
    return (scores.argmax(1) == y).double().mean().item()


def log_likelihood(logits: Tensor, y: Tensor) -> float:
    """Mean log-likelihood of ``y`` (n,) under the softmax of ``logits`` (n, C)."""
    return -F.cross_entropy(logits.double(), y).item()


def held_out(validation: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """The labelled rows of a validation set, None if there are none."""
    if validation is None:
        return None
    X, y = validation
    known = y != UNLABELLED
    return (X[known], y[known]) if bool(known.any()) else None
