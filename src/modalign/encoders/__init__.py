"""Pixels and sentences → vectors. Nothing else in the library touches pretrained weights.

The heavy half (torch, transformers) is imported on first use of a name below, so that listing encoders is quick.
"""

from __future__ import annotations

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

__all__ = ["KNOWN_ENCODERS", *_HOME]
__getattr__, __dir__ = lazily(__name__, _HOME, "KNOWN_ENCODERS")
