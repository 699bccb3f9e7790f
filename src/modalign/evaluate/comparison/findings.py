"""Results derived from the runs of a comparison: tests, ablations, costs, diagnostics, and missing runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from modalign.core.errors import InputError
from modalign.core.record import plain
from modalign.evaluate.metrics import Interval, ReliabilityBin
from modalign.evaluate.paired import Comparison
from modalign.evaluate.runs import Shots, Summary, labels_in_words
from modalign.methods import method_class

REFERENCE = "zero_shot"
SEPARATOR = ": "  # between a method and the component that is switched off, in the name of a run


@dataclass(frozen=True)
class LeftOut:
    """A missing method or run, with the reason. ``shots`` is None for all numbers of labels."""

    method: str
    shots: Shots | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Paired comparison of two methods at one number of labels.

    Attributes
    ----------
    shots : int or str
        Labels per class.
    first, second : str
        Names of the methods.
    kind : str
        ``"reference"`` for a method against zero-shot, ``"runner-up"`` for the best against the second best.
    comparison : Comparison
        First minus second, over all test images.
    """

    shots: Shots
    first: str
    second: str
    kind: str
    comparison: Comparison

    @property
    def sentence(self) -> str:
        """Result as a sentence, with the number of labels."""
        return f"{labels_in_words(self.shots)}: {self.outcome}"

    @property
    def outcome(self) -> str:
        """Result as a sentence."""
        return self.comparison.sentence(title(self.first), title(self.second))


@dataclass(frozen=True)
class Ablation:
    """Comparison of a method with and without one of its components."""

    method: str
    ingredient: str
    shots: Shots
    accuracy: Interval
    without: Interval
    comparison: Comparison


@dataclass(frozen=True)
class Cost:
    """Cost of a fit at the largest number of labels, medians over seeds.

    ``peak_bytes`` is None if not measured, ``n_unlabeled`` in records of earlier versions, which count all in
    ``n_train``.
    """

    method: str
    shots: Shots
    fit_seconds: float
    predict_seconds: float
    n_train: int
    n_test: int
    peak_bytes: int | None
    n_unlabeled: int | None = None


@dataclass(frozen=True)
class MethodDiagnostics:
    """Diagnostics of one fitted method on the test images, computed after all runs.

    Attributes
    ----------
    method, shots, seed : str
        The run.
    reliability : dict of str to tuple of ReliabilityBin
        Name → bins, before and after the temperature was fitted on validation images.
    gap : dict of str to dict of str to float or None
        ``before`` and ``after`` the map → numbers of :func:`~modalign.linalg.gaussians.modality_gap`.
    clouds : dict of str to tuple of (ndarray, ndarray)
        ``before`` and ``after`` → image vectors and class texts, for a picture only.
    labels : ndarray or None, default=None
        Of the images of the clouds.
    """

    method: str
    shots: Shots
    seed: int
    reliability: dict[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    gap: dict[str, dict[str, float | None]] = field(default_factory=dict)
    clouds: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)
    labels: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, without the point clouds."""
        return {
            "method": self.method,
            "shots": self.shots,
            "seed": self.seed,
            "reliability": {words: [asdict(b) for b in bins] for words, bins in self.reliability.items()},
            "gap": plain(self.gap),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MethodDiagnostics:
        """Restore the result of :meth:`as_dict`."""
        bins = {words: tuple(ReliabilityBin(**b) for b in rows) for words, rows in content["reliability"].items()}
        return cls(content["method"], content["shots"], content["seed"], bins, content["gap"])


def title(method: str) -> str:
    """Return the title of a method, with the component that is switched off in an ablation."""
    name, _, ingredient = method.partition(SEPARATOR)
    try:
        known = method_class(name).title or name
    except InputError:  # of a package that is not on this machine
        known = name
    return f"{known}, {ingredient}" if ingredient else known


def title_of_run(method: str) -> str:
    """The same, where nothing else says that it is an ablation: ``GPUA, ablation 'random prototypes'``."""
    name, _, ingredient = method.partition(SEPARATOR)
    return f"{title(name)}, ablation '{ingredient}'" if ingredient else title(name)


def left_out_in_words(left_out: Iterable[LeftOut]) -> list[str]:
    """A sentence per reason, with the methods concerned."""
    reasons: dict[str, dict[str, None]] = {}
    for entry in left_out:
        reasons.setdefault(entry.reason, {})[title(entry.method)] = None
    return [
        f"{', '.join(methods)} {'was' if len(methods) == 1 else 'were'} left out: {reason}"
        for reason, methods in reasons.items()
    ]


def with_titles(rows: Iterable[Summary]) -> list[Summary]:
    """Replace names of methods in a table by titles."""
    return [replace(row, method=title(row.method)) for row in rows]
