"""Encoders of images and sentences. All use of pretrained weights is in this package.

torch and transformers are imported on first use, so that listing encoders is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modalign.core.lazy import lazily
from modalign.encoders.registry import KNOWN_ENCODERS

_HOME = {
    "Encoder": "base",
    "ClipEncoder": "clip",
    "VisionEncoder": "vision",
    "JoinedEncoder": "joined",
    "Preprocessing": "preprocess",
    "FeatureStore": "features.store",
    "load_encoder": "loading",
    "find_encoder": "loading",
}

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder as Encoder
    from modalign.encoders.clip import ClipEncoder as ClipEncoder
    from modalign.encoders.features.store import FeatureStore as FeatureStore
    from modalign.encoders.joined import JoinedEncoder as JoinedEncoder
    from modalign.encoders.loading import find_encoder as find_encoder
    from modalign.encoders.loading import load_encoder as load_encoder
    from modalign.encoders.preprocess import Preprocessing as Preprocessing
    from modalign.encoders.vision import VisionEncoder as VisionEncoder

__all__ = ["KNOWN_ENCODERS", *_HOME]
__getattr__, __dir__ = lazily(__name__, _HOME, "KNOWN_ENCODERS")
