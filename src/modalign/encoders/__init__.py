"""Pixels and sentences → vectors. Nothing else in the library touches pretrained weights.

The heavy half (torch, transformers) is imported on first use of a name below, so that listing encoders is quick.
"""

from __future__ import annotations

from importlib import import_module

from modalign.encoders.catalog import KNOWN_ENCODERS

_HOME = {
    "Encoder": "base",
    "ClipEncoder": "clip",
    "VisionEncoder": "vision",
    "JoinedEncoder": "joined",
    "Preprocessing": "preprocess",
    "FeatureStore": "store",
    "load_encoder": "loading",
}

__all__ = ["KNOWN_ENCODERS", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'modalign.encoders' has no attribute '{name}'")
    value = getattr(import_module(f"modalign.encoders.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
