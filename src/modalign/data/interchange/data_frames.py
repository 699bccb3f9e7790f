"""Data frames of pandas and polars: a column of images, one of labels, one of parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np

from modalign.core.errors import InputError, require
from modalign.core.labels import UNLABELED, is_missing
from modalign.data.interchange.labeled_rows import Label, LabeledRow, listed, one_or_several, unique_name
from modalign.data.inventory import Listing
from modalign.data.names import quoted
from modalign.data.part_columns import find_parts
from modalign.data.tables import LABEL_COLUMNS, column_name, unused_columns

IMAGE_COLUMNS = (
    "image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "path", "file", "filename", "file_name",
    "filepath", "file_path", "image_path",
)  # fmt: skip

_COLLECTIONS = (list, tuple, Set)
"""Types of cells with all classes of an image, beside arrays."""

TableCells = tuple[list[str], Sequence[Sequence[str]], list[str], set[int]]
"""Header, rows of text, the id of each row, and the columns of images and ids."""


def is_frame(source: object) -> bool:
    """Whether an object is a data frame, of pandas or polars."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__") and hasattr(source, "shape")


def list_frame(frame: Any) -> Listing:
    """The images of a data frame; paths are relative to the current folder, ids are in a column ``id`` if any."""
    return list_columns(frame_columns(frame), "the data frame")


def frame_columns(frame: Any) -> dict[str, list[Any]]:
    """The columns of a data frame as lists."""
    return {str(name): _values(frame, name) for name in frame.columns}


def list_columns(columns: dict[str, list[Any]], what: str, classes: Sequence[str] = (), base: str = "") -> Listing:
    """The same of named lists of equal length."""
    header = list(columns)
    image, label = image_and_label(header, what)
    n = len(columns[image])
    ids, used = _ids(columns, image)
    cells: list[Any] = [None] * n if label is None else columns[label]
    if numbered := are_numbers(cells):
        cells = [None if is_missing(value) else int(value) for value in cells]
    if known := names_in_lists(cells):
        cells = [None if isinstance(value, Real) and value == UNLABELED else value for value in cells]
    labels = [label_of_cell(value, classes) for value in cells]
    rows = _texts(columns)
    what_column = None if label is None else header.index(label)
    part_of, of_parts = find_parts(header, rows, used | {what_column}, labeled=label is not None)
    parts = [part_of(row) for row in rows]
    of_rows = zip(ids, columns[image], labels, parts, strict=True)
    listing = listed(of_rows, what, classes, base, numbered=numbered, known=known)
    if note := unused_columns(header, rows, used | of_parts, what_column):
        listing.notes.append(note)
    return listing


def cells_of(columns: dict[str, list[Any]], what: str) -> TableCells | None:
    """The cells of named lists as a table of text has them, and the ids of the rows; None with a column of labels."""
    header = list(columns)
    image, label = image_and_label(header, what)
    if label is not None:
        return None
    ids, used = _ids(columns, image)
    taken = Listing()
    return header, _texts(columns), [unique_name(name, taken) for name in ids], used


def _ids(columns: dict[str, list[Any]], image: str) -> tuple[list[str], set[int]]:
    """The ids of the rows, and the columns that the images and the ids are in."""
    header = list(columns)
    own = next((name for name in header if column_name(name) == "id"), None)
    used = {header.index(name) for name in (image, own) if name is not None}
    if own is not None:
        return [str(value) for value in columns[own]], used
    return [_name(value, i) for i, value in enumerate(columns[image])], used


def _texts(columns: dict[str, list[Any]]) -> list[tuple[str, ...]]:
    """The rows of named lists, as text."""
    return list(zip(*([_cell_text(value) for value in cells] for cells in columns.values()), strict=True))


def image_and_label(columns: Sequence[str], what: str) -> tuple[str, str | None]:
    """The names of the columns of images and of labels; an InputError if there is none of images."""
    by_name = {column_name(name): name for name in reversed(columns)}
    image = next((by_name[name] for name in IMAGE_COLUMNS if name in by_name), None)
    if image is None:
        raise InputError(f"Expected a column named image, bytes or path in {what}, got {quoted(columns) or 'none'}.")
    return image, next((by_name[n] for n in LABEL_COLUMNS if n in by_name and by_name[n] != image), None)


def frame_of(rows: Sequence[LabeledRow]) -> Any:
    """A pandas DataFrame with ``id``, ``bytes``, ``label``, ``split`` and, of predictions, ``score``."""
    return require("pandas", "pandas").DataFrame(columns_of(rows))


def polars_frame_of(rows: Sequence[LabeledRow]) -> Any:
    """The same of polars."""
    return require("polars", "polars").DataFrame(columns_of(rows))


def columns_of(rows: Sequence[LabeledRow]) -> dict[str, list[Any]]:
    """The columns of :func:`frame_of` as lists; a label that is a set of classes is a list."""
    found: dict[str, list[Any]] = {
        "id": [row.name for row in rows],
        "bytes": [row.blob.read() for row in rows],
        "label": [list(row.label) if isinstance(row.label, tuple) else row.label for row in rows],
        "split": [row.part for row in rows],
    }
    return found | ({"score": [row.score for row in rows]} if any(row.score is not None for row in rows) else {})


def are_numbers(labels: Iterable[Any]) -> bool:
    """Whether labels are whole numbers, which count classes, and not text or truth values."""
    known = [value for value in labels if not is_missing(value)]
    return bool(known) and all(isinstance(v, Real) and not isinstance(v, bool) and float(v).is_integer() for v in known)


def _values(frame: Any, name: Any) -> list[Any]:
    column = frame[name]
    if hasattr(column, "columns"):
        raise InputError(f"Expected columns of different names in the data frame, got '{name}' twice; rename one.")
    return column.to_list() if hasattr(column, "to_list") else list(column)


def _cell_text(value: Any) -> str:
    """The value of a cell as a table of text has it; "" for what is missing or holds an image or a list."""
    scalar = isinstance(value, (str, bool, np.bool_, Real))
    return str(value) if scalar and not is_missing(value) else ""


def _name(value: object, i: int) -> str:
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and value else str(i)


def label_of_cell(value: Any, classes: Sequence[str]) -> Label:
    """The class of a cell, or of a collection all classes that the image shows; None of one of missing values or -1."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, _COLLECTIONS):
        names = (label_name(own, classes) for own in value if own != UNLABELED)
        return one_or_several((name for name in names if name is not None), empty=None if value else ())
    return label_name(value, classes)


def names_in_lists(cells: Iterable[Any]) -> set[str]:
    """The texts in cells that are collections, in which a number -1 means no label, and a text never does."""
    found = (value for value in cells if isinstance(value, (*_COLLECTIONS, np.ndarray)))
    return {own.strip() for value in found for own in value if isinstance(own, str)}


def label_name(value: Any, classes: Sequence[str]) -> str | None:
    """The class that a value names or, where ``classes`` are known, numbers; None where it is empty.

    −1 is empty too where ``classes`` are known; elsewhere the listing decides, by
    :meth:`~modalign.data.inventory.Listing.leave_unlabeled`.
    """
    if isinstance(value, (*_COLLECTIONS, dict)):
        raise InputError(f"Expected the name or the number of a class, got {value!r:.60}.")
    if is_missing(value) or (isinstance(value, str) and not value.strip()) or (classes and value == UNLABELED):
        return None
    if isinstance(value, str):
        return value if value in classes else value.strip()
    if classes:
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(value, (int, np.integer)) or not 0 <= value < len(classes):
            raise InputError(f"Expected labels in 0…{len(classes) - 1}, got {value!r:.60}.")
        return classes[int(value)]
    return str(value)
