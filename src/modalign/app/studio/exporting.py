"""Labels, predictions and the model as files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from modalign.app.studio.label_state import NONE
from modalign.app.studio.labeling import NO_CLASS
from modalign.app.studio.session import Session
from modalign.app.studio.sets.set_session import SetSession
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import UNLABELED
from modalign.core.files import make_folder, require_own_folder, write
from modalign.data.blobs import FileBlob
from modalign.data.tables import safe_cell

TABLES = ("labels.csv", "predictions.csv", "label-studio.json", "coco.json")
FOLDERS = "sorted"
_CARD = ".modalign-sorted"


def export_table(session: Session, name: str) -> bytes:
    """The content of one of :data:`TABLES`.

    ``labels.csv`` has ``path``, ``label``, ``split`` (test for the exam, else train), ``none_of_these`` and
    ``content``; :func:`~modalign.load_items` reads it. ``predictions.csv`` has a row per image and a column of
    probabilities per class. ``label-studio.json`` has tasks with choices, and predictions of images without a label.
    ``coco.json`` has an annotation with ``category_id`` per label, without a box.
    """
    with session.lock:
        if name == "labels.csv":
            return _labels_csv(session)
        if name == "predictions.csv":
            return _predictions_csv(session)
        if name == "label-studio.json":
            return _json(_tasks(session))
        if name == "coco.json":
            return _json(_coco(session))
    raise InputError(f"Expected one of {', '.join(TABLES)}, got '{name}'.")


def export_folders(session: Session) -> Path:
    """Place every labeled image in a folder of its class, below ``sorted`` in the folder of the session.

    Files are hard links if the file system allows it, else copies. The result of an earlier call is replaced.
    """
    if isinstance(session, SetSession):
        raise InputError("Expected one class per image to sort into folders, this studio has several; export a table.")
    with session.lock:
        names, labels = dict(session.labeling.state.names), session.labeling.labels.copy()
    target = session.labeling.log.folder / FOLDERS
    require_own_folder(target, "sorted images", _CARD, lambda name: False)
    write(make_folder(target) / _CARD, "")  # stays, so that a stopped export is replaced by the next one
    for entry in sorted(target.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _CARD:
            entry.unlink()
    folders = {number: _folder_name(name, number) for number, name in names.items()} | {NO_CLASS: "none of these"}
    taken: set[Path] = set()
    for row in np.flatnonzero(labels != UNLABELED).tolist():
        place = make_folder(target / folders[int(labels[row])])
        file = place / _file_name(session.labeling.ids[row])
        while file in taken:
            file = file.with_name(f"{session.labeling.contents[row][:6]}-{file.name}")
        taken.add(file)
        _put(session, row, file)
    return target


def _labels_csv(session: Session) -> bytes:
    labeling, several = session.labeling, isinstance(session, SetSession)
    rows = [["path", "labels" if several else "label", "split", "none_of_these", "content"]]
    for row in np.flatnonzero(labeling.labels != UNLABELED).tolist():
        names = _names(session, row)
        part = "test" if labeling.examined[row] else "train"
        none = "" if names else "yes"
        label = ";".join(names) or (";" if several else "")
        rows.append([_path(session, row), label, part, none, labeling.contents[row]])
    return _csv(rows)


def _names(session: Session, row: int) -> list[str]:
    """The classes of a labeled image; empty for none of them."""
    label, names = session.label_of(row), session.labeling.state.names
    if isinstance(label, int):
        return [names[label]]
    return [names[number] for number in label] if isinstance(label, list) else []


def _predictions_csv(session: Session) -> bytes:
    labeling, answers = session.labeling, session.answers
    names = [labeling.state.names[number] for number in answers.class_ids]
    rows: list[list[Any]] = [["path", "predicted", "probability", *(f"p:{name}" for name in names)]]
    for row in range(len(labeling)) if answers.method else ():
        P = answers.probabilities[row]
        best = int(P.argmax())
        predicted = _set_text(session, row) if isinstance(session, SetSession) else names[best]
        rows.append([_path(session, row), predicted, f"{P[best]:.6g}", *(f"{p:.6g}" for p in P)])
    return _csv(rows)


def _set_text(session: SetSession, row: int) -> str:
    """The predicted classes as a table has them."""
    return ";".join(session.labeling.state.names[number] for number in session.predicted_set(row)) or ";"


def _tasks(session: Session) -> list[dict[str, Any]]:
    """Tasks of Label Studio, for a project whose images come from local files."""
    labeling, answers, tasks = session.labeling, session.answers, []
    for row in range(len(labeling)):
        task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={quote(_name(session, row))}"}}
        if labeling.labels[row] != UNLABELED:
            names = _names(session, row) or ([] if isinstance(session, SetSession) else [NONE])
            task["annotations"] = [{"result": [_choice(names)] if names else []}]
            task["meta"] = {"exam": bool(labeling.examined[row])}
        elif answers.method and not labeling.reserved[row]:
            best = int(answers.probabilities[row].argmax())
            predicted = session.predicted_set(row) if isinstance(session, SetSession) else [answers.class_ids[best]]
            score = round(float(answers.probabilities[row, best]), 4)
            result = [_choice([labeling.state.names[number] for number in predicted])] if predicted else []
            task["predictions"] = [{"model_version": answers.method, "score": score, "result": result}]
        tasks.append(task)
    return tasks


def _choice(names: list[str]) -> dict[str, Any]:
    return {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": names}}


def _coco(session: Session) -> dict[str, Any]:
    labeling = session.labeling
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, int]] = []
    for row in np.flatnonzero(labeling.labels != UNLABELED).tolist():
        width, height = _size(session, row)
        image = {"id": row, "file_name": _name(session, row), "width": width, "height": height}
        images.append(image | {"exam": bool(labeling.examined[row])})
        label = session.label_of(row)
        for category in label if isinstance(label, list) else [label] if isinstance(label, int) else []:
            annotations.append({"id": len(annotations), "image_id": row, "category_id": category})
    categories = [{"id": number, "name": name} for number, name in labeling.state.names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _size(session: Session, row: int) -> tuple[int | None, int | None]:
    """Width and height from the header of the file; None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(session.gallery.items.read(row))) as image:
            return image.size
    except (UndecodableError, OSError, ValueError, Image.DecompressionBombError):
        return None, None


def _path(session: Session, row: int) -> str:
    """Where the image is; its id where it is no file."""
    blob = session.gallery.items.blobs[row]
    return _text(blob.path if isinstance(blob, FileBlob) else session.labeling.ids[row])


def _name(session: Session, row: int) -> str:
    """The image relative to the folder that was opened."""
    return _text(session.labeling.ids[row])


def _text(path: str | Path) -> str:
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _put(session: Session, row: int, file: Path) -> None:
    blob = session.gallery.items.blobs[row]
    if isinstance(blob, FileBlob):
        with suppress(OSError):  # another file system
            os.link(os.path.realpath(blob.path), file)
            return
    with suppress(UndecodableError):  # it is gone
        write(file, session.gallery.items.read(row))


def _folder_name(name: str, number: int) -> str:
    """Return a name that is valid on every file system and stays in its folder."""
    safe = re.sub(r"[\x00-\x1f<>:\"/\\|?*]", "_", name).strip(" .")[:100]
    return safe if safe and safe == name else f"{safe or 'class'} {number}"


def _file_name(name: str) -> str:
    return re.sub(r"[/\\]", "-", name.lstrip("/\\.")) or "image"


def _csv(rows: list[list[Any]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([safe_cell(cell) for cell in row] for row in rows)
    return stream.getvalue().encode("utf-8", "backslashreplace")


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
