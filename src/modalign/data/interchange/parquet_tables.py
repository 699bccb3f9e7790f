"""Parquet files with a column of images, as Hugging Face ``datasets`` writes them too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from modalign.core.errors import InputError, require
from modalign.data.interchange.data_frames import columns_of, list_columns
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
    columns = {name: table[name].to_pylist() for name in table.column_names}
    classes = dataset_class_names(table.schema.metadata)
    return list_columns(columns, f"'{path}'", classes, os.path.dirname(path))


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
