"""Labels of images that show several classes: a matrix, or a set of names per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from modalign.core.arrays import as_numpy
from modalign.core.errors import InputError
from modalign.core.labels import as_objects, check_names, places_of, require_encodable
from modalign.core.name_matching import is_blank, quoted

ABSENT, PRESENT, UNKNOWN = 0, 1, -1
SEPARATORS = ";|"
"""Characters that separate the names of a set in files."""


def check_separable(names: Iterable[str]) -> None:
    """Raise an :class:`InputError` for class names with a character of :data:`SEPARATORS`.

    A file with sets of such names would be read back as sets of other classes.
    """
    if wrong := [name for name in names if set(name) & set(SEPARATORS)]:
        raise InputError(
            "Expected class names without ';' and '|', which separate the names of one image in files, got "
            f"{quoted(wrong, 3)}; rename the class."
        )


def label_matrix(labels: Any, class_names: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as a matrix with the names of its columns.

    Parameters
    ----------
    labels : array-like of shape (n, C), or sequence of sets of str
        1 for a class that the image shows, 0 for one that it does not show, −1 where that is unknown; or the names that
        each image shows, None for an image with unknown labels.
    class_names : sequence of str, default=()
        C names. Sets without it have the names that occur, sorted.

    Returns
    -------
    tuple of (ndarray of shape (n, C), tuple of str)
        int8, and C names, ``"0"``, ``"1"`` … for a matrix without names.

    Raises
    ------
    InputError
        Other values than 0, 1 and −1, a name that is not among ``class_names`` or that two columns have, or another
        number of names than columns. Named columns of a data frame are matched with ``class_names`` by name.

    Examples
    --------
    >>> from modalign.core.label_matrix import label_matrix
    >>> label_matrix([{"cat", "dog"}, set(), None])
    (array([[ 1,  1],
           [ 0,  0],
           [-1, -1]], dtype=int8), ('cat', 'dog'))
    """
    names = check_names(class_names, "class_names")
    if are_sets(labels):
        return _of_sets(_rows(labels), names)
    matrix = as_numpy(labels, "labels as a matrix or as a set of class names per image,")
    matrix = np.array(matrix.tolist()) if matrix.dtype.kind == "O" else matrix
    if columns := check_names(_column_names(labels), "the columns of labels"):
        names = names or columns
        places = places_of(names, columns, "Expected a column of labels for every class name")
        _refuse_unknown([name for k, name in enumerate(columns) if k not in places], names)
        matrix = matrix[:, places]
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf" or not np.isin(matrix, (ABSENT, PRESENT, UNKNOWN)).all():
        raise InputError(
            "Expected labels as a matrix (n, C) of 1 (shown), 0 (not shown) and -1 (unknown), or a set of class names "
            f"per image, got {_shown(matrix, labels)}."
        )
    names = names or tuple(map(str, range(matrix.shape[1])))
    if len(names) != matrix.shape[1]:
        raise InputError(f"Expected a name for each of {matrix.shape[1]} columns of labels, got {len(names)} names.")
    return matrix.astype(np.int8), names


def are_sets(labels: Any) -> bool:
    """Whether labels are a set of names per image, rather than a matrix."""
    return not _column_names(labels) and any(_is_set(row) for row in _rows(labels))


def label_sets(matrix: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """The names of the classes with 1 in each row of an (n, C) matrix."""
    return [tuple(class_names[k] for k in np.flatnonzero(row == PRESENT).tolist()) for row in matrix]


def _column_names(labels: Any) -> tuple[str, ...]:
    """The names of the columns of a data frame; none if they are numbers."""
    columns = getattr(labels, "column_names", None) or getattr(labels, "columns", ())
    names = tuple(as_objects(columns))
    return names if all(isinstance(name, str) for name in names) else ()


def _rows(labels: Any) -> list[Any]:
    """One entry per image, sets and lists as Python objects."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind != "O":
        return []
    return list(map(as_objects, labels))


def _is_set(row: object) -> bool:
    """Whether a row is a collection of names; an empty one may be."""
    if row is None or isinstance(row, (set, frozenset)):
        return True
    return isinstance(row, (list, tuple)) and (not row or all(isinstance(name, str) for name in row))


def _of_sets(rows: list[Any], names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    for row in rows:
        if not _is_set(row) or not all(isinstance(name, str) and not is_blank(name) for name in row or ()):
            raise InputError(f"Expected a set of class names for every image, or None, got {row!r:.60}.")
    occurring = _distinct(rows)
    if not names and _is_matrix_of_text(rows, occurring):
        raise InputError(
            "Expected labels as a matrix of numbers 0, 1 and -1, got these numbers as text; convert them to int, or "
            "give sets where they are names of classes."
        )
    require_encodable(occurring, "labels")
    names = names or tuple(sorted(occurring))
    _refuse_unknown([name for name in occurring if name not in names], names)
    place = {name: k for k, name in enumerate(names)}
    matrix = np.full((len(rows), len(names)), ABSENT, dtype=np.int8)
    for i, row in enumerate(rows):
        if row is None:
            matrix[i] = UNKNOWN
        else:
            matrix[i, [place[name] for name in row]] = PRESENT
    return matrix, names


def _refuse_unknown(unknown: Sequence[str], names: Sequence[str]) -> None:
    if unknown:
        raise InputError(f"Expected labels among the {len(names)} class names, got {quoted(unknown, 3)}.")


def _is_matrix_of_text(rows: Sequence[Any], occurring: Iterable[str]) -> bool:
    """Whether rows of one length, two at least, hold the entries of a matrix as text."""
    lengths = {len(row) if isinstance(row, (list, tuple)) else 0 for row in rows}
    return len(lengths) == 1 and min(lengths) > 1 and {str(v) for v in (ABSENT, PRESENT, UNKNOWN)}.issuperset(occurring)


def _distinct(rows: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row or ()))


def _shown(matrix: np.ndarray, rows: Any) -> str:
    if matrix.ndim == 2 and matrix.dtype.kind in "biuf":
        return f"values from {matrix.min()} to {matrix.max()}"
    return f"an array of shape {matrix.shape}" if isinstance(rows, np.ndarray) else f"{rows!r:.60}"
