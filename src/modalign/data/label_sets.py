"""Images that may show several classes: sources with a set of names per image, or a column per class."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import normpath
from typing import Any

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.core.files import plain_path, read_text
from modalign.core.label_matrix import SEPARATORS, UNKNOWN, check_separable, label_matrix, label_sets
from modalign.core.labels import places_of
from modalign.data.copies import learnable
from modalign.data.interchange.data_frames import TableCells
from modalign.data.interchange.parquet_tables import unlabeled_cells
from modalign.data.items import load_items, load_with_sets
from modalign.data.itemset import Items
from modalign.data.names import natural_key, quoted, read_classes
from modalign.data.part_columns import find_parts
from modalign.data.tables import (
    CLASS_CELLS,
    FIT_SETS,
    columns_per_class,
    path_column,
    plain_cells,
    posix_path,
    table_rows,
)

SEPARATOR = re.compile(f"[{SEPARATORS}]")
_SET_TABLES = (".csv", ".tsv", ".txt", ".lst", ".parquet", ".pq")
"""Endings of tables, whose labels may be names with a separator between them."""
MOSTLY = 0.75
"""Share of the cells of a column from which it is taken for one of a class, and its other cells for mistakes."""


@dataclass(frozen=True, eq=False)
class LabeledSets:
    """n images with the classes that they show.

    Attributes
    ----------
    items : Items
        The images, without labels of their own.
    matrix : ndarray of shape (n, C), int8
        1 shown, 0 not shown, −1 unknown.
    class_names : tuple of str
        C names, without ``;`` and ``|``.
    complete : bool, default=True
        Whether an image shows no other classes than these: True for sets of names, False for tables with columns.
    """

    items: Items
    matrix: np.ndarray
    class_names: tuple[str, ...]
    complete: bool = True

    def __post_init__(self) -> None:
        check_separable(self.class_names)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return (
            f"LabeledSets({len(self)} images, {len(self.class_names)} classes, {int((self.matrix == 1).sum())} labels)"
        )

    def select(self, indices: Any) -> LabeledSets:
        """The given images (indices, a mask or a slice) in that order."""
        rows = np.arange(len(self))[indices]
        return replace(self, items=self.items.select(indices), matrix=self.matrix[rows])

    def part(self, *names: str) -> LabeledSets:
        """The images of the named parts, such as ``"train"``."""
        return self.select(np.isin(self.items.parts, names))

    def for_classes(self, class_names: Sequence[str]) -> LabeledSets:
        """The same with the columns of other names, in their order; all of ``self`` must be among them.

        Raises
        ------
        InputError
            A class of these images is not among ``class_names``.
        """
        places = places_of(self.class_names, class_names, "Expected the classes of the images among those of the model")
        matrix = np.full((len(self), len(class_names)), UNKNOWN, dtype=np.int8)
        matrix[:, places] = self.matrix
        if self.complete:
            others = np.setdiff1d(np.arange(len(class_names)), places)
            known = (self.matrix != UNKNOWN).all(axis=1)
            matrix[np.ix_(known, others)] = 0
        return replace(self, matrix=matrix, class_names=tuple(class_names))


def load_label_sets(source: Any, *, labels: Any = None, classes: Any = None, split: Any = None) -> LabeledSets:
    """Images with the sets of classes that they show.

    =======================================  ===================================================================
    a table with a column of labels          names with ``;`` or ``|`` between them; ``;`` alone for no class, and an
                                             empty cell for an image with unknown labels
    a table with a column per class          1, 0 or −1 (or empty: unknown); other columns: the path, and the part;
                                             in data frames and Parquet only without a column of labels
    what other programs write                all categories, choices or listed classes of an image
    anything else that ``load_items`` takes  with ``labels``; a folder of class folders has one class per image
    =======================================  ===================================================================

    Parameters
    ----------
    source : object
        The images.
    labels : array-like of shape (n, C), sequence of sets of str, or None, default=None
        Labels in the order of the images, for lists and arrays.
    classes : sequence of str, path of a file of names, or None, default=None
        The class names and their order; by default those that occur, in natural order.
    split : object, default=None
        As for :func:`~modalign.load_items`.

    Raises
    ------
    InputError
        A source that cannot be read, a cell that is no label, a class name with ``;`` or ``|``, or labels that do
        not fit the images.

    Examples
    --------
    >>> from PIL import Image
    >>> from modalign.data.label_sets import load_label_sets
    >>> pictures = [Image.new("RGB", (8, 8)) for _ in range(3)]
    >>> load_label_sets(pictures, labels=[{"cat", "dog"}, {"dog"}, set()]).matrix
    array([[1, 1],
           [0, 1],
           [0, 0]], dtype=int8)
    """
    if isinstance(source, LabeledSets):
        return source
    names = () if classes is None else tuple(dict.fromkeys(read_classes(classes).values()))
    check_separable(names)
    if labels is not None:
        items = load_items(source, split=split)
        matrix, found = label_matrix(labels, names)
        if len(matrix) != len(items):
            raise InputError(f"Expected {argument('labels')} for {len(items)} images, got {len(matrix)} rows.")
        return LabeledSets(replace(items.unlabeled(), class_names=()), matrix, found)
    items, several = load_with_sets(source, split=split)
    columns = columns_of_classes(source, names)
    if columns is not None:
        return _of_columns(items, *columns, names)
    if isinstance(source, (str, os.PathLike)) and not several and Path(source).suffix.lower() not in _SET_TABLES:
        check_separable(items.class_names)  # which are no sets: a folder of images has one class
    return _of_names(items, names)


def note_on_sets(items: Items) -> tuple[str, ...]:
    """A note if labels of one class per image look like sets: some have a separator, and a part of one recurs."""
    found = [SEPARATOR.split(items.class_names[k]) for k in np.unique(items.labels[items.labels != UNLABELED])]
    times = Counter(part.strip() for parts in found for part in set(parts))
    joined = [parts for parts in found if len(parts) > 1]
    if len(joined) < 2 or not any(part.strip() and times[part.strip()] > 1 for parts in joined for part in parts):
        return ()
    return (
        f"{len(joined)} labels contain ';' or '|', such as '{';'.join(joined[0])}': several classes per image? "
        f"{FIT_SETS}",
    )


def learnable_sets(source: LabeledSets) -> LabeledSets:
    """The images to learn from, and those marked test; see :func:`~modalign.data.copies.learnable`.

    Copies with other labels are left out; of several with the same labels, one counts.

    Raises
    ------
    InputError
        No labeled image is left.
    """
    items = source.items
    if not (source.matrix != UNKNOWN).any():
        return source
    rows, codes = np.unique(source.matrix, axis=0, return_inverse=True)
    labels = np.where((source.matrix == UNKNOWN).all(axis=1), UNLABELED, codes.reshape(-1))
    parts = np.where(items.parts == "test", "test", "train" if items.division else "")  # all others are learned from
    kept = learnable(replace(items, labels=labels, class_names=_in_words(rows, source.class_names), parts=parts))
    matrix = np.full((len(kept), len(source.class_names)), UNKNOWN, dtype=np.int8)
    matrix[kept.labels != UNLABELED] = rows[kept.labels[kept.labels != UNLABELED]]
    return replace(source, items=replace(kept.unlabeled(), class_names=()), matrix=matrix)


def _in_words(rows: np.ndarray, class_names: Sequence[str]) -> tuple[str, ...]:
    """A text for each row of labels."""
    shown, unknown = label_sets(rows, class_names), label_sets((rows == UNKNOWN).astype(np.int8), class_names)
    return tuple(
        (";".join(names) or "none") + (f", unknown: {';'.join(others)}" if others else "")
        for names, others in zip(shown, unknown, strict=True)
    )


def _of_names(items: Items, names: Sequence[str]) -> LabeledSets:
    """Labels that are names with a separator between them."""
    split = [[part.strip() for part in SEPARATOR.split(name) if part.strip()] for name in items.class_names]
    found = names or sorted({name for parts in split for name in parts}, key=natural_key)
    matrix, found = label_matrix([None if k == UNLABELED else set(split[k]) for k in items.labels], found)
    return LabeledSets(replace(items, labels=np.full(len(items), UNLABELED), class_names=()), matrix, found)


def _of_columns(
    items: Items, header: list[str], rows: dict[str, list[str]], notes: Sequence[str], names: Sequence[str]
) -> LabeledSets:
    """Labels that are columns of a table."""
    matrix = np.full((len(items), len(header)), UNKNOWN, dtype=np.int8)
    for i, name in enumerate(items.ids):
        matrix[i] = [CLASS_CELLS[cell] for cell in rows[normpath(name)]]
    notes = (*(note for note in items.notes if not note.endswith(FIT_SETS)), *notes)
    own = replace(items, labels=np.full(len(items), UNLABELED), class_names=(), notes=notes)
    if names:
        places = places_of(names, header, "Expected a column for every class")
        return LabeledSets(own, matrix[:, places], tuple(names), complete=False)
    return LabeledSets(own, *label_matrix(matrix, header), complete=False)


def columns_of_classes(
    source: Any, wanted: Sequence[str] = ()
) -> tuple[list[str], dict[str, list[str]], list[str]] | None:
    """The class columns of a table, by path or id their cells, and notes; None for another source or without any.

    ``wanted`` are the names of the classes, if these are known. See
    :func:`~modalign.data.tables.columns_per_class`.
    """
    table = _csv_cells(source) if isinstance(source, (str, os.PathLike)) else None
    table = table or unlabeled_cells(source)
    if table is None:
        return None
    header, cells, names, used = table
    _, of_parts = find_parts(header, cells, used, labeled=False)
    columns = columns_per_class(header, cells, of_parts | used)
    if not columns:
        return None
    others = [k for k, title in enumerate(header) if title and k not in {*columns, *of_parts, *used}]
    others = [k for k in others if not wanted or header[k] in wanted]
    for k in others:
        _require_no_class(header[k], [(name, row[k]) for row, name in zip(cells, names, strict=True)])
    left = quoted([header[k] for k in others])
    notes = [f"not read as classes: {left}; a column of a class holds 1, 0, -1 or nothing"] if others else []
    found: dict[str, list[str]] = {}
    for row, name in zip(cells, names, strict=True):
        labels = [row[k] for k in columns]
        if found.setdefault(normpath(name), labels) != labels:
            raise InputError(
                f"Expected one row of labels per image, the table has two for '{name}' that differ; keep one."
            )
    return [header[k] for k in columns], found, notes


def _require_no_class(title: str, cells: Sequence[tuple[str, str]]) -> None:
    """Raise for a column that is one of a class but for a few cells; ``cells`` are (name of the image, text)."""
    filled = [(name, text) for name, text in cells if text]
    wrong = [(name, text) for name, text in filled if text not in CLASS_CELLS]
    if wrong and len(wrong) <= (1 - MOSTLY) * len(filled):
        name, text = wrong[0]
        raise InputError(
            f"Expected 1, 0, -1 or nothing in the column '{title}', as in most of its rows, got '{text:.60}' for "
            f"'{name}'; correct the cell, or name the {argument('classes')} without '{title}'."
        )


def _csv_cells(source: str | os.PathLike[str]) -> TableCells | None:
    """The cells of a CSV file; None for another source."""
    path = Path(plain_path(source))
    if path.suffix.lower() not in (".csv", ".tsv"):
        return None
    rows = [row for _, row in table_rows(read_text(path, "a table"), path)]
    where = path_column(rows[0]) if rows else None
    if where is None:
        return None
    header, *body = rows
    cells = [[cell.strip() for cell in row] + [""] * (len(header) - len(row)) for row in body if any(row)]
    names = [posix_path(name) for name in plain_cells([row[where] for row in cells])]
    return plain_cells([title.strip() for title in header]), cells, names, {where}
