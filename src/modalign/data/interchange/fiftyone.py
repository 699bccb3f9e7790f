"""FiftyOne's format for classification: a folder ``data`` of images and ``labels.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modalign.core.errors import InputError
from modalign.core.files import read_json
from modalign.data.interchange.labeled_rows import Label, LabeledRow, file_names, listed, one_or_several, require_format
from modalign.data.inventory import Listing, has_image_suffix
from modalign.data.names import quoted

LABELS, IMAGES = "labels.json", "data"


def is_fiftyone(folder: str) -> bool:
    """Whether a folder has the two entries."""
    return (Path(folder) / LABELS).is_file() and (Path(folder) / IMAGES).is_dir()


def list_fiftyone(folder: str) -> Listing:
    """The images of ``data`` with the labels that the file has for their names without ending.

    A label with a ``confidence`` is a prediction and no label.
    """
    path = Path(folder) / LABELS
    content = read_json(path, "labels")
    classes = content.get("classes") if isinstance(content, dict) else None
    labels = content.get("labels") if isinstance(content, dict) else None
    require_format(isinstance(labels, dict), "a mapping of labels", path)
    sound = classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))
    require_format(sound, "a list of class names", path)
    assert isinstance(labels, dict)
    predicted = [name for name, value in labels.items() if _is_predicted(value)]
    labels = {name: None if _is_predicted(value) else value for name, value in labels.items()}
    files = sorted((Path(folder) / IMAGES).iterdir())
    _require_own_names([file for file in files if has_image_suffix(file.name)], labels, path)
    listing = listed(_rows(files, labels, classes or [], path), f"'{path}'", classes or [])
    stray = labels.keys() - {name for file in files for name in (file.name, file.stem)}
    if stray:
        listing.notes.append(f"the FiftyOne folder has no image for the labels of {quoted(sorted(stray))}")
    if predicted:
        listing.notes.append(f"{len(predicted)} labels with a confidence are predictions and not read as labels")
    return listing


def write_fiftyone(rows: Sequence[LabeledRow], class_names: Sequence[str], folder: Path) -> None:
    """Copies of the images and the file of labels; an answer of a model has its ``confidence``, a set is a list."""
    (folder / IMAGES).mkdir()
    labels: dict[str, Any] = {}
    for row, name in zip(rows, file_names(rows), strict=True):
        (folder / IMAGES / name).write_bytes(row.blob.read())
        if row.label is not None:
            numbers = [class_names.index(own) for own in row.names]
            own: Any = numbers if isinstance(row.label, tuple) else numbers[0]
            labels[PurePosixPath(name).stem] = own if row.score is None else {"label": own, "confidence": row.score}
    (folder / LABELS).write_text(json.dumps({"classes": list(class_names), "labels": labels}), encoding="utf-8")


def _is_predicted(value: Any) -> bool:
    return isinstance(value, dict) and value.get("confidence") is not None


def _require_own_names(files: Sequence[Path], labels: dict[str, Any], path: Path) -> None:
    """Raise where a label is for a name that several images have."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(file.stem, file.name)
        if other != file.name and file.stem in labels:
            raise InputError(
                f"Expected one image for each label in '{path}', '{file.stem}' is the name of '{other}' and of "
                f"'{file.name}'; rename one of them."
            )


def _rows(
    files: Sequence[Path], labels: dict[str, Any], classes: Sequence[str], path: Path
) -> Iterator[tuple[str, object, Label, str]]:
    for file in files:
        value = labels.get(file.stem, labels.get(file.name))
        value = value.get("label") if isinstance(value, dict) else value
        label: Label = None
        if isinstance(value, list):
            label = one_or_several((_class_name(own, classes, path) for own in value), empty=())
        elif value is not None:
            label = _class_name(value, classes, path)
        yield file.name, str(file), label, ""


def _class_name(value: Any, classes: Sequence[str], path: Path) -> str:
    value = value.get("label") if isinstance(value, dict) else value
    if isinstance(value, int) and not isinstance(value, bool):
        require_format(0 <= value < len(classes), f"labels below {len(classes)}", path, value)
        value = classes[value]
    require_format(isinstance(value, str), "a label as name or number", path, value)
    return str(value)
