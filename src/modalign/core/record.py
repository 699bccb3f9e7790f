"""Versions of the software and JSON-compatible values, for records of results."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from modalign import __version__

PACKAGES = ("torch", "numpy", "scikit-learn", "transformers", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python, modalign and its numerical dependencies."""
    own = {"python": platform.python_version(), "modalign": __version__}
    return own | {name: _installed(name) for name in PACKAGES}


_installed = cache(version)  # cached, because it reads and parses files and every run calls it


def plain(value: Any, *, strict: bool = False) -> Any:
    """Convert ``value`` to JSON types: arrays to lists; non-finite numbers and other objects to text.

    With ``strict``, a value that could not be read back raises a TypeError instead of becoming text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry, strict=strict) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # NumPy and torch
        value = value.tolist()
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes)):
        return [plain(entry, strict=strict) for entry in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and np.isfinite(value)):
        return value
    if strict:
        raise TypeError(f"{type(value).__name__} {value!r}")
    return str(value)
