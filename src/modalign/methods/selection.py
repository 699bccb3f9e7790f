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

INVERSE_TEMPERATURES = tuple(2 ** (k / 2) for k in range(2, 17))  # 2 … 256, for scores of the size of cosines


class Merit(NamedTuple):
    """How good scores are; both are better when greater."""

    accuracy: float
    log_likelihood: float


def merit(scores: Tensor, y: Tensor, scales: tuple[float, ...] = INVERSE_TEMPERATURES) -> Merit:
    """Accuracy of ``scores`` (n, C) and the mean log-likelihood of ``y`` (n,) at the best of some scales.

    Cost: one log-sum-exp of n C numbers a scale.
    """
    true = scores.gather(1, y[:, None])[:, 0]
    likelihoods = [(scale * true - torch.logsumexp(scale * scores, dim=1)).double().mean() for scale in scales]
    return Merit(accuracy(scores, y), torch.stack(likelihoods).max().item())


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
