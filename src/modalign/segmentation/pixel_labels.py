"""Classes of pixels from the cosines of names, with thresholds, in strips of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modalign.core.arrays import is_number
from modalign.core.errors import InputError, argument
from modalign.segmentation.segmented import label_type, none_label
from modalign.segmentation.windows import upsampled_strips


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Settings of the decision from cosines to classes.

    Attributes
    ----------
    logit_scale : float, default=40.0
        Factor of the cosines before the softmax over all names.
    prob_threshold : float, default=0.0
        Pixels whose best probability is below it become background, or none; 0 for never.
    area_threshold : float or None, default=None
        With background: classes with at most this share of the pixels that are not background are left out; None for
        never.
    background : bool, default=False
        Whether class 0 is background.
    """

    logit_scale: float = 40.0
    prob_threshold: float = 0.0
    area_threshold: float | None = None
    background: bool = False

    def __post_init__(self) -> None:
        scale = self.logit_scale
        if not is_number(scale) or not 0 < scale < math.inf:
            raise InputError(f"Expected {argument('logit_scale')} above 0, got {scale!r}.")
        _require_share("prob_threshold", self.prob_threshold)
        if self.area_threshold is not None:
            _require_share("area_threshold", self.area_threshold)
            if not self.background:
                raise InputError(
                    f"Expected {argument('area_threshold')} together with a background class, got no background."
                )


class Decided(NamedTuple):
    """(H, W) labels and float16 confidence, and how many pixels each class has."""

    labels: np.ndarray
    confidence: np.ndarray
    counts: np.ndarray


def decide(canvas: Tensor, owner: Tensor, size: tuple[int, int], decision: Decision) -> Decided:
    r"""The class of each pixel at the photo's size.

    .. math:: p_m = \operatorname{softmax}_m(s \cos_m), \qquad p_k = \max_{m \in k} p_m, \qquad \arg\max_k p_k

    The cosines are interpolated first, then the softmax over all M names, then the largest name of a class. Classes
    below ``area_threshold`` get probability 0, and then pixels below ``prob_threshold`` become background or none.
    Memory: a few strips, and 3 bytes per pixel of the result.

    Parameters
    ----------
    canvas : Tensor of shape (M, h, w)
        Cosines of the names.
    owner : Tensor of shape (M,)
        Class of each name, ascending from 0.
    size : tuple of (int, int)
        (H, W) of the photo.
    decision : Decision
        Scale and thresholds.
    """
    K = int(owner[-1]) + 1
    kept = _large_enough(canvas, owner, size, decision) if decision.area_threshold is not None else None
    dtype = label_type(K)
    labels, confidence = np.empty(size, dtype), np.empty(size, np.float16)
    counts = torch.zeros(none_label(dtype) + 1, dtype=torch.long, device=canvas.device)
    for first, scores, total in _strips(canvas, owner, size, decision):
        if kept is not None:
            scores = scores.masked_fill(~kept[:, None, None], -torch.inf)
        best, index = scores.max(dim=0)
        sure = (best - total).exp()
        if decision.prob_threshold > 0:
            index = index.masked_fill(sure < decision.prob_threshold, 0 if decision.background else none_label(dtype))
        counts += torch.bincount(index.flatten(), minlength=len(counts))
        rows = slice(first, first + len(index))
        labels[rows], confidence[rows] = index.cpu().numpy().astype(dtype), sure.half().cpu().numpy()
    return Decided(labels, confidence, counts[:K].cpu().numpy())


def probabilities(canvas: Tensor, owner: Tensor, size: tuple[int, int], decision: Decision) -> np.ndarray:
    """(K, H, W) float32 probabilities of the classes before thresholds; see :func:`decide`."""
    found = np.empty((int(owner[-1]) + 1, *size), np.float32)
    for first, scores, total in _strips(canvas, owner, size, decision):
        found[:, first : first + scores.shape[1]] = (scores - total).exp().cpu().numpy()
    return found


def _strips(
    canvas: Tensor, owner: Tensor, size: tuple[int, int], decision: Decision
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First row, (K, rows, W) logits of the classes' best names, and (rows, W) the logarithm of the softmax's sum."""
    counts = owner.bincount().tolist()
    for first, strip in upsampled_strips(canvas, size):
        logits = strip * decision.logit_scale
        total = logits.logsumexp(dim=0)
        if len(counts) < len(owner):
            logits = torch.stack([names.amax(dim=0) for names in logits.split(counts)])
        yield first, logits, total


def _large_enough(canvas: Tensor, owner: Tensor, size: tuple[int, int], decision: Decision) -> Tensor:
    """(K,) which classes have more than the threshold of the pixels that are not background; background always."""
    K = int(owner[-1]) + 1
    counts = torch.zeros(K, dtype=torch.long, device=canvas.device)
    for _, scores, _ in _strips(canvas, owner, size, decision):
        counts += torch.bincount(scores.argmax(dim=0).flatten(), minlength=K)
    kept = counts > (decision.area_threshold or 0) * counts[1:].sum()
    kept[0] = True
    return kept


def _require_share(name: str, value: object) -> None:
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"Expected {argument(name)} between 0 and 1, got {value!r}.")
