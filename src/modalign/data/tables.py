"""Tables of paths: CSV and TSV with a header, and plain lists with one path a line."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from modalign.data.blobs import FileBlob, why_no_image
from modalign.data.listing import Listing, has_image_suffix
from modalign.data.names import natural_key, some
from modalign.errors import InputError
from modalign.files import read_text

_PATH_COLUMNS = ("path", "image", "file", "filename", "filepath", "file_name", "file_path", "image_path", "img", "id")
_LABEL_COLUMNS = ("class_name", "class", "label", "category", "target", "name")


def is_table(path: Path) -> bool:
    """Whether a file is read as a table of paths, by its ending."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt", ".lst")


def list_table(path: Path) -> Listing:
    """The images that a table names, relative to its own folder; those that are not there are quarantined.

    A row that repeats another is dropped; one image with two labels is an error, as it has one class here.
    """
    text = read_text(path, "a table")
    rows = _csv_rows(text, path) if path.suffix.lower() in (".csv", ".tsv") else _list_rows(text)
    listing = Listing()
    seen: dict[str, tuple[str | None, int]] = {}
    repeated = 0
    base = os.path.dirname(os.path.abspath(path))
    for line, name, label in rows:
        if name in seen:
            if seen[name][0] != label:
                raise InputError(
                    f"Expected one label an image, '{path.name}' gives '{name}' as '{seen[name][0]}' in line "
                    f"{seen[name][1]} and as '{label}' in line {line}."
                )
            repeated += 1
            continue
        seen[name] = (label, line)
        file = os.path.normpath(os.path.join(base, name))
        reason = why_no_image(name, file)
        if reason is None:
            listing.add(name, FileBlob(file), label)
        else:
            listing.refuse(name, reason)
    if listing.quarantined and not listing.ids:
        raise InputError(
            f"Expected the images of '{path}' relative to its folder '{base}', none is there, "
            f"such as {some([q.id for q in listing.quarantined], 2)}."
        )
    labels = {label for label, _ in seen.values() if label is not None}
    listing.classes = sorted(labels, key=natural_key)
    if repeated:
        listing.notes.append(f"dropped {repeated} repeated row{'s' if repeated > 1 else ''}")
    return listing


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, str, str | None]]:
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max("\t,;|", key=head.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        header = next(reader, [])
        names = [cell.strip().casefold() for cell in header]
        where = next((names.index(c) for c in _PATH_COLUMNS if c in names), None)
        if where is None and header and has_image_suffix(header[0]):  # no header: the first line is an image
            where, what = 0, 1 if len(header) > 1 else None
            reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
        elif where is None:
            raise InputError(
                f"Expected a column named path, image or file in '{path.name}', got {some(header) or 'an empty file'}."
            )
        else:
            what = next((names.index(c) for c in _LABEL_COLUMNS if c in names and names.index(c) != where), None)
        for row in reader:
            if row and len(row) > where and row[where].strip():
                label = row[what].strip() if what is not None and len(row) > what else ""
                yield reader.line_num, _posix(row[where]), label or None
    except csv.Error as error:
        raise InputError(f"Expected a table in '{path}', line {reader.line_num}: {error}.") from error


def _list_rows(text: str) -> Iterator[tuple[int, str, str | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = None if has_image_suffix(line.strip()) else re.match(r"(.+?\.\w+)[\s,;]+(\S.*)$", line.strip())
        if match and has_image_suffix(match[1]):
            yield number, _posix(match[1]), match[2].strip()
        else:
            yield number, _posix(line), None


def _posix(path: str) -> str:
    """Tables written on Windows have backslashes."""
    path = path.strip()
    return path.replace("\\", "/") if os.sep == "/" else path
