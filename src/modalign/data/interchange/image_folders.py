"""``torchvision.datasets.ImageFolder`` and objects like it, and folders in the form of YOLO for classification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError
from modalign.data.interchange.labeled_rows import LabeledRow, file_names, file_stem, listed
from modalign.data.inventory import Listing

_YOLO_PARTS = {"train": "train", "validation": "val", "test": "test", "": "train"}


def is_image_folder(source: object) -> bool:
    """Whether an object has the ``samples`` and ``classes`` of an ImageFolder."""
    return isinstance(getattr(source, "samples", None), list) and hasattr(source, "classes")


def list_image_folder(source: Any) -> Listing:
    """Its images; ids are relative to its ``root`` where it has one. Transforms are not applied."""
    classes = [str(name) for name in source.classes]
    for sample in source.samples:
        if len(sample) != 2 or not isinstance(sample[1], int) or not 0 <= sample[1] < len(classes):
            raise InputError(
                f"Expected samples (path, class number below {len(classes)}) in the image folder, got {sample!r:.80}; "
                "make it with torchvision.datasets.ImageFolder."
            )
    root = os.fspath(getattr(source, "root", "") or "")
    rows = (
        (os.path.relpath(path, root).replace(os.sep, "/") if root else os.fspath(path), os.fspath(path), classes[k], "")
        for path, k in source.samples
    )
    return listed(rows, "the image folder", classes)


def refuse_boxes(folder: str) -> None:
    """Raise for an export of YOLO for detection, whose folders ``images`` and ``labels`` are no classes."""
    for place in (Path(folder), *(Path(folder, part) for part in ("train", "valid", "val", "test"))):
        labels = place / "labels"
        if (place / "images").is_dir() and labels.is_dir() and next(labels.rglob("*.txt"), None):
            raise InputError(
                f"Expected a folder per class, as YOLO has for classification, '{folder}' has boxes in '{labels}'; "
                "export it for classification, or as COCO."
            )


def write_yolo(rows: Sequence[LabeledRow], folder: Path) -> None:
    """:func:`write_class_folders` with ``train``, ``val`` and ``test``; images of no part are for training."""
    write_class_folders([replace(row, part=_YOLO_PARTS[row.part]) for row in rows], folder)


def write_class_folders(rows: Sequence[LabeledRow], folder: Path) -> None:
    """A folder of copies, ``CLASS/image.jpg`` or ``PART/CLASS/image.jpg``; images of no class are left out.

    ``torchvision.datasets.ImageFolder`` reads it or, where there are parts, the folder of one of them;
    ``load_dataset("imagefolder")`` reads the whole. With parts, images of no part are for training.
    """
    taken: set[str] = set()
    folders = {label: file_stem(label, taken) for label in dict.fromkeys(row.one for row in rows) if label}
    divided = any(row.part for row in rows)
    for row, name in zip(rows, file_names(rows), strict=True):
        if row.one is not None:
            place = folder / (row.part or "train" * divided) / folders[row.one]
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(row.blob.read())
