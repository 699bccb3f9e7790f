"""Images to vectors to logits, for methods of either kind, and logits to probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.data.items import load_items
from modalign.features import Features, Scored
from modalign.linalg.calibration import fit_temperature
from modalign.methods.base import VectorMethod
from modalign.methods.tower import TowerMethod
from modalign.tune.crops import embed_crops

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder


def embed(encoder: Encoder | JoinedEncoder, images: Any, crops: int = 0) -> Features:
    """Vectors of images, and of ``crops`` squares of each as ``tokens``.

    The squares follow from the picture alone, so that a model sees of an image what it saw of it before. They are
    cached (see :func:`~modalign.tune.crops.embed_crops`).
    """
    return embed_crops(images, encoder, crops=crops, by_content=True) if crops else encoder.embed_images(images)


def score(encoder: Encoder | JoinedEncoder, method: VectorMethod | TowerMethod, images: Any, crops: int = 0) -> Scored:
    """Logits of images, in float64, by a method of either kind; images that are vectors already are not encoded.

    ``crops`` squares are cut of every image for a method that scores parts, and none for others.
    """
    if isinstance(method, TowerMethod):
        found = method.score_images(load_items(images), encoder)
        return replace(found, logits=found.logits.astype(np.float64))
    crops = crops if method.scores_parts else 0
    features = images if isinstance(images, Features) else embed(encoder, images, crops)
    logits = method.scores(features).astype(np.float64)
    return Scored(features.ids, features.labels, logits, features.quarantined)


def calibrate(scored: Scored) -> float:
    """The temperature at which the logits of labelled validation images are most likely right."""
    return fit_temperature(torch.from_numpy(scored.logits), torch.from_numpy(scored.labels)).value


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, C) probabilities of (n, C) logits."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
