"""What a record of anything needs: the versions that computed it, and its values as JSON knows them."""

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
    """Versions of Python, of this package and of the packages that compute."""
    own = {"python": platform.python_version(), "modalign": __version__}
    return own | {name: _installed(name) for name in PACKAGES}


_installed = cache(version)  # which reads and parses a file each time, and every run asks


def plain(value: Any, *, strict: bool = False) -> Any:
    """``value`` as JSON knows it: arrays as lists, numbers as numbers, what is not finite or not data as text.

    ``strict`` raises a TypeError instead of writing text for what could then not be read back.
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
