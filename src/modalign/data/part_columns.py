"""Columns of a table that mark images as training, validation or test images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from modalign.data.splits.division import part_called

_COLUMNS = ("split", "part", "subset", "set", "partition", "phase", "usage")
_TRUE, _FALSE = {"1", "true", "t", "yes", "y", "1.0"}, {"0", "false", "f", "no", "n", "0.0", ""}
_STRICTEST = ("test", "validation", "train")

PartOf = Callable[[Sequence[str]], str]


def find_parts(
    header: Sequence[str], rows: Sequence[Sequence[str]], others: Collection[int | None], *, labeled: bool = True
) -> tuple[PartOf, set[int]]:
    """Find the columns that specify the part of a row.

    The first match of: a column with a name such as "split" and at least one value that names a part; a column whose
    values all name parts, at least two different ones; yes/no columns named after parts, such as "is_test".

    Parameters
    ----------
    header : sequence of str
        Names of the columns, "" where there are none.
    rows : sequence of sequence of str
        The cells of every row.
    others : collection of int or None
        Columns with another meaning.
    labeled : bool, default=True
        Whether one of these has the labels. In a table without one, yes/no columns may be classes, of which one may be
        called "train", so that only a column called "is_train" names a part.

    Returns
    -------
    tuple of (callable, set of int)
        Function from a row to its part as spelled in the table, "" if it has none; and the indices of the columns.
    """
    names = [name.strip().casefold() for name in header]
    free = [k for k in range(len(names)) if k not in others]
    values = {k: {cell(row, k).casefold() for row in rows} for k in free}
    called = [k for name in _COLUMNS for k in free if names[k] == name]
    parts = {k: {part_called(value) for value in values[k] - {""}} for k in free}
    named = [k for k in called if parts[k] - {""}]
    named += [k for k in free if len(parts[k]) > 1 and "" not in parts[k]]
    yes_no = [k for k in free if values[k] <= _TRUE | _FALSE and values[k] & _TRUE]
    flags = {part: k for k in yes_no if (part := _flagged(names[k]))}
    if not labeled and len(flags) < len(yes_no):
        flags = {part: k for part, k in flags.items() if names[k].startswith("is")}
    if flags and not named:
        return partial(_by_flags, flags=flags), set(flags.values())
    if named or called:
        column = [*named, *called][0]
        return partial(cell, k=column), {column}
    return (lambda row: ""), set()


def cell(row: Sequence[str], k: int) -> str:
    """The text of a cell; "" where the row is too short."""
    return row[k].strip() if k < len(row) else ""


def _flagged(name: str) -> str:
    return part_called(name.replace(" ", "_").removeprefix("is_"))


def _by_flags(row: Sequence[str], flags: dict[str, int]) -> str:
    """Return the strictest part with "yes" in the row. With a single column, "no" means the other part."""
    for part in _STRICTEST:
        if part in flags and cell(row, flags[part]).casefold() in _TRUE:
            return part
    if "train" not in flags:
        return "train"
    return "test" if len(flags) == 1 else ""
