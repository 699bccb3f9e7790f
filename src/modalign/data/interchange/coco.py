"""COCO: one JSON file with images, categories and annotations; Roboflow exports one in every folder of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from modalign.data.interchange.labeled_rows import (
    Label,
    LabeledRow,
    listed,
    one_or_several,
    path_inside,
    require_format,
)
from modalign.data.inventory import Listing

ROBOFLOW = "_annotations.coco.json"
SPLITS = ("", "train", "valid", "val", "test")
"""Folders of an export, for each of which there may be such a file."""


def is_coco(content: object) -> bool:
    """Whether a JSON document has the keys of COCO."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def list_coco(documents: Sequence[tuple[str, Any, str]]) -> Listing:
    """The images of documents, given as (path, content, part), each in the folder of its images.

    An image may have several annotations of one category, such as boxes; with several categories it has a set of
    labels. Without any it is unlabeled, unless its ``neg_category_ids``, which LVIS has for categories that were looked
    for and not found, are all of them. An annotation with a ``score`` is a prediction and no label.
    """
    names: list[str] = []
    rows: list[tuple[str, object, Label, str]] = []
    stray = predicted = 0
    for path, content, part in documents:
        require_format(is_coco(content), "the keys images, annotations and categories of COCO", path)
        categories = _categories(content, path)
        names += [name for name in categories.values() if name not in names]
        labels = _labels(content, categories, path)
        images = _by_id(content, "images", path)
        rows += _rows(images, labels, path, part, frozenset(categories))
        stray += len(labels.keys() - images.keys())
        predicted += sum("score" in entry for entry in content["annotations"])
    used = {name for _, _, label, _ in rows for name in ((label,) if isinstance(label, str) else label or ())}
    what = " and ".join(f"'{path}'" for path, _, _ in documents)
    listing = listed(rows, what, [name for name in names if name in used] if len(documents) else names)
    if predicted:
        listing.notes.append(f"{predicted} annotations with a score are predictions and not read as labels")
    if stray:
        listing.notes.append(f"annotations of {stray} image ids that the COCO file does not list are left out")
    return listing


def coco_document(rows: Sequence[LabeledRow], class_names: Sequence[str]) -> dict[str, Any]:
    """The document of images in the folder of the file; an answer of a model has its ``score``.

    An image that is known to show none of the classes has all of them as ``neg_category_ids``.
    """
    annotations: list[dict[str, Any]] = []
    everything = [k + 1 for k in range(len(class_names))]
    for i, row in enumerate(rows):
        for place, name in enumerate(row.names):
            entry = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": class_names.index(name) + 1}
            annotations.append(entry | ({"score": row.scores[place]} if row.scores else {}))
    return {
        "info": {"description": "classes of images"},
        "images": [
            {"id": i + 1, "file_name": row.name}
            | ({"split": row.part} if row.part else {})
            | ({"neg_category_ids": everything} if row.label == () and row.score is None else {})
            for i, row in enumerate(rows)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": annotations,
    }


def _entries(content: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    entries = content[key]
    sound = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    require_format(sound, f"a list of objects as {key}", path, entries)
    return cast("list[dict[str, Any]]", entries)


def _by_id(content: dict[str, Any], key: str, path: str) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for entry in _entries(content, key, path):
        number = entry.get("id")
        require_format(isinstance(number, (int, str)), f"{key} with an id", path, entry)
        require_format(number not in found, f"every id once in {key}", path, number)
        found[cast("int | str", number)] = entry
    return found


def _categories(content: dict[str, Any], path: str) -> dict[int | str, str]:
    found = _by_id(content, "categories", path)
    for entry in found.values():
        require_format(isinstance(entry.get("name"), str), "categories with a name", path, entry)
    return {number: entry["name"] for number, entry in found.items()}


def _labels(content: dict[str, Any], categories: dict[int | str, str], path: str) -> dict[int | str, list[str]]:
    """Id of an image → names of its categories."""
    labels: dict[int | str, list[str]] = {}
    for entry in _entries(content, "annotations", path):
        image, category = entry.get("image_id"), entry.get("category_id")
        known = isinstance(image, (int, str)) and isinstance(category, (int, str)) and category in categories
        require_format(known, "annotations of an image and a known category", path, entry)
        own = labels.setdefault(cast("int | str", image), [])
        own += [categories[cast("int | str", category)]] * ("score" not in entry)
    return labels


def _rows(
    images: dict[int | str, dict[str, Any]],
    labels: dict[int | str, list[str]],
    path: str,
    part: str,
    categories: frozenset[int | str],
) -> Iterator[tuple[str, object, Label, str]]:
    for number, entry in images.items():
        file, own = entry.get("file_name"), entry.get("split") or ""
        require_format(isinstance(file, str) and file, "images with a file_name", path, entry)
        require_format(isinstance(own, str), "the split of an image as text", path, own)
        name = f"{part}/{file}" if part else str(file)
        absent = entry.get("neg_category_ids")
        none = isinstance(absent, list) and bool(categories) and all(k in absent for k in categories)
        label = one_or_several(labels.get(number, ()), empty=() if none else None)
        yield name, path_inside(str(file), path), label, part or own


def roboflow_documents(folder: str) -> list[Path]:
    """The COCO files of a Roboflow export, one in the folder or in each folder of a split."""
    return [path for part in SPLITS if (path := Path(folder, part, ROBOFLOW)).is_file()]
