"""Results of the exam in the form that the page uses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from modalign.app.studio.exam import ExamResult
from modalign.evaluate.metrics import Accuracy
from modalign.evaluate.paired import Comparison


def confusion_cells(truth: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """[class, predicted class, number] of labeled exam images, as far as the number is not 0."""
    if not len(truth):
        return []
    cells, counts = np.unique(np.column_stack([truth, predicted]), axis=0, return_counts=True)
    return [[int(t), int(p), int(n)] for (t, p), n in zip(cells, counts, strict=True)]


def exam_entries(result: ExamResult) -> dict[str, Any]:
    """The result of an exam as plain values."""
    return {"answered": result.answered, "none": result.none, "accuracy": _numbers(result.accuracy),
            "gain": _numbers(result.gain)}  # fmt: skip


def _numbers(found: Accuracy | Comparison | None) -> dict[str, Any] | None:
    return None if found is None else {field.name: getattr(found, field.name) for field in fields(found)}
