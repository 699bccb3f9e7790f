"""Parquet files with a column of images, as Hugging Face ``datasets`` writes them too."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import IO, Any

from modalign.core.errors import InputError, require
from modalign.data.interchange.data_frames import columns_of, list_columns
from modalign.data.interchange.labeled_rows import LabeledRow
from modalign.data.inventory import Listing


def is_parquet(path: PurePath) -> bool:
    """Whether a file is read as Parquet, by its ending."""
    return path.suffix.lower() in (".parquet", ".pq")


def list_parquet(path: str) -> Listing:
    """The images of a file, held in memory; paths are relative to it."""
    parquet = require("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"Expected a Parquet file of images, '{path}' cannot be read as one: {reason}.") from None
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return list_columns(columns, f"'{os.path.basename(path)}'", _class_names(table), os.path.dirname(path))


def write_parquet(rows: Sequence[LabeledRow], file: IO[bytes]) -> None:
    """The columns ``id``, ``bytes``, ``label``, ``split`` and, of predictions, ``score``."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {"id": pyarrow.string(), "bytes": pyarrow.binary(), "label": pyarrow.string(), "split": pyarrow.string()}
    columns = {
        name: pyarrow.array(values, kinds.get(name, pyarrow.float64())) for name, values in columns_of(rows).items()
    }
    parquet.write_table(pyarrow.table(columns), file)


def _class_names(table: Any) -> tuple[str, ...]:
    """The names of class numbers that ``datasets`` writes beside a table; () where there are none."""
    try:
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        return next(tuple(map(str, kind["names"])) for kind in features.values() if kind.get("_type") == "ClassLabel")
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError):
        return ()
