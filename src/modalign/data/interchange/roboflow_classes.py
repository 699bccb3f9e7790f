"""Roboflow's export for classification: ``_classes.csv`` with a column of 0 and 1 for every class."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from modalign.core.files import read_text
from modalign.data.interchange.coco import SPLITS
from modalign.data.interchange.labeled_rows import (
    Label,
    LabeledRow,
    file_names,
    listed,
    one_or_several,
    path_inside,
    require_format,
)
from modalign.data.inventory import Listing

CLASSES = "_classes.csv"
_PARTS = {"validation": "valid", "": "train"}


def class_tables(folder: str) -> list[Path]:
    """The tables of an export, one in the folder or in each folder of a split."""
    return [path for part in SPLITS if (path := Path(folder, part, CLASSES)).is_file()]


def list_class_tables(paths: Sequence[Path], root: str) -> Listing:
    """The images of the tables, which are next to their table; the folder determines the part.

    An image with a 1 for several classes has a set of labels. One with 0 for all classes shows none where another has
    several, and is unlabeled elsewhere and where all cells are empty.
    """
    names: list[str] = []
    rows: list[tuple[str, object, Label, str]] = []
    for path in paths:
        part = "" if os.path.samefile(path.parent, root) else path.parent.name
        header, *lines = list(csv.reader(read_text(path, "a table").splitlines())) or [[]]
        sound = len(header) > 1 and header[0].strip().casefold() in ("filename", "file_name", "file")
        require_format(sound, "the columns filename and one for every class", path, header)
        own = [name.strip() for name in header[1:]]
        names += [name for name in own if name not in names]
        rows += _rows(lines, own, path, part)
    if not any(isinstance(label, tuple) and label for _, _, label, _ in rows):
        rows = [(name, image, label or None, part) for name, image, label, part in rows]
    return listed(rows, " and ".join(f"'{path}'" for path in paths), names)


def write_class_tables(rows: Sequence[LabeledRow], class_names: Sequence[str], folder: Path) -> None:
    """The images with a table in the folder of each part; images of no part are for training.

    The cells of an unlabeled image are empty.
    """
    by_part: dict[str, list[list[str]]] = {}
    for row, name in zip(rows, file_names(rows), strict=True):
        part = _PARTS.get(row.part, row.part)
        (folder / part).mkdir(exist_ok=True)
        (folder / part / name).write_bytes(row.blob.read())
        marks = ("" if row.label is None else str(int(own in row.names)) for own in class_names)
        by_part.setdefault(part, []).append([name, *marks])
    for part, lines in by_part.items():
        with open(folder / part / CLASSES, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["filename", *class_names], *lines])


def _rows(
    lines: Sequence[Sequence[str]], names: Sequence[str], path: Path, part: str
) -> Iterator[tuple[str, object, Label, str]]:
    for number, line in enumerate(lines, 2):
        if not any(cell.strip() for cell in line):
            continue
        require_format(len(line) == len(names) + 1, f"{len(names) + 1} columns in line {number}", path, len(line))
        marks = [cell.strip() for cell in line[1:]]
        shown = set(marks)
        require_format(
            shown <= {"0", "1"} or shown == {""}, f"0 and 1 in line {number}", path, sorted(shown - {"0", "1"})
        )
        of_line = (own for own, mark in zip(names, marks, strict=True) if mark == "1")
        label = one_or_several(of_line, empty=None if shown == {""} else ())
        name = f"{part}/{line[0]}" if part else line[0]
        yield name, path_inside(line[0], str(path)), label, part
