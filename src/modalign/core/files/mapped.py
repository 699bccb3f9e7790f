"""Arrays in one safetensors file that is written row by row and read as memory maps.

The file begins with the length of its header, 8 bytes, and the header as JSON: the shape, type and place of every array
and a map of strings. Any reader of safetensors reads it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError
from modalign.core.files.reading import local_path, open_regular, parse_json
from modalign.core.files.writing import replacing

HEADER_LIMIT = 2**27
_ALIGNED = 64  # bytes that every array begins at a multiple of, for the processor's vector units
_NAMES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
_TYPES = {np.dtype(code): name for name, code in _NAMES.items()}


class Streamed(NamedTuple):
    """An array that is written block by block: its shape, its type, and its rows in order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Iterable[np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> Streamed:
        """An array that is there already."""
        return cls(array.shape, array.dtype, [array])


def write_mapped(path: str | Path, arrays: Mapping[str, Streamed], notes: Mapping[str, str]) -> Path:
    """Write arrays and strings to ``path``, atomically.

    Parameters
    ----------
    path : str or Path
        The file to write.
    arrays : mapping of str to Streamed
        Of floats, int32, int64 or uint8.
    notes : mapping of str to str
        Strings to store with the arrays.
    """
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    place = 0
    for name, (shape, dtype, _) in arrays.items():
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _TYPES[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (shape, dtype, blocks) in arrays.items():
            written = sum(
                file.write(np.ascontiguousarray(block, dtype).data.cast("B")) for block in blocks if block.size
            )
            if written != math.prod(shape) * dtype.itemsize:
                raise InputError(f"Expected {shape} numbers for '{name}' in '{path}', got {written} bytes.")
    return local_path(path)


def read_mapped(path: str | Path, what: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays as read-only memory maps, and the strings that go with them.

    Only the header is read. The caller checks that the numbers are finite.

    Raises
    ------
    InputError
        One sentence with the reason: not such a file, cut off, an array outside the file.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise InputError(f"Expected {what}, '{path}' is no safetensors file, or it is cut off.")
        try:
            text = file.read(length).decode()
        except UnicodeDecodeError:
            raise InputError(f"Expected {what}, '{path}' is no safetensors file.") from None
    header = parse_json(text, f"the header of '{path}'", what)
    notes = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise InputError(f"Expected {what}, the header of '{path}' is none of safetensors.")
    start = 8 + length
    return {name: _map(path, start, size - start, name, entry) for name, entry in header.items()}, notes


def _map(path: str | Path, start: int, room: int, name: str, entry: object) -> np.ndarray:
    """One array, after checking that it lies within the ``room`` bytes behind the header."""
    wrong = InputError(f"Expected the array '{name}' to lie within '{path}', its header has other offsets.")
    if not isinstance(entry, dict) or entry.get("dtype") not in _NAMES:
        raise wrong
    dtype = np.dtype(_NAMES[entry["dtype"]])
    shape, offsets = (entry.get(key) for key in ("shape", "data_offsets"))
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise wrong
    if not all(is_integer(n) and n >= 0 for n in (*shape, *offsets)):
        raise wrong
    if len(offsets) != 2 or offsets[1] > room or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise wrong
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + offsets[0], shape=tuple(shape))
