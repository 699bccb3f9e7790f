"""COCO: one JSON file with images, categories and annotations; Roboflow exports one in every folder of a split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError
from modalign.data.interchange.labeled_rows import LabeledRow, listed, require_format
from modalign.data.inventory import Listing

ROBOFLOW = "_annotations.coco.json"
SPLITS = ("", "train", "valid", "val", "test")
"""Folders of an export, for each of which there may be such a file."""


def is_coco(content: object) -> bool:
    """Whether a JSON document has the keys of COCO."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def list_coco(documents: Sequence[tuple[str, Any, str]]) -> Listing:
    """The images of documents, given as (path, content, part), each beside its images.

    An image may have several annotations of one category, such as boxes; with several categories it is refused.
    """
    names: list[str] = []
    rows: list[tuple[str, object, str | None, str]] = []
    for path, content, part in documents:
        require_format(is_coco(content), "the keys images, annotations and categories of COCO", path)
        categories = _categories(content, path)
        names += [name for name in categories.values() if name not in names]
        rows += _rows(content, categories, path, part)
    used = {label for _, _, label, _ in rows}
    return listed(rows, "the COCO file", [name for name in names if name in used] if len(documents) else names)


def coco_document(rows: Sequence[LabeledRow], class_names: Sequence[str]) -> dict[str, Any]:
    """The document of images beside the file; an answer of a model has a ``score``."""
    annotations: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        if row.label is not None:
            entry = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": class_names.index(row.label) + 1}
            annotations.append(entry | ({"score": row.score} if row.score is not None else {}))
    return {
        "info": {"description": "classes of images"},
        "images": [
            {"id": i + 1, "file_name": row.name} | ({"split": row.part} if row.part else {})
            for i, row in enumerate(rows)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": annotations,
    }


def _categories(content: dict[str, Any], path: str) -> dict[Any, str]:
    found = {}
    for entry in content["categories"]:
        require_format(
            isinstance(entry, dict) and isinstance(entry.get("name"), str), "categories with a name", path, entry
        )
        found[entry.get("id")] = entry["name"]
    return found


def _rows(
    content: dict[str, Any], categories: dict[Any, str], path: str, part: str
) -> Iterator[tuple[str, object, str | None, str]]:
    labels: dict[Any, str] = {}
    for entry in content["annotations"]:
        known = isinstance(entry, dict) and entry.get("category_id") in categories and "image_id" in entry
        require_format(known, "annotations of an image and a known category", path, entry)
        name, image = categories[entry["category_id"]], entry["image_id"]
        if labels.setdefault(image, name) != name:
            raise InputError(
                f"Expected one category an image, '{path}' gives image {image} '{labels[image]}' and '{name}'; images "
                "of several classes cannot be used."
            )
    folder = os.path.dirname(os.path.abspath(path))
    for entry in content["images"]:
        file = entry.get("file_name") if isinstance(entry, dict) else None
        require_format(isinstance(file, str) and file, "images with a file_name", path, entry)
        name = f"{part}/{file}" if part else str(file)
        yield name, os.path.join(folder, str(file)), labels.get(entry.get("id")), part or entry.get("split", "")


def roboflow_documents(folder: str) -> list[Path]:
    """The COCO files of a Roboflow export, one in the folder or in each folder of a split."""
    return [path for part in SPLITS if (path := Path(folder, part, ROBOFLOW)).is_file()]
