"""Parquet files of images: bytes, or paths relative to the file, with or without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modalign.core.errors import InputError, require
from modalign.core.features import Quarantined
from modalign.core.labels import UNLABELED
from modalign.data.blobs import Blob, BytesBlob, FileBlob, image_path_error
from modalign.data.items import Items
from modalign.data.names import natural_key, quoted
from modalign.data.remote import opened, remote_address
from modalign.data.remote_sources import file_below

_BYTES_COLUMNS = ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp")
_IMAGE_COLUMNS = (*_BYTES_COLUMNS, "path", "file", "filename", "file_name", "filepath", "image_path")
_LABEL_COLUMNS = ("class_name", "class", "label", "labels", "category", "target", "cls")


def count_row_groups(place: str) -> int:
    """The number of row groups of a Parquet file, path or address; checks that it has a column of images."""
    with _table(place) as file:
        _image_column(file.schema_arrow.names, place)
        return file.num_row_groups


def read_row_group(place: str, group: int, name: str) -> Items:
    """The images of one row group; ``name/row`` are their ids.

    The image column holds bytes, paths, or ``{bytes, path}`` as of Hugging Face ``datasets``; labels are numbers or
    names, and the class names that ``datasets`` writes beside the table are used.

    Raises
    ------
    InputError
        No column has the name of a column of images, or it has other values.
    """
    with _table(place) as file:
        schema = file.schema_arrow
        image = _image_column(schema.names, place)
        label = next((column for column in _LABEL_COLUMNS if column in schema.names), None)
        table = file.read_row_group(group, columns=[image, *([label] if label else [])])
    names = _class_names(schema.metadata or {}, label)
    ids: list[str] = []
    blobs: list[Blob] = []
    refused: list[Quarantined] = []
    keys: list[str | None] = []
    labels = table[label].to_pylist() if label else [None] * len(table)
    for row, (cell, value) in enumerate(zip(table[image].to_pylist(), labels, strict=True)):
        blob, reason = _blob(cell, place)
        if blob is None:
            refused.append(Quarantined(f"{name}/{row}", reason))
            continue
        ids.append(f"{name}/{row}")
        blobs.append(blob)
        keys.append(_key(value, names))
    classes = names or tuple(sorted({key for key in keys if key is not None}, key=natural_key))
    index = {key: k for k, key in enumerate(classes)}
    numbers = np.array([UNLABELED if key is None else index.get(key, UNLABELED) for key in keys], dtype=np.int64)
    return Items(tuple(ids), tuple(blobs), numbers, tuple(classes), tuple(refused))


@contextmanager
def _table(place: str) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", "parquet")
    try:
        if remote_address(place):
            files, path = opened(place)
            with files.open(path, "rb") as raw, parquet.ParquetFile(raw) as file:
                yield file
        else:
            with parquet.ParquetFile(place) as file:
                yield file
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"Expected a Parquet file of images, '{place}' cannot be read as one: {reason}.") from None


def _image_column(names: list[str], place: str) -> str:
    column = next((name for name in _IMAGE_COLUMNS if name in names), None)
    if column is None:
        raise InputError(
            f"Expected a column of images called {quoted(_IMAGE_COLUMNS[:4])} or path in '{place}', "
            f"got {quoted(names)}."
        )
    return column


def _blob(cell: object, place: str) -> tuple[Blob | None, str]:
    """Return the image of a cell, or None and the reason."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return BytesBlob(cell), ""
    if not isinstance(cell, str) or not cell:
        return None, "the row holds no image"
    if remote_address(place):
        _, blob, reason = file_below(place.rsplit("/", 1)[0] + "/", cell)
        return blob, reason
    path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(place)), cell))
    reason = image_path_error(cell, path) or ""
    return (None, reason) if reason else (FileBlob(path), "")


def _key(value: object, names: tuple[str, ...]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value in ("", -1):
        return None
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else str(value)


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...]:
    """Names that Hugging Face ``datasets`` writes for a column of class numbers; () where there are none."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()
