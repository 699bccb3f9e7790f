"""The learning curve of sets: what every refit answers on the exam, graded whenever exam labels are added."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modalign.app.studio.curve import CURVE_FILE
from modalign.app.studio.exam import LEAST_SHOWN
from modalign.core.errors import InputError
from modalign.core.files import append_line, parse_json
from modalign.evaluate.multi_label_metrics import micro_f1

ClassSet = tuple[int, ...]


@dataclass(frozen=True)
class SetRefit:
    """One point of the curve: the number of labels, and the classes that each exam image got."""

    labels: int
    method: str
    thorough: bool
    answers: Mapping[str, ClassSet]


class SetCurve:
    """All refits of a session, kept in a file; as :class:`~modalign.app.studio.curve.Curve`, of sets.

    Parameters
    ----------
    folder : Path
        Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CURVE_FILE
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else ()
        self._refits = {refit.labels: refit for line in lines if (refit := _refit_of(line)) is not None}

    def add_sets(self, refit: SetRefit) -> None:
        """Keep a refit; with the same number of labels, the later one counts."""
        self._refits[refit.labels] = refit
        append_line(self._path, json.dumps(vars(refit), separators=(",", ":")).encode())

    def set_points(self, truth: Mapping[str, ClassSet], resolve: Callable[[int], int]) -> list[dict[str, Any]]:
        """Micro F1 of every refit with its bootstrap interval, by number of labels.

        Parameters
        ----------
        truth : mapping of str to tuple of int
            Content hash of every labeled exam image → its classes.
        resolve : callable
            Present number of a class.
        """
        found = []
        for _, refit in sorted(self._refits.items()):
            pairs = [(set(k), set(map(resolve, refit.answers[c]))) for c, k in truth.items() if c in refit.answers]
            numbers = sorted({number for pair in pairs for part in pair for number in part})
            if len(pairs) < LEAST_SHOWN or not numbers:
                continue
            labels, answers = (np.array([[k in p[side] for k in numbers] for p in pairs]) for side in (0, 1))
            share = micro_f1(labels, answers)
            found.append(
                {"labels": refit.labels, "method": refit.method, "accuracy": share.value, "low": share.low,
                 "high": share.high, "n": len(pairs)}
            )  # fmt: skip
        return found


def _refit_of(line: bytes) -> SetRefit | None:
    """A refit of a line of the file; None for a line that a killed process left incomplete."""
    try:
        entry = parse_json(line.decode(), "a refit")
        answers = {str(c): tuple(map(int, of)) for c, of in entry["answers"].items()}
        return SetRefit(int(entry["labels"]), str(entry["method"]), bool(entry["thorough"]), answers)
    except (InputError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
