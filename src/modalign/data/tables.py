"""Tables of paths: CSV and TSV with a header, and plain lists with one path per line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from modalign.core.errors import InputError
from modalign.core.files import read_text
from modalign.core.name_matching import join_alternatives
from modalign.data.blobs import Blob, FileBlob, find_image
from modalign.data.folders import divide_by_folders
from modalign.data.inventory import Listing, has_image_suffix
from modalign.data.names import natural_key, quoted
from modalign.data.part_columns import cell, find_parts
from modalign.data.remote import RemoteBlob, remote_address
from modalign.data.splits.division import part_called

PATH_COLUMNS = ("path", "image", "file", "filename", "filepath", "file_name", "file_path", "image_path", "img", "id")
LABEL_COLUMNS = ("class_name", "class", "label", "category", "target", "cls", "name", "labels", "classes", "tags")
CLASS_CELLS = {
    "1": 1, "0": 0, "-1": -1, "": -1, "1.0": 1, "0.0": 0, "-1.0": -1,
    "True": 1, "False": 0, "TRUE": 1, "FALSE": 0, "true": 1, "false": 0,
}  # fmt: skip
"""Cells of a column of a class, and what they say of an image: shown, not shown, unknown."""
FIT_SETS = "fit them with --multi-label (in Python adapt_multi_label)"
"""End of the notes on images that seem to show several classes, where one class per image was read."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def is_table(path: PurePath) -> bool:
    """Whether a file is read as a table of paths, by its ending."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt", ".lst")


Place = Callable[[str], tuple[str, Blob | None, str]]
"""Path in a row → identity of the file, the file, and the reason if it cannot be read."""


def list_table(path: Path, *, addresses: bool = False) -> Listing:
    """The images that a table names, relative to its own folder; those that are not there are quarantined.

    A column with "train", "val" or "test" divides the images; without one, folders of these names in the paths do. A
    row that repeats another is dropped, also if it spells the path in another way; one image with two labels or in two
    parts is an error. Addresses are read only with ``addresses``.
    """
    base = os.path.dirname(os.path.abspath(path))
    return list_rows(read_text(path, "a table"), path, base, partial(_file_at, base, addresses))


def _file_at(base: str, addresses: bool, name: str) -> tuple[str, Blob | None, str]:
    if addresses and (address := remote_address(name)):
        return address, RemoteBlob(address), ""
    file, reason = find_image(name, os.path.normpath(os.path.join(base, name)))
    return file, FileBlob(file) if reason is None else None, reason or ""


def list_rows(text: str, path: PurePath, base: str, place: Place) -> Listing:
    """Return the images of a table with content ``text`` and name ``path``; rows are relative to ``base``."""
    listing = Listing()
    rows = _csv_rows(text, path, listing) if path.suffix.lower() in (".csv", ".tsv") else _list_rows(text)
    seen: dict[str, tuple[str | None, str, int]] = {}
    repeated = 0
    for line, name, label, part in rows:
        if not name:
            listing.refuse(f"{path.name}, line {line}", "the row names no file")
            continue
        file, blob, reason = place(name)
        if file in seen:
            *before, first = seen[file]
            for what, old, new in zip(("label", "part"), before, (label, part), strict=True):
                if old != new:
                    raise InputError(
                        f"Expected one {what} per image, '{path.name}' gives '{name}' as '{old}' in line {first} and "
                        "as "
                        f"'{new}' in line {line}."
                    )
            repeated += 1
            continue
        seen[file] = (label, part, line)
        if blob is not None:
            listing.add(name, blob, label, part_called(part))
        else:
            listing.refuse(name, reason)
    if listing.quarantined and not listing.ids:
        raise InputError(
            f"Expected image files as '{path}' lists them, relative to its folder '{base}'; none of them is there: "
            f"{quoted([q.id for q in listing.quarantined], 2)}."
        )
    _divide(listing, {part for _, part, _ in seen.values()})
    labels = {label for label, _, _ in seen.values() if label is not None}
    listing.classes = sorted(labels, key=natural_key)
    listing.written = True
    if repeated:
        listing.notes.append(f"dropped {repeated} repeated row{'s' if repeated > 1 else ''}")
    return listing


def _divide(listing: Listing, values: set[str]) -> None:
    """Set what divides the images: the column of parts, if it contains any, else the folders."""
    if any(listing.parts):
        listing.division = listing.division or "a column of the table"
        if strange := sorted(value for value in values if value and not part_called(value)):
            listing.notes.append(f"the column of parts also holds {quoted(strange)}: these images are of no part")
    else:
        listing.division = ""
        if named := sorted(values - {""}):
            listing.notes.append(f"a column that could divide the images is not used, since it holds {quoted(named)}")
        divide_by_folders(listing)


def _csv_rows(text: str, path: PurePath, listing: Listing) -> Iterator[tuple[int, str, str | None, str]]:
    """(line, path, label, part as in the file) of every row; the listing gets what the columns say of themselves."""
    rows = table_rows(text, path)
    header = rows[0][1] if rows else []
    if header and has_image_suffix(header[0]):  # no header: the first line is an image
        where, header = 0, [""] * max(len(row) for _, row in rows)
        part_of, taken = find_parts(header, [row for _, row in rows], {where})
        what = next((k for k in range(1, len(header)) if k not in taken), None)
    else:
        where, what = _named_columns(header, path)
        rows = rows[1:]
        cells = [row for _, row in rows]
        part_of, of_parts = find_parts(header, cells, {where, what}, labeled=what is not None)
        if of_parts:
            listing.division = (
                f"the column{'s' if len(of_parts) > 1 else ''} {quoted([header[k] for k in sorted(of_parts)])}"
            )
        listing.notes += filter(None, [unused_columns(header, cells, {where} | of_parts, what)])
    rows = [(line, row) for line, row in rows if any(text.strip() for text in row)]
    names = plain_cells([cell(row, where) for _, row in rows])
    labels = plain_cells(["" if what is None else cell(row, what) for _, row in rows])
    for (line, row), name, label in zip(rows, names, labels, strict=True):
        yield line, posix_path(name), label or None, part_of(row)


def table_rows(text: str, path: PurePath) -> list[tuple[int, list[str]]]:
    """The lines and the cells of a table; an InputError if a quotation mark is not closed."""
    lines = [f"{line}\n" for line in text.split("\n")]  # and at no other sign, which names may hold
    delimiter = max("\t,;|", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"Expected a table in '{path}', line {reader.line_num}: {error}.") from error
    if rows and text.count('"') % 2 and any("\n" in cell for cell in rows[-1][1]):
        first = rows[-2][0] + 1 if len(rows) > 1 else 1
        raise InputError(f"Expected a table in '{path}', line {first}: a quotation mark is not closed.")
    return rows


def column_name(title: str) -> str:
    """The name of a column, regardless of case and blanks."""
    return title.strip().casefold().replace(" ", "_")


def path_column(header: list[str]) -> int | None:
    """Column of the paths, by the header."""
    names = [column_name(title) for title in header]
    return next((names.index(c) for c in PATH_COLUMNS if c in names), None)


def _named_columns(header: list[str], path: PurePath) -> tuple[int, int | None]:
    """Columns of the paths and the labels."""
    names = [column_name(title) for title in header]
    where = path_column(header)
    if where is None:
        raise InputError(
            f"Expected a column named path, image or file in '{path.name}', got {quoted(header) or 'an empty file'}."
        )
    return where, next((names.index(c) for c in LABEL_COLUMNS if c in names and names.index(c) != where), None)


def columns_per_class(header: Sequence[str], rows: Sequence[Sequence[str]], used: Set[int]) -> list[int]:
    """The columns of a table with a column per class: at least two with cells of :data:`CLASS_CELLS`, some not empty.

    ``used`` are those of paths, ids and parts.
    """
    found = [(k, {cell(row, k) for row in rows}) for k in range(len(header)) if k not in used]
    columns = [k for k, cells in found if cells <= set(CLASS_CELLS) and any(cells)]
    return columns if len(columns) > 1 else []


def unused_columns(header: Sequence[str], rows: Sequence[Sequence[str]], used: Set[int], what: int | None) -> str:
    """Return a note on columns that may hold the labels, where none does or another one does, or "".

    ``used`` are the columns of paths, ids and parts, ``what`` that of the labels.
    """
    names = [column_name(title) for title in header]
    if what is None:
        others = [name.strip() for k, name in enumerate(header) if k not in used and name.strip()]
        if columns := columns_per_class(header, rows, used):
            classes = quoted([header[k].strip() for k in columns])
            return f"the columns {classes} hold 1 and 0, a column per class: several classes per image? {FIT_SETS}"
        known = join_alternatives(LABEL_COLUMNS[:3])
        return (
            f"no column is called {known}, so all images are unlabeled; others are {quoted(others)}" if others else ""
        )
    for k, name in enumerate(names):
        if name in LABEL_COLUMNS and k != what and k not in used:
            pairs = {(row[what].strip(), row[k].strip()) for row in rows if len(row) > max(k, what)}
            if len(pairs) > min(len({pair[side] for pair in pairs}) for side in (0, 1)):
                return f"labels are those of column '{header[what].strip()}'; '{header[k].strip()}' holds others"
    return ""


def _list_rows(text: str) -> Iterator[tuple[int, str, str | None, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = None if has_image_suffix(line.strip()) else re.match(r"(.+?\.\w+)[\s,;]+(\S.*)$", line.strip())
        if match and has_image_suffix(match[1]):
            yield number, posix_path(match[1]), match[2].strip(), ""
        else:
            yield number, posix_path(line), None, ""


def safe_cell(value: Any) -> Any:
    """Return a cell of a CSV file that a spreadsheet does not read as a formula: with ``'`` before its first sign."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def plain_cells(texts: Sequence[str]) -> list[str]:
    """Return what :func:`safe_cell` was given, for the cells of a column.

    Cells that differ stay different: where they would not, the column was not written by it and is left as it is.
    """
    plain = [text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text for text in texts]
    return plain if len(set(plain)) == len(set(texts)) else list(texts)


def posix_path(path: str) -> str:
    """Tables written on Windows have backslashes."""
    path = path.strip()
    return path.replace("\\", "/") if os.sep == "/" else path
