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
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import UNLABELED
from modalign.core.files import make_folder, require_own_folder, write
from modalign.data.blobs import FileBlob
from modalign.data.itemset import Items
from modalign.model.adaptation import adapt
from modalign.model.exports import safe_cell

TABLES = ("labels.csv", "predictions.csv", "label-studio.json", "coco.json")
FOLDERS, MODEL, FINAL = "sorted", "model", "model-with-exam"
SECONDS = 20.0  # for choosing the method of the saved model
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
    with session.lock:
        names, labels = dict(session.labeling.state.names), session.labeling.labels.copy()
    target = session.labeling.log.folder / FOLDERS
    require_own_folder(target, "sorted images", _CARD, lambda name: False)
    shutil.rmtree(target, ignore_errors=True)
    write(make_folder(target) / _CARD, "")
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


def save_session_model(session: Session, *, with_exam: bool = False) -> Path:
    """Fit a classifier to the labels, without those of the exam, and save it in ``model`` in the folder of the session.

    Its record has the accuracy of the answers that the page shows on the exam. ``with_exam`` fits to the exam labels
    too and saves in ``model-with-exam``; the accuracy in its record is then that of a model without them.
    """
    with session.lock:
        labeling, names = session.labeling, session.labeling.state.names
        taught = labeling.labels >= 0 if with_exam else labeling.taught
        rows, exam = np.flatnonzero(taught), session.exam()
        numbers, title = labeling.labels[rows], session.answers.method
    if not len(rows):
        raise InputError("Expected labeled images to fit a model to, got none; label some first.")
    ids = list(names)
    items = session.gallery.items.select(rows)
    columns = [ids.index(number) for number in numbers.tolist()]
    template = session.settings.templates
    items = Items(items.ids, items.blobs, np.array(columns), tuple(names.values()))  # no part of the source counts
    model = adapt(
        items, encoder=session.encoder, templates=template, random_state=session.settings.seed, seconds=SECONDS
    )
    accuracy = exam.accuracy
    model.record["exam"] = {
        "answers_of": title,
        "learned_from": with_exam,
        "images": exam.answered,
        "none_of_these": exam.none,
        "accuracy": None if accuracy is None else accuracy.top1,
        "low": None if accuracy is None else accuracy.low,
        "high": None if accuracy is None else accuracy.high,
    }
    return model.save(session.labeling.log.folder / (FINAL if with_exam else MODEL))


def _labels_csv(session: Session) -> bytes:
    labeling = session.labeling
    rows = [["path", "label", "split", "none_of_these", "content"]]
    for row in np.flatnonzero(labeling.labels != UNLABELED).tolist():
        number = int(labeling.labels[row])
        name = "" if number == NO_CLASS else labeling.state.names[number]
        part = "test" if labeling.examined[row] else "train"
        none = "yes" if number == NO_CLASS else ""
        rows.append([_path(session, row), name, part, none, labeling.contents[row]])
    return _csv(rows)


def _predictions_csv(session: Session) -> bytes:
    labeling, answers = session.labeling, session.answers
    names = [labeling.state.names[number] for number in answers.class_ids]
    rows: list[list[Any]] = [["path", "predicted", "probability", *(f"p:{name}" for name in names)]]
    for row in range(len(labeling)) if answers.method else ():
        P = answers.probabilities[row]
        best = int(P.argmax())
        rows.append([_path(session, row), names[best], f"{P[best]:.6g}", *(f"{p:.6g}" for p in P)])
    return _csv(rows)


def _tasks(session: Session) -> list[dict[str, Any]]:
    """Tasks of Label Studio, for a project whose images come from local files."""
    labeling, answers, tasks = session.labeling, session.answers, []
    for row in range(len(labeling)):
        number = int(labeling.labels[row])
        task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={quote(_name(session, row))}"}}
        if number != UNLABELED:
            name = NONE if number == NO_CLASS else labeling.state.names[number]
            task["annotations"] = [{"result": [_choice(name)]}]
            task["meta"] = {"exam": bool(labeling.examined[row])}
        elif answers.method and not labeling.reserved[row]:
            best = int(answers.probabilities[row].argmax())
            name = labeling.state.names[answers.class_ids[best]]
            score = round(float(answers.probabilities[row, best]), 4)
            task["predictions"] = [{"model_version": answers.method, "score": score, "result": [_choice(name)]}]
        tasks.append(task)
    return tasks


def _choice(name: str) -> dict[str, Any]:
    return {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [name]}}


def _coco(session: Session) -> dict[str, Any]:
    labeling = session.labeling
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, int]] = []
    for row in np.flatnonzero(labeling.labels != UNLABELED).tolist():
        width, height = _size(session, row)
        image = {"id": row, "file_name": _name(session, row), "width": width, "height": height}
        images.append(image | {"exam": bool(labeling.examined[row])})
        if labeling.labels[row] != NO_CLASS:
            category = int(labeling.labels[row])
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
