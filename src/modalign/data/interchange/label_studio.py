"""Label Studio: a JSON list of tasks, each with an image and the choices of its annotators; also as JSON-MIN."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from modalign.data.interchange.labeled_rows import (
    Label,
    LabeledRow,
    listed,
    one_or_several,
    path_inside,
    require_format,
)
from modalign.data.inventory import NO_LABEL, Listing

_OF_ANNOTATIONS = {"id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time"}
"""Keys of JSON-MIN that are neither data of the task nor its choices."""
_CHOICES = ("choice", "choices", "label", "class")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the name of a file that was uploaded


def is_label_studio(content: object) -> bool:
    """Whether a JSON document is a list of tasks."""
    if not isinstance(content, list) or not content or not all(isinstance(task, dict) for task in content):
        return False
    return all("data" in task for task in content) or all("annotation_id" in task for task in content)


def list_label_studio(content: Any, path: str) -> Listing:
    """The images of tasks, relative to the file; a task without an annotation is unlabeled.

    Addresses of a server or of a bucket stand for the file that their last parts name below the folder of the file,
    without the eight digits that Label Studio puts before the name of an uploaded file. Predictions are not labels.
    Several choices are a set of labels, and an annotation without a choice is an empty one where others have several.
    Annotators who disagree are an error.
    """
    rows = list(_rows(content if "data" in content[0] else _whole_tasks(content, path), path))
    if not any(isinstance(label, tuple) and label for _, _, label, _ in rows):
        rows = [(name, image, label or None, part) for name, image, label, part in rows]
    return listed(rows, f"'{path}'", known={NO_LABEL})


def label_studio_document(rows: Sequence[LabeledRow]) -> list[dict[str, Any]]:
    """Tasks with annotations, or with predictions and their ``score`` where a model gave the labels."""
    tasks = []
    for i, row in enumerate(rows):
        task: dict[str, Any] = {"id": i + 1, "data": {"image": row.name} | ({"split": row.part} if row.part else {})}
        if row.label is not None:
            choices = {"choices": list(row.names)}
            result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": choices}] * bool(row.names)
            if row.score is None:
                task["annotations"] = [{"result": result}]
            else:
                task["predictions"] = [{"model_version": "modalign", "score": row.score, "result": result}]
        tasks.append(task)
    return tasks


def _rows(content: Any, path: str) -> Iterator[tuple[str, object, Label, str]]:
    addresses: dict[str, str] = {}
    for task in content:
        data = task["data"]
        image = data.get("image") if isinstance(data, dict) else None
        if isinstance(data, dict) and image is None:
            image = next((v for v in data.values() if isinstance(v, str)), None)
        require_format(isinstance(image, str) and image, "tasks with an image", path, task)
        annotations = task.get("annotations") or []
        require_format(isinstance(annotations, list), "a list of annotations", path, annotations)
        given = [_choices(own, path) for own in annotations if not _was_skipped(own, path)]
        require_format(
            all(set(own) == set(given[0]) for own in given),
            f"annotators who agree on task {task.get('id', image)}; keep one annotation",
            path,
            given,
        )
        file = _local(str(image), path)
        other = addresses.setdefault(file, str(image))
        require_format(other == image, f"one image for each address; '{file}' stands for two", path, [other, image])
        label = one_or_several(given[0], empty=()) if given else None
        yield file, path_inside(file, path), label, str(data.get("split") or "")


def _whole_tasks(content: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """The tasks of JSON-MIN, which has an entry per annotation and the choices beside the data of the task."""
    key = _key_of_choices(content, path)
    tasks: dict[object, dict[str, Any]] = {}
    for number, entry in enumerate(content):
        own = {name: value for name, value in entry.items() if name not in _OF_ANNOTATIONS and name != key}
        value = {} if key is None else entry.get(key) or {}
        chosen = value.get("choices") or [] if isinstance(value, dict) else value
        chosen = [chosen] if isinstance(chosen, str) else chosen
        given = entry.get("id")
        require_format(given is None or isinstance(given, (int, str)), "ids that are numbers or text", path, entry)
        task = tasks.setdefault((number,) if given is None else given, {"id": given, "data": own, "annotations": []})
        task["annotations"].append({"result": [{"value": {"choices": chosen}}]})
    return list(tasks.values())


def _key_of_choices(content: list[dict[str, Any]], path: str) -> str | None:
    """The one key of all entries of JSON-MIN that holds the choices; None if none does.

    It is the key of objects with ``choices``, or else one with a usual name, or else the only one with text beside the
    image.
    """
    own = [(key, value) for entry in content for key, value in entry.items() if key not in _OF_ANNOTATIONS]
    images = ["image"] if any(key == "image" for key, _ in own) else [key for key, v in own if isinstance(v, str)][:1]
    own = [(key, value) for key, value in own if key not in (*images, "split")]
    lists = {key: None for key, value in own if isinstance(value, dict) and "choices" in value}
    named = {key: None for key, _ in own if key in _CHOICES}
    keys = list(lists or named or {key: None for key, value in own if isinstance(value, str)})
    require_format(len(keys) < 2, "one kind of choices, in a key such as 'choice'", path, keys)
    return keys[0] if keys else None


def _was_skipped(annotation: Any, path: str) -> bool:
    require_format(isinstance(annotation, dict), "annotations with a result", path, annotation)
    return bool(annotation.get("was_cancelled"))


def _choices(annotation: dict[str, Any], path: str) -> list[str]:
    found: list[str] = []
    results = annotation.get("result") or []
    require_format(isinstance(results, list), "annotations with a list of results", path, annotation)
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        choices = value.get("choices", []) if isinstance(value, dict) else None
        sound = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
        require_format(sound, "results with choices", path, result)
        found += choices or []
    return found


def _local(address: str, document: str) -> str:
    """The file of an address, relative to the folder of the document; an address without a file there as it is."""
    try:
        parts = urlsplit(address)
    except ValueError:  # such as http://[
        return address
    if parts.path == "/data/local-files/":
        name = parse_qs(parts.query).get("d", [address])[0]
    elif parts.path.startswith("/data/upload/") or (len(parts.scheme) > 1 and parts.netloc):
        name = unquote(parts.path.removeprefix("/data/upload/"))
    else:
        return address
    if parts.path == "/data/local-files/" and os.path.isabs(name):  # which is a place on this machine
        return name
    steps = [step for step in PurePosixPath(name).parts if step != "/"]
    ends = ["/".join(steps[k:]) for k in range(len(steps))]
    ends += [_UPLOADED.sub("", ends[-1])] if ends else []
    folder = os.path.dirname(os.path.abspath(document))
    there = (end for end in ends if ".." not in steps and os.path.isfile(os.path.join(folder, end)))
    return next(there, name if parts.path.startswith(("/data/upload/", "/data/local-files/")) else address)
