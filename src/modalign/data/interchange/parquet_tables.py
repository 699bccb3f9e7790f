"""Parquet files with a column of images, as Hugging Face ``datasets`` writes them too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from modalign.core.errors import InputError, require
from modalign.data.interchange.data_frames import (
    TableCells,
    cells_of,
    columns_of,
    frame_columns,
    image_and_label,
    is_frame,
    list_columns,
)
from modalign.data.interchange.labeled_rows import LabeledRow
from modalign.data.inventory import Listing
from modalign.data.remote import opened, remote_address


def is_parquet(path: PurePath) -> bool:
    """Whether a file is read as Parquet, by its ending."""
    return path.suffix.lower() in (".parquet", ".pq")


@contextmanager
def opened_parquet(place: str) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile`` of a path or an address.

    Raises
    ------
    InputError
        It does not exist or is damaged, also if that is noticed while it is read.
    """
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
        raise InputError(
            f"Expected a Parquet file of images, '{place}' cannot be read as one: {reason.rstrip('.')}; write it again."
        ) from None


def list_parquet(path: str) -> Listing:
    """The images of a file, held in memory; paths are relative to it."""
    with opened_parquet(path) as file:
        table = file.read()
    columns = _lists(table)
    classes = dataset_class_names(table.schema.metadata)
    return list_columns(columns, f"'{path}'", classes, os.path.dirname(path))


def unlabeled_cells(source: Any) -> TableCells | None:
    """The cells of a data frame or a Parquet file without a column of labels; None for another source."""
    if is_frame(source):
        return cells_of(frame_columns(source), "the data frame")
    if not isinstance(source, (str, os.PathLike)) or not is_parquet(PurePath(source)):
        return None
    with opened_parquet(os.fspath(source)) as file:
        labeled = image_and_label(file.schema_arrow.names, f"'{source}'")[1] is not None
        return None if labeled else cells_of(_lists(file.read()), f"'{source}'")


def _lists(table: Any) -> dict[str, list[Any]]:
    return {name: table[name].to_pylist() for name in table.column_names}


def write_parquet(rows: Sequence[LabeledRow], file: IO[bytes]) -> None:
    """The columns ``id``, ``bytes``, ``label``, ``split`` and, of predictions, ``score``."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {"id": pyarrow.string(), "bytes": pyarrow.binary(), "label": pyarrow.string(), "split": pyarrow.string()}
    if any(isinstance(row.label, tuple) for row in rows):
        kinds["label"] = pyarrow.list_(pyarrow.string())
    columns = {
        name: pyarrow.array(values, kinds.get(name, pyarrow.float64())) for name, values in columns_of(rows).items()
    }
    parquet.write_table(pyarrow.table(columns), file)


def dataset_class_names(metadata: dict[bytes, bytes] | None, label: str | None = None) -> tuple[str, ...]:
    """The names that ``datasets`` writes beside a table for class numbers, () if there are none.

    They are those of the column ``label``, by default of the first such column.
    """
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        kinds = list(features.values()) if label is None else [features[label]]
        kinds = [kind.get("feature", kind) for kind in kinds]  # of a list
        return next(tuple(map(str, kind["names"])) for kind in kinds if kind.get("_type") == "ClassLabel")
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError):
        return ()
