"""Export of predictions to CSV, JSON, Parquet or a pandas DataFrame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.errors import InputError, require
from modalign.core.files import check_writable, local_path, replacing, write
from modalign.core.name_matching import join_alternatives
from modalign.data.tables import safe_cell

if TYPE_CHECKING:
    import pandas

    from modalign.model.predictions import Predictions

FORMAT = "modalign-predictions-1"
OPTIONAL = ("rejected", "transductive")
"""Boolean columns, present only with rejection and for models that keep transductive answers."""
FIXED = ("id", "name", "probability", *OPTIONAL, "reason")
"""Columns before those of the classes."""


def check_output(path: str | Path) -> None:
    """Raise unless predictions can be written to ``path``: its ending, its folder, and what its format needs.

    Call it before the images are embedded.
    """
    if _writer(local_path(path)) is to_parquet:
        require("pyarrow.parquet", "parquet")
    check_writable(path)


def save(predictions: Predictions, path: str | Path) -> Path:
    """Write ``predictions`` in the format given by the ending of ``path``; see :func:`check_output`."""
    return _writer(local_path(path))(predictions, path)


def class_columns(class_names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the classes: their names, with ``class`` before a name that another column has."""
    taken, columns = set(FIXED), []
    for name in class_names:
        column = _encodable(name)
        while column in taken:
            column = f"class {column}"
        taken.add(column)
        columns.append(column)
    return tuple(columns)


def as_dict(predictions: Predictions, top: int | None = None) -> dict[str, Any]:
    """Return predictions as JSON values: all probabilities by class, or the ``top`` most probable of every image."""
    answers = zip(predictions, predictions.top(top or 1), predictions.probabilities, strict=True)
    return {
        "format": FORMAT,
        **predictions.origin,
        "classes": list(predictions.class_names),
        "predictions": [
            {"id": p.id, "name": p.name, "probability": p.probability}
            | {name: getattr(p, name) for name in OPTIONAL if getattr(predictions, name) is not None}
            | (
                {"probabilities": dict(zip(predictions.class_names, row.tolist(), strict=True))}
                if top is None
                else {"top": dict(best)}
            )
            for p, best, row in answers
        ],
        "quarantined": [vars(entry) for entry in predictions.quarantined],
    }


def to_json(predictions: Predictions, path: str | Path) -> Path:
    """Write :func:`as_dict` with all probabilities as one JSON file."""
    return write(path, json.dumps(as_dict(predictions), indent=1))


def to_csv(predictions: Predictions, path: str | Path) -> Path:
    """Write a CSV file in UTF-8, a row per image, with numbers that read back exactly.

    A text that a spreadsheet would take for a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
    return) or that begins with ``'`` gets one ``'`` before it; other readers remove it again.
    """
    text = _text_columns(predictions)
    blank = [""] * len(predictions.class_names)
    with replacing(path) as file:
        stream = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(stream)
        writer.writerow(map(safe_cell, [*text, *class_columns(predictions.class_names)]))
        for i, cells in enumerate(zip(*text.values(), strict=True)):
            numbers = predictions.probabilities[i].tolist() if i < len(predictions) else blank
            writer.writerow([*map(safe_cell, cells), *numbers])
        stream.flush()
        stream.detach()
    return local_path(path)


def to_parquet(predictions: Predictions, path: str | Path) -> Path:
    """Write a Parquet file with the columns of :func:`to_csv`, missing values as nulls, the origin as metadata."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {"probability": pyarrow.float64()} | dict.fromkeys(OPTIONAL, pyarrow.bool_())
    columns = {
        name: pyarrow.array(values, kinds.get(name, pyarrow.string()))
        for name, values in _text_columns(predictions).items()
    }
    numbers = _all_probabilities(predictions)
    for name, column in zip(class_columns(predictions.class_names), numbers.T, strict=True):
        columns[name] = pyarrow.array(column, from_pandas=True)  # NaN is null
    origin = {"modalign": json.dumps({"format": FORMAT, **predictions.origin})}
    with replacing(path) as file:
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata(origin), file)
    return local_path(path)


def to_frame(predictions: Predictions) -> pandas.DataFrame:
    """A DataFrame with the columns of :func:`to_csv`; needs pandas."""
    pandas = require("pandas", "pandas")
    numbers = _all_probabilities(predictions)
    names = class_columns(predictions.class_names)
    return pandas.DataFrame(_text_columns(predictions) | dict(zip(names, numbers.T, strict=True)))


_WRITERS: dict[str, Callable[[Predictions, str | Path], Path]] = {
    ".csv": to_csv,
    ".json": to_json,
    ".parquet": to_parquet,
}


def _writer(path: Path) -> Callable[[Predictions, str | Path], Path]:
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"Expected a file name that ends in {join_alternatives(_WRITERS)}, got '{path}'.")
    return _WRITERS[path.suffix.lower()]


def _text_columns(predictions: Predictions) -> dict[str, list[Any]]:
    """The fixed columns; images that could not be decoded come last, with a reason and without an answer."""
    left_out = [None] * len(predictions.quarantined)
    ids = [*predictions.ids, *(entry.id for entry in predictions.quarantined)]
    columns: dict[str, list[Any]] = {
        "id": [_encodable(name) for name in ids],
        "name": [*map(_encodable, predictions.names), *left_out],
        "probability": [*predictions.probabilities.max(axis=1).tolist(), *left_out],
    }
    for name in OPTIONAL:
        flags = getattr(predictions, name)
        if flags is not None:
            columns[name] = [*flags.tolist(), *left_out]
    columns["reason"] = [*[None] * len(predictions), *(entry.reason for entry in predictions.quarantined)]
    return columns


def _all_probabilities(predictions: Predictions) -> np.ndarray:
    """(n + q, C) probabilities, NaN for the q images that could not be decoded."""
    left_out = np.full((len(predictions.quarantined), len(predictions.class_names)), np.nan)
    return np.concatenate([predictions.probabilities, left_out])


def _encodable(text: str) -> str:
    """Return ``text`` without halves of surrogate pairs, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
