"""Classes of a fit: the label and the name of each column of the scores.

Labels, features and class text are matched by class names, in any order. Positions are used only if labels are integers
and nothing has names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from modalign.core.arrays import as_numpy
from modalign.core.errors import InputError, argument
from modalign.core.labels import UNLABELED, as_int64, check_names, is_missing, places_of, require_encodable
from modalign.core.name_matching import did_you_mean, is_blank, match_names, numeral, quoted


@dataclass(frozen=True, eq=False)
class Classes:
    """Columns of the scores.

    Attributes
    ----------
    labels : ndarray of shape (C,)
        Value of ``y`` for each class: integers, names, or other class labels of scikit-learn.
    names : tuple of str or None
        C names, or None if no input has names.
    """

    labels: np.ndarray
    names: tuple[str, ...] | None

    @classmethod
    def of_labels(cls, y: np.ndarray, own: Sequence[str]) -> Classes:
        """Classes that occur in ``y``, sorted, for fits without class text.

        Parameters
        ----------
        y : ndarray of shape (n,)
            Labels, −1 where unknown if they are integers.
        own : sequence of str
            The names that integers in ``y`` are indices into; may be empty.
        """
        labels = np.unique(y[y != UNLABELED] if y.dtype.kind in "iu" else y)
        if own and y.dtype.kind in "iu":
            _require_named(labels, own)
            return cls(labels, tuple(own[k] for k in labels))
        return cls(labels, tuple(labels.tolist()) if _is_text(labels) and len(labels) else None)

    @classmethod
    def of_text(cls, y: np.ndarray | None, own: Sequence[str], names: Sequence[str] | None, n_text: int) -> Classes:
        """One class per row of the class text, including classes without labels.

        Parameters
        ----------
        y : ndarray of shape (n,) or None
            Labels, or None.
        own : sequence of str
            The names that integers in ``y`` are indices into, each of them among ``names``; may be empty.
        names : sequence of str or None
            The names of the rows of text, those of ``own`` first and in their order; or None.
        n_text : int
            Rows of text.

        Raises
        ------
        InputError
            Names in ``y`` without names of the rows, floats, booleans, or integers that may mean either a row or a
            name.
        """
        if y is None or y.dtype.kind in "iu":
            if y is not None and not own:
                _require_rows(y, n_text)
                _require_unambiguous(y, names or ())
            return cls(np.arange(n_text), None if names is None else tuple(names))
        if not _is_text(y):
            raise InputError(
                f"Expected labels as integers, one for each row of text, or as class names, got {y.dtype}; "
                "y.astype(int) converts whole numbers."
            )
        if names is None:
            raise InputError(f"Expected the names of the rows of text, since y holds names ({_shown(y)}); {_advice()}.")
        return cls(np.array(names), tuple(names))

    def codes(self, y: np.ndarray, own: Sequence[str] = (), *, closed: bool = True) -> np.ndarray:
        """(n,) int64 columns of labels; −1 for images without a label.

        Parameters
        ----------
        y : ndarray of shape (n,)
            Labels: as in fitting, class names, or integers that are indices into ``own``.
        own : sequence of str, default=()
            The names that integers in ``y`` are indices into; may be empty.
        closed : bool, default=True
            Raise for labels of unknown classes; otherwise they get the column C, which is never predicted.
        """
        values, inverse = np.unique(y, return_inverse=True)
        integers = values.dtype.kind in "iu"
        names = self.names if _is_text(values) or (integers and len(own) > 0) else None
        if names is not None and integers:
            _require_named(values, own)
            known = match_names(own, names)
            spelled = [known.get(name, name) for name in own]
            values = np.array([spelled[k] if k != UNLABELED else "" for k in values], dtype=object)
        elif names is None and (
            _is_text(values) != _is_text(self.labels) or (values.dtype.kind == "b") > (self.labels.dtype.kind == "b")
        ):
            kind = "class names" if _is_text(self.labels) else f"labels of type {self.labels.dtype}"
            raise InputError(f"Expected {kind} as in fit, got {values.dtype} such as {_shown(values)}.")
        column = {label: k for k, label in enumerate(self.labels.tolist() if names is None else names)}
        unknown = UNLABELED if names is None else ""
        found = [UNLABELED if integers and v == unknown else column.get(v, len(column)) for v in values.tolist()]
        strangers = [v for v, k in zip(values.tolist(), found, strict=True) if k == len(column)]
        if strangers and (closed or names is not None):
            self._refuse(strangers, list(column))
        return np.array(found, dtype=np.int64)[inverse.reshape(-1)]

    def _refuse(self, strangers: list[Any], known: list[Any]) -> None:
        if isinstance(strangers[0], str):
            raise InputError(
                f"Expected labels among the {len(known)} class names, got {quoted(strangers, 3)}."
                f"{did_you_mean(strangers[0], known)} The names are {quoted(known, 3)}."
            )
        raise InputError(f"Expected labels among the fitted classes, got {strangers[:3]}.")


def read_labels(y: Any, n: int, rows: str = "per row of X") -> np.ndarray:
    """Return ``y`` as a NumPy array of n class labels.

    Raises
    ------
    InputError
        The number of labels is wrong, a label is missing (None or NaN), labels have mixed types or are not class
        labels, such as 0.5, or a label is −1.0, which is a class in scikit-learn but unlabeled here.
    """
    labels = as_numpy(y, "labels")
    if isinstance(y, (list, tuple)) and labels.ndim == 1:
        labels = np.array([label.item() if isinstance(label, Tensor) else label for label in y], dtype=object)
    if labels.ndim == 2 and labels.shape[1] == 1:
        from sklearn.utils.validation import column_or_1d  # here and below late: predictions do without scikit-learn

        labels = column_or_1d(labels, warn=True)
    if labels.shape != (n,):
        got = len(labels) if labels.ndim == 1 else f"labels of shape {labels.shape}"
        raise InputError(f"Expected one label {rows} ({n}), got {got}.")
    if labels.dtype.kind in "OTf":
        missing = next((i for i, label in enumerate(labels) if is_missing(label)), None)
        if missing is not None:
            raise InputError(
                f"Expected a label {rows}, got {labels[missing]} at {missing} (counted from 0); leave images without a "
                "label out, or give integers with -1 for them."
            )
    if labels.dtype.kind in "OT":
        labels = _of_one_kind(labels)
    if labels.dtype.kind == "U" and (blank := [i for i, label in enumerate(labels.tolist()) if is_blank(label)]):
        raise InputError(
            f"Expected a class name {rows}, got blank text at {blank[0]} (counted from 0); leave images "
            "without a label out."
        )
    if labels.dtype.kind == "U":
        require_encodable(np.unique(labels).tolist(), "y")
    if labels.dtype.kind in "mMcVS":
        raise InputError(f"Expected labels as integers or class names, got {labels.dtype}.")
    if labels.dtype.kind == "f" and (broken := labels[(labels != np.round(labels)) | np.isinf(labels)]).size:
        raise InputError(
            f"Expected labels as integers or class names, got {broken[0]}. Unknown label type: continuous "
            "numbers have no classes."
        )
    if labels.dtype.kind == "f" and (labels == UNLABELED).any():
        raise InputError("Expected integer labels where -1 marks unlabeled images, got floats; use y.astype(int).")
    return labels


def names_of_rows(classes: Sequence[str] | None, own: Sequence[str], n_text: int) -> tuple[str, ...] | None:
    """Return the names of the rows of text, or None if they are unknown.

    Parameters
    ----------
    classes : sequence of str or None
        Names passed with the text.
    own : sequence of str
        Names of the features. Without other names, their integer labels are row numbers of the text.
    n_text : int
        Rows of text.
    """
    if classes is not None:
        names = check_names(classes, "classes")
        if len(names) != n_text:
            raise InputError(f"Expected one name in classes for each of the {n_text} rows of text, got {len(names)}.")
        return names
    if own and len(own) != n_text:
        raise InputError(
            f"Expected a row of text for each of the {len(own)} class names of X, got {n_text} rows without names; "
            f"{_advice()}."
        )
    return tuple(own) or None


def order_of_rows(own: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the order of text rows with those of ``own`` first, in their order, then the others."""
    first = places_of(own, names, "Expected text for every class of the images")
    return first + [k for k in range(len(names)) if k not in set(first)]


def _require_named(labels: np.ndarray, own: Sequence[str]) -> None:
    wrong = labels[(labels < UNLABELED) | (labels >= len(own))]
    if len(wrong):
        raise InputError(
            f"Expected labels in 0…{len(own) - 1}, indices into the class names of X, or -1 for unlabeled, got "
            f"{wrong[0]}."
        )


def _require_rows(y: np.ndarray, n_text: int) -> None:
    known = y[y != UNLABELED]
    if len(known) and not 0 <= known.min() <= known.max() < n_text:
        raise InputError(
            f"Expected labels in 0…{n_text - 1}, one per row of text, or -1 for unlabeled; "
            f"got {known.min()}…{known.max()}."
        )


def _require_unambiguous(y: np.ndarray, names: Sequence[str]) -> None:
    """Integers are rows of text; where names are numbers too, no label may be the name of another row."""
    place = {number: k for k, name in enumerate(names) if (number := numeral(name)) is not None}
    for label in np.unique(y).tolist():
        if place.get(label, label) != label:
            raise InputError(
                f"Expected labels that mean one class, got {label}, which is row {label} of text and the name of row "
                f"{place[label]}; give y as names, such as '{names[place[label]]}', or text without names."
            )


def _of_one_kind(labels: np.ndarray) -> np.ndarray:
    """Labels that came as Python objects, or as text of variable length, as an array of their type."""
    truth = (bool, np.bool_)
    for kind, dtype in ((str, np.str_), (truth, np.bool_), (Integral, np.int64), (Real, np.float64)):
        if all(isinstance(label, kind) and (kind is truth or not isinstance(label, bool)) for label in labels):
            return as_int64(labels) if kind is Integral else np.array(labels.tolist(), dtype=dtype)
    found = " and ".join(sorted({type(label).__name__ for label in labels}))
    raise InputError(f"Expected labels of one kind, integers or class names, got {found}.")


def _is_text(values: np.ndarray) -> bool:
    return values.dtype.kind == "U" or (values.dtype.kind == "O" and all(isinstance(v, str) for v in values.flat))


def _advice() -> str:
    return f"give ClassText(vectors, class_names) as text, or {argument('classes')}, the names of the rows of text"


def _shown(values: np.ndarray) -> str:
    return quoted([str(v) for v in values[:3].tolist()], 2)
