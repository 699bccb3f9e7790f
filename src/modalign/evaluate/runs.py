"""Records of runs: method, data, versions, accuracy and time, as one line of JSON each."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.files import append_line
from modalign.core.record import plain
from modalign.core.renaming import stacklevel_outside
from modalign.evaluate.metrics import Accuracy, Interval, mean_interval
from modalign.evaluate.result_files import parse_entries, read_lines

Shots = int | str  # labeled images per class, or "all"

_FAMILY, _VERSION = "modalign-run", 2
_LATER = {"peak_bytes", "warnings", "n_unlabeled"}  # entries that lines of older versions do not have


@dataclass(frozen=True)
class Run:
    """One method fitted once and tested once.

    Attributes
    ----------
    method : str
        Its name in the comparison.
    shots : int or str
        Labeled training images per class, or ``"all"``; 0 = fitted without labels.
    seed : int
        Of the draw and of the method.
    accuracy : Accuracy
        On the test images.
    fit_seconds, predict_seconds : float
        Wall time.
    n_train, n_validation : int
        Labeled images that the method was fitted on, and validated with; an image and its mirrored view count once.
    protocol : str
        Description of the division of the images.
    parameters : dict
        Every hyper-parameter.
    diagnosis : dict
        ``diagnosis_`` of the fitted method.
    features : str
        Fingerprint of the image and text vectors, and of the CLIP features where there are such.
    test : str
        Fingerprint of the list of test images; runs with the same one can be compared image by image.
    asked : int
        Number of uses of the test labels; more than one means that something was chosen on them.
    versions : dict of str to str
        Of Python and the packages that compute.
    notes : tuple of str, default=()
        Messages, such as requests that the split could not fulfill.
    warnings : tuple of str, default=()
        Warnings of the method.
    correct : ndarray of shape (n,)
        Whether each test image was classified correctly.
    peak_bytes : int or None, default=None
        Peak memory of fitting and predicting, see :mod:`modalign.evaluate.peak_memory`; None if it cannot be measured.
    n_unlabeled : int or None, default=None
        Images without a label that the method learned from. None in records of earlier versions, in which ``n_train``
        counts all images that were passed to the method, also those without a label that it did not use.
    """

    method: str
    shots: Shots
    seed: int
    accuracy: Accuracy
    fit_seconds: float
    predict_seconds: float
    n_train: int
    n_validation: int
    protocol: str
    parameters: dict[str, Any]
    diagnosis: dict[str, Any]
    features: str
    test: str
    asked: int
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    correct: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool), repr=False, compare=False)
    peak_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    n_unlabeled: int | None = None

    def to_json(self) -> str:
        """One line; ``correct`` as hexadecimal bits, eight images per pair of digits, first image highest."""
        content = asdict(self) | {
            "format": f"{_FAMILY}-{_VERSION}",
            "correct": np.packbits(self.correct).tobytes().hex(),
        }
        return json.dumps(plain(content), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Run:
        """Parse the result of :meth:`to_json`; a ValueError, KeyError or TypeError for other lines."""
        content = parse_entries(line, _FAMILY, _VERSION)
        content["accuracy"] = Accuracy(**content["accuracy"])
        content["notes"] = tuple(content["notes"])
        content["warnings"] = tuple(content.get("warnings", ()))
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(content["correct"]), dtype=np.uint8))
        content["correct"] = bits[: content["accuracy"].n].astype(bool)
        if set(content) | _LATER != {f.name for f in fields(cls)}:
            raise ValueError("other entries than expected")
        return cls(**content)

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the run without its results; a run with the same key is not repeated."""
        return run_key(self.method, self.shots, self.seed, self.features, self.test, self.protocol, self.parameters)


class RunWarning(UserWarning):
    """Warning of a method during a comparison."""


@dataclass(frozen=True)
class Summary:
    """One method at one number of labels, over seeds."""

    method: str
    shots: Shots
    accuracy: Interval
    fit_seconds: float


def run_key(
    method: str, shots: Shots, seed: int, features: str, test: str, protocol: str, parameters: dict[str, Any]
) -> tuple[str, ...]:
    """:attr:`Run.key` of a run that is still to be made; the arguments are the attributes of :class:`Run`."""
    settings = json.dumps(plain(parameters), sort_keys=True)
    return (method, str(shots), str(seed), features, test, protocol.partition(";")[0], settings)


def amount(shots: Shots) -> float:
    """Shots as a number to sort by; "all" comes last."""
    return math.inf if shots == "all" else float(shots)


def labels_in_words(shots: Shots) -> str:
    """``no labels``, ``1 label``, ``4 labels``, ``all labels``."""
    words: dict[Shots, str] = {0: "no labels", 1: "1 label"}
    return words.get(shots, f"{shots} labels")


def labels_per_class(shots: Shots) -> str:
    """The same in a sentence: ``no labels``, ``1 label per class``, ``all labels``."""
    return labels_in_words(shots) + ("" if shots in (0, "all") else " per class")


def check_count(name: str, value: object) -> None:
    """Raise unless the argument ``name`` is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"Expected {argument(name)} as an integer of at least 1, got {value!r}.")


def seeds_of(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """The seeds 1 to n for a number n of draws; several seeds as they are."""
    if not isinstance(seeds, int):
        return tuple(seeds)
    check_count("seeds", seeds)
    return tuple(range(1, seeds + 1))


def append_run(path: str | Path, run: Run) -> None:
    """Add a line to a results file, which several processes may share; see :func:`~modalign.core.files.append_line`."""
    append_line(path, run.to_json().encode())


def read_runs(path: str | Path) -> list[Run]:
    """All runs of a results file; see :func:`~modalign.evaluate.result_files.read_lines`."""
    return read_lines(path, Run.from_json)


def check_shots(shots: Iterable[Shots]) -> None:
    """Raise unless every number of labels is one, or ``"all"``."""
    shots = list(shots)
    if any(k != "all" and (not isinstance(k, Integral) or isinstance(k, bool) or k < 0) for k in shots):
        raise InputError(f"Expected {argument('shots')} as numbers ≥ 0 or 'all', got {', '.join(map(str, shots))}.")


def shared_warnings(runs: Iterable[Run], title: Callable[[str], str] = str) -> list[str]:
    """Return the warnings of methods, each once with its methods and number of runs; numbers in the text may differ.

    Parameters
    ----------
    runs : iterable of Run
        Of any methods.
    title : callable, default=str
        Function from a method's name to its title.
    """
    groups: dict[str, tuple[dict[str, None], Counter[str]]] = {}
    for run in runs:
        for message in run.warnings:
            texts, methods = groups.setdefault(re.sub(r"[\d.,]*\d", "#", message), ({}, Counter()))
            texts[message] = None
            methods[title(run.method)] += 1
    found = []
    for texts, methods in groups.values():
        who = ", ".join(f"{name} ({count} run{'s' if count > 1 else ''})" for name, count in methods.items())
        found.append(f"{who}: {next(iter(texts))}{' (The numbers differ between runs.)' if len(texts) > 1 else ''}")
    return found


def warn_of(runs: Iterable[Run], title: Callable[[str], str] = str) -> None:
    """One :class:`RunWarning` for each of :func:`shared_warnings`, as from the caller of the caller."""
    for message in shared_warnings(runs, title):
        warnings.warn(message, RunWarning, stacklevel=stacklevel_outside())


def summarize(runs: Iterable[Run]) -> list[Summary]:
    """Mean and 95 % interval over seeds, a row for each method and number of labels, in order of first appearance.

    Where a run was repeated the last one counts. Runs on other features are another experiment and are refused.
    """
    groups: dict[tuple[str, Shots], dict[int, Run]] = {}
    for run in runs:
        groups.setdefault((run.method, run.shots), {})[run.seed] = run
    rows = []
    for (method, shots), by_seed in groups.items():
        group = list(by_seed.values())
        if len({run.features for run in group}) > 1:
            raise InputError(
                f"Expected runs of '{method}' at {shots} shots on the same features, got several; "
                "keep one results file for each set of features."
            )
        seconds = float(np.mean([run.fit_seconds for run in group]))
        marks = [run.accuracy.top1 for run in group]
        rows.append(Summary(method, shots, mean_interval(marks, bounds=(0, 1)), seconds))
    return rows
