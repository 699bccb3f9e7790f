"""Predictions and evaluation results of a multi-label classifier."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.display import SHOWN, html_table, shorten_repr, text_table
from modalign.core.errors import InputError
from modalign.core.features import Quarantined
from modalign.core.files import local_path, write
from modalign.core.label_matrix import label_sets
from modalign.data.tables import safe_cell
from modalign.evaluate.multi_label_metrics import MultiLabelScores
from modalign.model.exports import class_columns

FORMAT = "modalign-multi-label-predictions-1"


@dataclass(frozen=True, eq=False)
class MultiLabelPredictions:
    """Predictions for many images.

    Attributes
    ----------
    ids, class_names : tuple of str
        The n images and the C classes.
    probabilities : ndarray of shape (n, C)
        Probability that an image shows a class; rows need not sum to 1.
    answers : ndarray of shape (n, C), int8
        1 where the probability reaches the threshold of the class.
    quarantined : tuple of Quarantined, default=()
        Images that cannot be decoded, with reasons.
    origin : mapping
        The version, the encoder and the model that the answers come from.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    answers: np.ndarray
    quarantined: tuple[Quarantined, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sets(self) -> list[tuple[str, ...]]:
        """The classes of each image, the most probable first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return [
            tuple(self.class_names[k] for k in best if shown[k])
            for best, shown in zip(order, self.answers, strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        rows = zip(self.ids, self.sets, self.probabilities.tolist(), strict=True)
        return {
            "format": FORMAT,
            **self.origin,
            "classes": list(self.class_names),
            "predictions": [
                {"id": name, "classes": list(shown), "probabilities": dict(zip(self.class_names, row, strict=True))}
                for name, shown, row in rows
            ],
            "quarantined": [vars(entry) for entry in self.quarantined],
        }

    def save(self, path: str | Path) -> Path:
        """Write all predictions to a ``.csv`` or ``.json`` file, atomically.

        A CSV file has a row per image with ``id``, ``classes`` (names with ``;`` between them, ``;`` alone for none),
        ``reason`` and the probability of every class.
        """
        path = local_path(path)
        check_multi_label_output(path)
        if path.suffix.lower() == ".json":
            return write(path, json.dumps(self.as_dict(), indent=1))
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow([safe_cell(name) for name in ("id", "classes", "reason", *class_columns(self.class_names))])
        for name, shown, row in zip(self.ids, self.sets, self.probabilities.tolist(), strict=True):
            writer.writerow([safe_cell(name), safe_cell(";".join(shown) or ";"), "", *row])
        for entry in self.quarantined:
            writer.writerow([safe_cell(entry.id), "", safe_cell(entry.reason), *[""] * len(self.class_names)])
        return write(path, stream.getvalue())

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and a row per image."""
        place = {name: k for k, name in enumerate(self.class_names)}
        rows = []
        for i, (name, shown) in enumerate(zip(self.ids, self.sets, strict=True)):
            words = [f"{c} {100 * self.probabilities[i, place[c]]:.1f} %" for c in shown]
            rows.append([name, ", ".join(words) or "–"])
        return ["image", "classes"], rows

    def __repr__(self) -> str:
        shown = self.answers.sum(axis=0)
        first = np.argsort(-shown, kind="stable")[:3]
        counts = ", ".join(f"{shorten_repr(self.class_names[k])} {shown[k]}" for k in first)
        return f"MultiLabelPredictions({len(self)} images, {len(self.class_names)} classes: {counts})"

    def __str__(self) -> str:
        header, rows = self.table
        more = f"\n… {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        return f"{text_table(header, rows[:SHOWN])}{more}"

    def _repr_html_(self) -> str:
        header, rows = self.table
        return html_table(repr(self), header, rows[:SHOWN], total=len(rows))


def check_multi_label_output(path: str | Path) -> None:
    """Raise unless the ending of a file of answers is known."""
    if Path(path).suffix.lower() not in (".csv", ".json"):
        raise InputError(f"Expected a file name that ends in .csv or .json, got '{path}'.")


@dataclass(frozen=True, eq=False)
class MultiLabelEvaluation:
    """Evaluation of a multi-label classifier on labeled images.

    Attributes
    ----------
    scores : MultiLabelScores
        Metrics with intervals.
    ids, class_names : tuple of str
        The n images tested on, and the C classes.
    labels : ndarray of shape (n, C)
        1, 0, −1 for unknown.
    probabilities : ndarray of shape (n, C)
        Probability that an image shows a class.
    answers : ndarray of shape (n, C)
        1 where the probability reaches the threshold.
    left_out : tuple of str
        Images that the model was fitted on, and that were not tested on.
    quarantined : tuple of Quarantined
        Images that cannot be decoded, with reasons.
    notes : tuple of str
        Messages about the images.
    """

    scores: MultiLabelScores
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    answers: np.ndarray
    left_out: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON values."""
        return {
            "n": self.scores.n,
            **{name.replace(" ", "_"): share and vars(share) for name, share in self.scores.totals.items()},
            "per_class": [
                {
                    "name": row.name,
                    "n": row.n,
                    "positives": row.positives,
                    "average_precision": None if row.average_precision is None else vars(row.average_precision),
                    "f1": None if row.f1 is None else vars(row.f1),
                }
                for row in self.scores.per_class
            ],
            "left_out": len(self.left_out),
            "notes": list(self.notes),
            "quarantined": [vars(entry) for entry in self.quarantined],
        }

    def wrong_sets(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """(id, missed classes, wrong classes) of the images whose set is not right, the most wrong first."""
        missed, extra = (self.labels == 1) & (self.answers == 0), (self.labels == 0) & (self.answers == 1)
        wrong = missed.sum(axis=1) + extra.sum(axis=1)
        order = [i for i in np.argsort(-wrong, kind="stable").tolist() if wrong[i]]
        names = (label_sets(part.astype(np.int8), self.class_names) for part in (missed, extra))
        missing, surplus = names
        return [(self.ids[i], missing[i], surplus[i]) for i in order]

    def __repr__(self) -> str:
        return f"MultiLabelEvaluation(mAP {self.scores.mean_average_precision}, {self.scores.n} images)"

    def __str__(self) -> str:
        return str(self.scores)
