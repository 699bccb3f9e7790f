"""What a format cannot hold of images and their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from modalign.core.display import n_images
from modalign.data.blobs import FileBlob
from modalign.data.interchange.labeled_rows import LabeledRow, file_stem
from modalign.data.names import quoted

FOLDERS_OF_CLASSES = ("imagefolder", "yolo")
DOCUMENTS = ("coco", "label_studio")
PREDICTIONS = (*DOCUMENTS, "fiftyone", "pandas", "polars", "datasets")
"""Formats whose answers of a model are not read as labels, and objects, which the caller has in hand."""
TABLES = ("parquet", "pandas", "polars")


def conversion_losses(rows: Sequence[LabeledRow], format: str, out: Path | None) -> list[str]:
    """Notes on what is read back otherwise, or not at all, from the rows in a format.

    Parameters
    ----------
    rows : sequence of LabeledRow
        The images.
    format : str
        As for :func:`~modalign.data.interchange.writing_labels.convert_labels`.
    out : Path or None
        Where the format is written.
    """
    notes = []
    parts = list(dict.fromkeys(row.part for row in rows if row.part))
    outside = sum(not row.part for row in rows)
    if parts and format == "fiftyone":
        notes.append(f"{format} has no parts, so that {quoted(parts)} are not told apart")
    if parts and outside and format in (*FOLDERS_OF_CLASSES, "roboflow"):
        notes.append(f"{n_images(outside)} of no part are written as images to learn from")
    if format in FOLDERS_OF_CLASSES:
        if unlabeled := sum(row.label is None for row in rows):
            notes.append(f"{n_images(unlabeled)} without a class are left out, since {format} has a folder per class")
        taken: set[str] = set()
        folders = {label: file_stem(label, taken) for label in dict.fromkeys(row.one for row in rows) if label}
        if renamed := [f"'{label}' as '{folder}'" for label, folder in folders.items() if label != folder]:
            more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
            notes.append(f"classes whose names cannot be folders: {', '.join(renamed[:3])}{more}")
    if format == "coco" and rows and not any(row.names for row in rows):
        notes.append("no image has a class, so that coco has no categories")
    names = {name for row in rows for name in row.names}
    if format in TABLES and len({name.strip() for name in names}) < len(names):
        notes.append("class names that differ by blanks around them are read as one")
    empty = sum(row.label == () for row in rows)
    if format in ("roboflow", "label_studio") and empty and not any(len(row.names) > 1 for row in rows):
        notes.append(f"{n_images(empty)} of none of the classes are written as {format} has images without labels")
    if format not in PREDICTIONS and any(row.score is not None for row in rows):
        notes.append(f"the answers of a model in {format} are read like labels")
    if format in DOCUMENTS and out is not None and (away := sum(not _is_beside(row, out) for row in rows)):
        notes.append(
            f"{away} of {n_images(len(rows))} are not at their names beside '{out}'; put it into the folder of the "
            "images, or copy them there"
        )
    return notes


def _is_beside(row: LabeledRow, document: Path) -> bool:
    """Whether the name of an image, from the folder of a document, leads to its file."""
    place = os.path.normpath(os.path.join(os.path.abspath(document.parent), row.name))
    return isinstance(row.blob, FileBlob) and os.path.normpath(os.path.abspath(row.blob.path)) == place
