"""Label Studio: a JSON list of tasks, each with an image and the choices of its annotators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from modalign.data.inventory import Listing


def is_label_studio(content: object) -> bool:
    """Whether a JSON document is a list of tasks."""
    return isinstance(content, list) and bool(content) and all(isinstance(t, dict) and "data" in t for t in content)


def list_label_studio(content: Any, path: str) -> Listing:
    """The images of tasks, relative to the file; a task without an annotation is unlabeled.

    Predictions are not labels. Several choices are a set of labels, and an annotation without a choice is an empty one
    where others have several. Annotators who disagree are an error.
    """
    rows = list(_rows(content, path))
    if not any(isinstance(label, tuple) and label for _, _, label, _ in rows):
        rows = [(name, image, label or None, part) for name, image, label, part in rows]
    return listed(rows, f"'{path}'")


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
        file = _local(str(image))
        label = one_or_several(given[0], empty=()) if given else None
        yield file, path_inside(file, path), label, str(data.get("split") or "")


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


def _local(address: str) -> str:
    """The file that Label Studio serves locally, or the path itself."""
    if address.startswith("/data/local-files/"):
        return unquote(parse_qs(urlsplit(address).query).get("d", [address])[0])
    upload = "/data/upload/"
    return address.removeprefix(upload).lstrip("/") if address.startswith(upload) else address
