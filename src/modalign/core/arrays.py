"""Checks of arrays passed by users, and conversion to float32 where no precision is lost."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from modalign.core.errors import InputError

LARGE = 2.0**100  # float32 keeps the digits of a row whose largest entry lies between 1/LARGE and LARGE


def real_array(array: Any, what: str, shape: str | None = None) -> np.ndarray:
    """Return ``array`` as NumPy after checking that it is real and has as many dimensions as ``shape`` names."""
    try:
        found = array if isinstance(array, np.ndarray) else np.asarray(array)
    except (TypeError, ValueError) as error:  # rows of different length, or a tensor on an accelerator
        raise InputError(f"Expected {what} as an array of numbers, got {type(array).__name__}: {error}") from None
    require_unmasked(found, what)
    if found.dtype.kind not in "fiu":
        raise InputError(f"Expected {what} of real numbers, got {found.dtype}.")
    if shape is not None and found.ndim != shape.count(",") + 1:
        raise InputError(f"Expected {what} of shape {shape}, got {found.shape}.")
    return found


def require_unmasked(array: Any, what: str) -> None:
    """Raise for a masked array with masked entries, whose hidden values would be taken for data."""
    if "numpy.ma" not in sys.modules:  # which takes a tenth of a second to import, and has made every masked array
        return
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        hidden = int(np.ma.getmaskarray(array).sum())
        entries = "1 is" if hidden == 1 else f"{hidden} are"
        raise InputError(
            f"Expected {what} without masked entries, got an array where {entries} masked; fill them in "
            "or leave these images out."
        )


def is_finite(array: np.ndarray) -> bool:
    """Return whether no entry is NaN or infinite. No copy is made: minimum and maximum are NaN if an entry is."""
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def narrowed(vectors: np.ndarray) -> np.ndarray:
    """Convert to float32, unless float32 would make a row infinite or zero or lose its precision."""
    if vectors.dtype.kind == "f" and vectors.dtype.itemsize > 4 and vectors.size:
        peaks = np.abs(vectors).max(axis=-1)
        if bool(((peaks > LARGE) | ((peaks < 1 / LARGE) & (peaks > 0))).any()):
            return vectors
    return np.asarray(vectors, dtype=np.float32)
