"""Features as one file: ``.npz``, which is read into memory, or ``.safetensors``, which is mapped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.arrays import narrowed, real_array
from modalign.core.display import is_encodable
from modalign.core.errors import InputError
from modalign.core.features_card import check_parts, features_card, read_features_card
from modalign.core.files import read_npz, replacing
from modalign.core.files.mapped import Streamed, read_mapped, write_mapped

if TYPE_CHECKING:
    from modalign.core.features import Features

WHAT = "a features file (.safetensors)"
FORMAT = "modalign-features/1"
BLOCK = 2**14  # rows that are checked and written at a time
_NAMES = ("ids", "class_names", "parts")  # arrays that hold text as JSON
_TEXT_LIMIT = 2**33  # bytes of the ids


def write_features(path: Path, features: Features) -> Path:
    """Write features to a ``.safetensors`` file; vectors of float16 stay in float16, all others become float32."""
    half = features.vectors.dtype == np.float16
    dtype = np.dtype("<f2" if half else "<f4")
    vectors = Streamed(features.vectors.shape, dtype, _cast(features.vectors, dtype, "vectors"))
    tokens = None if features.tokens is None else np.concatenate([*_cast(features.tokens, np.dtype("<f4"), "tokens")])
    names = (features.ids, features.class_names, features.parts)
    return write_streamed(path, vectors, features.labels, names, features_card(features), tokens)


def write_streamed(
    path: Path,
    vectors: Streamed,
    labels: np.ndarray,
    names: tuple[Sequence[str], Sequence[str], Sequence[str]],  # ids, class names, parts
    card: dict[str, Any],
    tokens: np.ndarray | None = None,
) -> Path:
    """As :func:`write_features`, of vectors that come block by block."""
    arrays = {"vectors": vectors, "labels": Streamed.of(labels.astype("<i8", copy=False))}
    if tokens is not None:
        arrays["tokens"] = Streamed.of(tokens)
    # Of any length, so behind the arrays that should be aligned.
    arrays |= {name: Streamed.of(_packed(texts)) for name, texts in zip(_NAMES, names, strict=True)}
    return write_mapped(path, arrays, {"format": FORMAT, "card": json.dumps(card)})


def read_features(path: str | Path) -> dict[str, Any]:
    """The arguments of :class:`~modalign.core.features.Features` that a ``.safetensors`` file holds.

    Vectors, labels and tokens are memory maps; the vectors were checked to be finite.
    """
    arrays, notes = read_mapped(path, WHAT)
    if notes.get("format") != FORMAT or not {"vectors", "labels", *_NAMES} <= set(arrays):
        raise InputError(f"Expected {WHAT}, '{path}' holds {sorted(arrays) or 'nothing'} of another format.")
    for name in ("vectors", *({"tokens"} & set(arrays))):
        for number, block in enumerate(blocks_of(arrays[name])):
            if not np.isfinite(block).all():
                raise InputError(
                    f"Expected finite {name} in '{path}', got NaN or infinity behind row {number * BLOCK}."
                )
    spec, quarantined = read_features_card(notes.get("card", ""), path)
    ids, class_names, parts = (_unpacked(arrays[name], path) for name in _NAMES)
    return {
        "vectors": arrays["vectors"],
        "labels": np.asarray(arrays["labels"]),
        "tokens": arrays.get("tokens"),
        "ids": ids,
        "class_names": class_names,
        "parts": check_parts(parts, len(arrays["vectors"]), path),
        "spec": spec,
        "quarantined": quarantined,
    }


def _cast(array: np.ndarray, dtype: np.dtype, what: str) -> Iterable[np.ndarray]:
    """The rows as ``dtype``, block by block; raises for a row that is or becomes infinite, or becomes zero."""
    for number, block in enumerate(blocks_of(array)):
        with np.errstate(over="ignore"):
            stored = np.asarray(block, dtype)
        lost = ~np.isfinite(stored).all(axis=-1) | (~stored.any(axis=-1) & block.any(axis=-1))
        if lost.any():
            row = number * BLOCK + int(np.argwhere(lost)[0, 0])
            raise InputError(
                f"Expected finite {what} that {dtype.name} can hold, got others in row {row} (counted from 0); leave "
                "out images that could not be embedded, or scale the vectors, whose direction alone is used."
            )
        yield stored


def write_npz_features(path: Path, features: Features) -> Path:
    """Write features to an ``.npz`` file that :func:`numpy.load` reads, without a pickle."""
    for what, array in (("vectors", features.vectors), ("tokens", features.tokens)):
        for _ in _cast(array, array.dtype, what) if array is not None and array.dtype.kind == "f" else ():
            pass
    for text in (*features.ids, *features.class_names):
        if text.endswith("\0") or not is_encodable(text):
            raise InputError(f"Expected names that .npz can hold, got {text!r:.80}; use .safetensors.")
    arrays: dict[str, Any] = {
        "vectors": features.vectors,
        "ids": np.array(features.ids, dtype=np.str_),
        "labels": features.labels,
        "class_names": np.array(features.class_names, dtype=np.str_),
        "card": np.array(json.dumps(features_card(features))),
    }
    if features.tokens is not None:
        arrays["tokens"] = features.tokens
    if features.parts:
        arrays["parts"] = np.array(features.parts, dtype=np.str_)
    with replacing(path) as file:
        np.savez(file, **arrays)
    return path


def read_npz_features(path: str | Path) -> dict[str, Any]:
    """As :func:`read_features`, of an ``.npz`` file with at least an array ``vectors``, which is read into memory."""
    arrays: dict[str, Any] = read_npz(path, "a features file (.npz)")  # their types are checked with the features
    if "vectors" not in arrays:
        raise InputError(f"Expected an array 'vectors' in '{path}', got {sorted(arrays)}.")
    spec, quarantined = read_features_card(str(arrays["card"]), path) if "card" in arrays else (None, ())
    parts = tuple(np.atleast_1d(arrays["parts"]).tolist()) if "parts" in arrays else ()
    given: dict[str, Any] = {
        name: arrays[name] for name in ("ids", "labels", "class_names", "tokens") if name in arrays
    }
    return {
        "vectors": narrowed(real_array(arrays["vectors"], "image vectors")),
        "parts": check_parts(parts, len(arrays["vectors"]), path),
        "spec": spec,
        "quarantined": quarantined,
        **given,
    }


def blocks_of(vectors: np.ndarray) -> Iterable[np.ndarray]:
    """The rows in order, :data:`BLOCK` at a time."""
    return (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))


def _packed(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(list(texts)).encode(), dtype="|u1")


def _unpacked(array: np.ndarray, path: str | Path) -> tuple[str, ...]:
    if array.dtype != np.uint8 or array.size > _TEXT_LIMIT:
        raise InputError(f"Expected names as text in '{path}', got {array.dtype}.")
    try:
        found = json.loads(array.tobytes())
    except ValueError:
        raise InputError(f"Expected names as JSON in '{path}', got something else.") from None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InputError(f"Expected a list of names in '{path}', got something else.")
    return tuple(found)
