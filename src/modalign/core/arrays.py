"""Checks of numbers and arrays passed by users, and conversion to float32 where no precision is lost."""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from modalign.core.errors import InputError, InputTypeError

LARGE = 2.0**100  # float32 keeps the digits of a row whose largest entry lies between 1/LARGE and LARGE
RESHAPE = "Reshape your data: each vector is a row, also if there is only one."


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a finite int or float and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def real_array(array: Any, what: str, shape: str | None = None) -> np.ndarray:
    """Return ``array`` as NumPy after checking that it is real and has as many dimensions as ``shape`` names.

    Accepts what NumPy, torch, pandas, polars and pyarrow hold as numbers, also a column with a vector per row. The
    result has the byte order of the machine and at most 64 bits per number; a memory map remains one.

    Raises
    ------
    InputError
        The array is sparse, masked, not of real numbers, or of another number of dimensions.
    InputTypeError
        An entry is an object that is not a number.
    """
    found = as_numpy(array, what)
    if found.dtype.kind == "O":
        found = _of_objects(found, what, array)
    kind = f"fields named {', '.join(found.dtype.names[:2])}, …" if found.dtype.names else str(found.dtype)
    if found.dtype.kind == "c":
        raise InputError(f"Expected {what} of real numbers, got {kind}. Complex data not supported.")
    if found.dtype.kind not in "fiu":
        raise InputError(f"Expected {what} of real numbers, got {kind}; convert the entries to numbers.")
    if shape is not None and found.ndim != shape.count(",") + 1:
        raise InputError(f"Expected {what} of shape {shape}, got {found.shape}. {RESHAPE}")
    if found.dtype.itemsize > 8:
        found = found.astype(np.float64)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def require_strided(tensor: Any, what: str) -> None:
    """Raise for a torch tensor that is not a plain array: sparse, nested, quantized or without values."""
    layout = str(tensor.layout).removeprefix("torch.")
    for found, kind, advice in (
        (tensor.is_nested, "nested", "pad the rows to one length"),
        (layout != "strided", layout, "use .to_dense()"),
        (tensor.is_quantized, "quantized", "use .dequantize()"),
        (tensor.is_meta, "meta", "load its values first"),
    ):
        if found:
            raise InputError(f"Expected {what} as a dense array, got a {kind} tensor; {advice}.")


def as_numpy(array: Any, what: str) -> np.ndarray:
    """Return ``array`` as NumPy, of any dtype and at least one dimension; a memory map remains one.

    Raises
    ------
    InputError
        The array is sparse or masked, rows differ in length, or it is a single value.
    """
    require_unmasked(array, what)
    if hasattr(array, "tocsr"):
        raise InputError(f"Expected {what} as a dense array, got the sparse {type(array).__name__}; use .toarray().")
    torch = sys.modules.get("torch")  # not imported for this: without it no tensor exists
    if torch is not None and isinstance(array, torch.Tensor):
        array = _of_tensor(array, what)
    elif torch is not None and isinstance(array, (list, tuple)) and any(isinstance(row, torch.Tensor) for row in array):
        array = [_of_tensor(row, what) if isinstance(row, torch.Tensor) else row for row in array]
    if isinstance(array, np.memmap):
        return array
    try:
        found = np.asarray(array)
    except (TypeError, ValueError):
        raise InputError(
            f"Expected {what} as an array, got {type(array).__name__} with rows of different lengths; give each row "
            "the same number of entries."
        ) from None
    if found.ndim == 0:
        kind = f"text {array!r:.60}" if found.dtype.kind in "US" else type(array).__name__
        raise InputError(f"Expected {what} as an array, got {kind}; give a list, an array or a table with a row each.")
    return found


def _of_tensor(tensor: Any, what: str) -> np.ndarray:
    require_strided(tensor, what)
    tensor = tensor.detach().cpu()
    values: np.ndarray = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return values


def _of_objects(array: np.ndarray, what: str, given: Any) -> np.ndarray:
    """Numbers that were stored as Python objects, or as a column with an array per row, as numbers."""
    if array.ndim == 1 and len(array) and all(isinstance(row, (np.ndarray, list, tuple)) for row in array):
        array = as_numpy([row.tolist() if isinstance(row, np.ndarray) else row for row in array], what)
        if array.dtype.kind != "O":
            return array
    for place, entry in np.ndenumerate(array):
        if isinstance(entry, Real) and not isinstance(entry, bool):
            continue
        if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
            raise InputError(f"Expected finite numbers in {what}, got {entry} in row {place[0]}; NaN is none either.")
        if array.ndim == 2 and isinstance(entry, (np.ndarray, list, tuple)):
            raise InputTypeError(
                f"Expected {what} with a number in each cell, got {type(entry).__name__} in row {place[0]}; give the "
                "column of vectors itself in place of the data frame."
            )
        raise InputTypeError(
            f"Expected {what} of real numbers, got {type(entry).__name__} in row {place[0]}; the argument must be an "
            "array without strings or other entries that are not a number."
        )
    return array.astype(np.float64)


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


def row_numbers(rows: Any, n: int) -> np.ndarray:
    """Return rows given as numbers, a mask or a slice as numbers in 0…n − 1; negative ones count from the end.

    Raises
    ------
    InputError
        Other types, a mask of another length, or a number outside.
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    found = as_numpy(rows, "rows")
    if not found.size:
        return np.empty(0, dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iub":
        raise InputError(
            f"Expected rows as row numbers, a mask or a slice, got {found.dtype} of shape {found.shape}; use integers."
        )
    if found.dtype.kind == "b" and len(found) != n:
        raise InputError(f"Expected a mask of {n} entries, one per row, got {len(found)}.")
    if found.dtype.kind != "b" and not -n <= found.min() <= found.max() < n:
        raise InputError(f"Expected row numbers in 0…{n - 1}, got {found.min()}…{found.max()}.")
    return np.arange(n)[found]


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
