"""Validation of ids, class names and labels, and matching of class names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.arrays import as_numpy
from modalign.core.display import is_encodable
from modalign.core.errors import InputError, argument
from modalign.core.name_matching import did_you_mean, is_blank, match_names, quoted

UNLABELED = -1
LARGEST = 2**31 - 1  # label; arrays of counts have an entry for each smaller one


def check_ids(ids: Any, n: int, *, repeated: bool = True) -> tuple[str, ...]:
    """Return the ids of n images as text; row numbers if there are none.

    Parameters
    ----------
    ids : object
        A list, tuple or array of text, or empty.
    n : int
        Number of images.
    repeated : bool, default=True
        Accept repeated ids, as views of one image have them.

    Raises
    ------
    InputError
        The ids are not text, or their number is not n.
    """
    if isinstance(ids, str):
        raise InputError(f"Expected ids to be {n} names of images, got one text '{ids}'; put it into a list.")
    found = tuple(as_objects(ids))
    wrong = next((entry for entry in found if not isinstance(entry, (str, Path))), None)
    if wrong is not None:
        raise InputError(
            f"Expected ids to be names of images, got {type(wrong).__name__} {wrong!r}; labels are given as "
            f"{argument('labels')}."
        )
    if len(found) not in (0, n):
        raise InputError(f"Expected as many ids as image vectors ({n}), got {len(found)}.")
    if not repeated and len(set(found)) < len(found):
        twice = next(name for name, times in Counter(found).items() if times > 1)
        raise InputError(
            f"Expected a name for each image, got '{twice}' for several; labels are given as {argument('labels')}."
        )
    return tuple(map(str, found or range(n)))


def as_objects(values: Any) -> Any:
    """Return a column of NumPy, pandas, polars or pyarrow as a list of Python objects, others as they are."""
    convert = next((name for name in ("to_pylist", "tolist", "to_list", "as_py") if hasattr(values, name)), None)
    return values if convert is None else getattr(values, convert)()


def check_names(names: object, what: str) -> tuple[str, ...]:
    """Return ``names`` as a tuple after checking that they are distinct and not empty.

    Parameters
    ----------
    names : object
        A list, tuple or array of text.
    what : str
        Name of the argument, for the message.

    Raises
    ------
    InputError
        A single string or a set was passed, or a name is blank, not text, not encodable, or repeated.
    """
    if isinstance(names, (str, bytes, Set)) or not isinstance(names, Iterable):
        raise InputError(f"Expected {what} to be a list of class names, got {type(names).__name__} {names!r:.60}.")
    found = tuple(as_objects(names))
    for name in found:
        if not isinstance(name, str) or is_blank(name):
            raise InputError(f"Expected every class name in {what} to be non-empty text, got {name!r}.")
    require_encodable(found, what)
    if len(set(found)) < len(found):
        twice = next(name for name, times in Counter(found).items() if times > 1)
        raise InputError(f"Expected every class name in {what} once, got '{twice}' twice.")
    return found


def require_encodable(names: Iterable[object], what: str) -> None:
    """Raise an :class:`InputError` for a class name that no file in UTF-8 can hold; ``what`` is where it is.

    Such names have half of a surrogate pair, as decoders with ``errors="surrogateescape"`` leave it.
    """
    wrong = next((name for name in names if isinstance(name, str) and not is_encodable(name)), None)
    if wrong is not None:
        raise InputError(
            f"Expected class names that UTF-8 can hold in {what}, got {wrong!r:.60}, which has half of a surrogate "
            "pair; rename the class."
        )


def places_of(wanted: Sequence[str], names: Sequence[str], expected: str, got: str = "got none for") -> list[int]:
    """Return the index of each of ``wanted`` in ``names``, by :func:`~modalign.core.name_matching.match_names`.

    Parameters
    ----------
    wanted, names : sequence of str
        Class names.
    expected, got : str
        Parts of the message before the missing names, such as "Expected text for every class of X".

    Raises
    ------
    InputError
        A name is missing (the message suggests the nearest one), or two names are different spellings of one.
    """
    found = match_names(wanted, names)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{expected}, {got} {quoted(missing, 3)}.{did_you_mean(missing[0], names)} "
            f"There {'is 1 name' if len(names) == 1 else f'are {len(names)} names'}: {quoted(names, 3)}."
        )
    if len(set(found.values())) < len(wanted):
        raise InputError(f"{expected}, got one name for two of them; write all class names alike.")
    place = {name: i for i, name in enumerate(names)}
    return [place[found[name]] for name in wanted]


def as_int64(labels: Any) -> np.ndarray:
    """Integers that came as Python objects as an array; raise an :class:`InputError` for one of more than 64 bits."""
    try:
        return np.array(labels.tolist(), dtype=np.int64)
    except OverflowError:
        largest = max(labels.flat, key=abs)
        raise InputError(f"Expected labels as integers of at most {LARGEST}, got {largest!s:.60}.") from None


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or a missing value of pandas."""
    if isinstance(value, np.ndarray):
        return False
    same = value == value
    return value is None or not isinstance(same, (bool, np.bool_)) or not same


def renumbered(labels: np.ndarray, own: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Convert ``labels`` from indices into ``own`` to indices into ``names``; −1 for a name not in ``names``."""
    known, place = match_names(own, names), {name: i for i, name in enumerate(names)}
    table = [place[known[name]] if name in known else UNLABELED for name in own]
    return np.array([*table, UNLABELED], dtype=np.int64)[labels]


def label_indices(labels: object, n: int, class_names: Sequence[str]) -> np.ndarray:
    """Return ``labels`` as (n,) int64 indices into ``class_names``, −1 where unknown.

    Raises
    ------
    InputError
        The labels are not integers, their number is not ``n``, or a label has no class name.
    """
    found = as_numpy(labels, "labels")
    if found.dtype.kind == "O" and all(
        isinstance(label, Integral) and not isinstance(label, bool) for label in found.flat
    ):
        found = as_int64(found)
    if isinstance(labels, (list, tuple)) and any(isinstance(label, bool) for label in labels):
        found = found.astype(bool)  # a list of truth values and numbers
    if found.dtype.kind not in "iu" and found.size:
        example = found.flatten()[:1].tolist()[0]
        advice = "in Python: class_names, labels = np.unique(labels, return_inverse=True)"
        if found.dtype.kind == "f":
            advice = "in Python: labels.astype(int) if all are whole numbers"
        raise InputError(
            f"Expected labels to be integers, indices into class_names or -1 where unknown, got {found.dtype} such as "
            f"{example!r:.60}; {advice}."
        )
    if found.shape != (n,):
        raise InputError(f"Expected as many labels as image vectors ({n}), got an array of shape {found.shape}.")
    if n and found.min() < UNLABELED:
        raise InputError(f"Expected labels of at least 0, or -1 where unknown, got {found.min()}.")
    if n and class_names and found.max() >= len(class_names):
        raise InputError(
            f"Expected a class name for every label, got label {found.max()} and {len(class_names)} class names."
        )
    if n and found.max() > LARGEST:
        raise InputError(f"Expected labels that count classes from 0, got {found.max()}; was -1 stored without a sign?")
    return found.astype(np.int64, copy=False)
