"""Computation of features, logits and probabilities of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.core.scored import Scored
from modalign.data.copies import content_hash
from modalign.data.items import Items, load_items
from modalign.encoders.base import Encoder
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.features.crop_features import embed_crops
from modalign.encoders.joined import JoinedEncoder
from modalign.linalg.calibration import fit_temperature
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.transduction import kept_answers, vector_hashes
from modalign.methods.contract.vectors import VectorMethod


@dataclass(frozen=True)
class Answered:
    """Logits and probabilities of images.

    Attributes
    ----------
    scored : Scored
        Their logits, of each image by itself.
    probabilities : ndarray of shape (n, C)
        Probabilities; transductive ones for images that the model was fitted on, if it keeps them.
    transductive : ndarray of shape (n,) or None
        Which images have transductive probabilities; None if the model keeps none.
    """

    scored: Scored
    probabilities: np.ndarray
    transductive: np.ndarray | None


def require_clip(encoder: Encoder | JoinedEncoder) -> ClipEncoder:
    """Return the encoder; raise if a method cannot train inside it."""
    if not isinstance(encoder, ClipEncoder):
        raise InputError(
            f"Expected one CLIP encoder to learn in, got '{encoder.name}', which is none; use a CLIP name."
        )
    return encoder


def require_one(
    encoder: Encoder | JoinedEncoder, purpose: str = "to embed crops with", way_out: str = "leave crops out"
) -> Encoder:
    """Return the encoder; raise if it joins several encoders."""
    if isinstance(encoder, JoinedEncoder):
        raise InputError(f"Expected one encoder {purpose}, got '{encoder.name}'; {way_out}.")
    return encoder


def embed_images(encoder: Encoder | JoinedEncoder, images: Any, crops: int = 0) -> Features:
    """Vectors of images, and of ``crops`` squares of each as ``tokens``.

    The crops depend on the picture only, so that they are the same in every call. They are cached (see
    :func:`~modalign.encoders.features.crop_features.embed_crops`).
    """
    if not crops:
        return encoder.embed_images(images)
    return embed_crops(images, require_one(encoder), crops=crops, by_content=True)


def score(encoder: Encoder | JoinedEncoder, method: VectorMethod | TowerMethod, images: Any, crops: int = 0) -> Scored:
    """Logits of images, in float64, by a method of either kind; images that are vectors already are not encoded.

    ``crops`` squares are cut of every image for a method that scores parts, and none for others.
    """
    if isinstance(method, TowerMethod):
        if isinstance(images, Features):
            raise InputError(f"Expected images, got vectors: {type(method).__name__} computes inside the encoder.")
        found = method.score_images(load_items(images), require_clip(encoder))
        return replace(found, logits=found.logits.astype(np.float64))
    crops = crops if method.scores_parts else 0
    features = images if isinstance(images, Features) else embed_images(encoder, images, crops)
    logits = method.scores(features).astype(np.float64)
    return Scored(features.ids, features.labels, logits, features.quarantined)


def answer(
    encoder: Encoder | JoinedEncoder,
    method: VectorMethod | TowerMethod,
    images: Any,
    *,
    temperature: float = 1.0,
    crops: int = 0,
) -> Answered:
    """Return probabilities of images; transductive ones for fitted images, if the method keeps them.

    Images are recognized by their bytes, and vectors, like the images of a method that was fitted on vectors, by those
    of the vectors. ``temperature`` divides the logits and the kept log-probabilities.
    """
    kept = getattr(method, "fitted_answers_", None)
    if kept is None:
        scored = score(encoder, method, images, crops)
        return Answered(scored, softmax(scored.logits / temperature), None)
    features = images
    if not isinstance(images, Features):
        images = load_items(images)
        features = embed_images(encoder, images, crops if method.scores_parts else 0)
    scored = score(encoder, method, features)
    if isinstance(images, Features) or "images" not in kept:
        by, keys = "vectors", vector_hashes(features.vectors)
    else:
        by, keys = "images", image_hashes(images, features.ids)
    probabilities = softmax(scored.logits / temperature)
    known, found = kept_answers(kept, by, keys, probabilities.shape[1])
    tempered = found ** (1 / temperature)
    probabilities[known] = tempered / tempered.sum(axis=1, keepdims=True)
    return Answered(scored, probabilities, known)


def image_hashes(items: Items, ids: Sequence[str]) -> np.ndarray:
    """(n,) int64 content hashes of the images with these ids; see :func:`~modalign.data.copies.content_hash`."""
    place = {name: i for i, name in enumerate(items.ids)}
    hashes = {name: int(content_hash(items, place[name]) or "0", 16) for name in dict.fromkeys(ids)}
    return np.array([hashes[name] for name in ids], dtype=np.uint64).view(np.int64)


def calibrate(scored: Scored) -> float:
    """The temperature at which the logits of labeled validation images are most likely right."""
    return fit_temperature(torch.from_numpy(scored.logits), torch.from_numpy(scored.labels))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, C) probabilities of (n, C) logits."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
