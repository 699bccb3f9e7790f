"""``torchvision.datasets.ImageFolder`` and objects like it, and folders in the form of YOLO for classification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.data.interchange.labeled_rows import LabeledRow, file_names, file_stem, listed
from modalign.data.inventory import Listing

YOLO_PARTS = {"train": "train", "validation": "val", "test": "test", "": "train"}


def is_image_folder(source: object) -> bool:
    """Whether an object has the ``samples`` and ``classes`` of an ImageFolder."""
    return isinstance(getattr(source, "samples", None), list) and hasattr(source, "classes")


def list_image_folder(source: Any) -> Listing:
    """Its images; ids are relative to its ``root`` where it has one. Transforms are not applied."""
    classes = [str(name) for name in source.classes]
    root = os.fspath(getattr(source, "root", "") or "")
    rows = (
        (os.path.relpath(path, root).replace(os.sep, "/") if root else os.fspath(path), os.fspath(path), classes[k], "")
        for path, k in source.samples
    )
    return listed(rows, "the image folder", classes)


def write_yolo(rows: Sequence[LabeledRow], folder: Path) -> None:
    """A folder of copies, ``train/CLASS/image.jpg``; images of no part are for training, those of no class left out."""
    taken: set[str] = set()
    folders = {label: file_stem(label, taken) for label in dict.fromkeys(row.label for row in rows) if label}
    for row, name in zip(rows, file_names(rows), strict=True):
        if row.label is not None:
            place = folder / YOLO_PARTS[row.part] / folders[row.label]
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(row.blob.read())
