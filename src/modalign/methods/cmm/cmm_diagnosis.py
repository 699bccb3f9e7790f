"""Diagnostics of CMM: changes of images and texts, and the contribution of each component."""

from __future__ import annotations

import math

from torch import Tensor

from modalign.linalg.gaussians import modality_gap
from modalign.methods.contract.selection import share_correct


def movement(X: Tensor, mapped: Tensor, text: Tensor, prototypes: Tensor) -> dict[str, object]:
    """Compute how far images and texts moved in training, and the modality gap before and after.

    Parameters
    ----------
    X, mapped : Tensor of shape (n, d)
        Unit images before and after the map.
    text, prototypes : Tensor of shape (C, d)
        Unit class texts before and after training.

    Returns
    -------
    dict
        ``images_moved`` and ``texts_moved``, mean 1 − cosine, and ``modality_gap``. Cost O((n + C) d² + d³).
    """
    found: dict[str, object] = {
        "images_moved": 1 - (X * mapped).sum(dim=1).mean().item(),
        "texts_moved": 1 - (text * prototypes).sum(dim=1).mean().item(),
    }
    if X.shape[1] > 1:  # a line has no plane
        found["modality_gap"] = {
            when: {k: v if math.isfinite(v) else None for k, v in vars(modality_gap(*pair)).items()}
            for when, pair in {"before": (X, text), "after": (mapped, prototypes)}.items()
        }
    return found


def ablation(X: Tensor, mapped: Tensor, y: Tensor, text: Tensor, prototypes: Tensor, fusion: float) -> dict[str, float]:
    """Compute the validation accuracy, and that without each component of the fitted model.

    Parameters
    ----------
    X, mapped, y : Tensor
        Unit validation images before and after the map, and their labels.
    text, prototypes : Tensor
        Unit class texts before and after training.
    zero_shot_weight : float
        β.
    """
    clip, own = X @ text.T, mapped @ prototypes.T
    return {
        "validation_accuracy": share_correct(own + fusion * clip, y),
        "validation_accuracy_zero_shot": share_correct(clip, y),
        "validation_accuracy_without_map": share_correct(X @ prototypes.T + fusion * clip, y),
        "validation_accuracy_without_fusion": share_correct(own, y),
    }
