"""Parquet files of images: bytes, or paths relative to the file, with or without labels."""

from __future__ import annotations

import os

import numpy as np

from modalign.core.features import Quarantined
from modalign.core.labels import UNLABELED
from modalign.data.blobs import Blob, BytesBlob, FileBlob, image_path_error
from modalign.data.interchange.data_frames import image_and_label
from modalign.data.interchange.parquet_tables import dataset_class_names, opened_parquet
from modalign.data.items import Items
from modalign.data.names import natural_key
from modalign.data.remote import remote_address
from modalign.data.remote_sources import file_below


def count_row_groups(place: str) -> int:
    """The number of row groups of a Parquet file, path or address; checks that it has a column of images."""
    with opened_parquet(place) as file:
        image_and_label(file.schema_arrow.names, f"'{place}'")
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
    with opened_parquet(place) as file:
        schema = file.schema_arrow
        image, label = image_and_label(schema.names, f"'{place}'")
        table = file.read_row_group(group, columns=[image, *([label] if label else [])])
    names = () if label is None else dataset_class_names(schema.metadata, label)
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
