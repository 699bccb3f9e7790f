"""Learning curve: predictions of every refit for the exam, scored with all current exam labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modalign.app.studio.exam import LEAST_SHOWN
from modalign.core.errors import InputError
from modalign.core.files import append_line, parse_json
from modalign.evaluate.metrics import proportion
from modalign.evaluate.paired import compare_pair

CURVE_FILE = "curve.jsonl"


@dataclass(frozen=True)
class Refit:
    """One point of the curve: the number of labels, and the class that each exam image got."""

    labels: int
    method: str
    thorough: bool
    answers: Mapping[str, int]


class Curve:
    """All refits of a session, kept in a file.

    Since predictions are stored and not their accuracy, all points are measured on the same exam images: those that are
    labeled now.

    Parameters
    ----------
    folder : Path
        Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CURVE_FILE
        self._refits: dict[int, Refit] = {}
        for line in self._path.read_bytes().split(b"\n") if self._path.exists() else ():
            found = _refit_of(line)
            if found is not None:
                self._keep(found)

    def add(self, refit: Refit) -> None:
        """Keep a refit; with the same number of labels, the later one counts."""
        self._keep(refit)
        entry = {"labels": refit.labels, "method": refit.method, "thorough": refit.thorough, "answers": refit.answers}
        append_line(self._path, json.dumps(entry, separators=(",", ":")).encode())

    def points(self, truth: Mapping[str, int], resolve: Callable[[int], int]) -> list[dict[str, Any]]:
        """Accuracy of every refit with its Wilson interval, by number of labels.

        Parameters
        ----------
        truth : mapping of str to int
            Content hash of every labeled exam image → class number.
        resolve : callable
            Present number of a class.
        """
        rows = [(refit, self._right(refit, truth, resolve)) for _, refit in sorted(self._refits.items())]
        found = []
        for refit, right in rows:
            if len(right) >= LEAST_SHOWN:
                share = proportion(int(right.sum()), len(right))
                found.append(
                    {
                        "labels": refit.labels,
                        "method": refit.method,
                        "accuracy": share.top1,
                        "low": share.low,
                        "high": share.high,
                        "n": share.n,
                    }
                )
        return found

    def recent(
        self, truth: Mapping[str, int], resolve: Callable[[int], int], back: int = 20
    ) -> dict[str, float | int] | None:
        """Return the gain of the last labels: the difference between the last refit and one at least ``back`` labels
        before.

        On the exam images that both answered, with the interval of :func:`~modalign.evaluate.paired.compare_pair`.
        """
        if not self._refits:
            return None
        last = self._refits[max(self._refits)]
        before = [refit for labels, refit in self._refits.items() if labels <= last.labels - back]
        if not before:
            return None
        earlier = max(before, key=lambda refit: refit.labels)
        shared = {c: k for c, k in truth.items() if c in last.answers and c in earlier.answers}
        if len(shared) < LEAST_SHOWN:
            return None
        found = compare_pair(self._right(last, shared, resolve), self._right(earlier, shared, resolve))
        return {"labels": last.labels - earlier.labels, "gain": found.difference, "low": found.low, "high": found.high,
                "n": found.n}  # fmt: skip

    def _keep(self, refit: Refit) -> None:
        self._refits[refit.labels] = refit

    @staticmethod
    def _right(refit: Refit, truth: Mapping[str, int], resolve: Callable[[int], int]) -> np.ndarray:
        answered: Sequence[tuple[int, int]] = [(refit.answers[c], k) for c, k in truth.items() if c in refit.answers]
        return np.array([resolve(a) == k for a, k in answered], dtype=bool)


def _refit_of(line: bytes) -> Refit | None:
    """A refit of a line of the file; None for a line that a killed process left incomplete."""
    try:
        entry = parse_json(line.decode(), "a refit")
        return Refit(int(entry["labels"]), str(entry["method"]), bool(entry["thorough"]),
                     {str(c): int(k) for c, k in entry["answers"].items()})  # fmt: skip
    except (InputError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
