"""What a comparison found: every run, and everything that follows from the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modalign.display import html_table, shorten, text_table
from modalign.errors import InputError
from modalign.evaluate.metrics import Comparison, Interval, ReliabilityBin, paired_bootstrap, percent
from modalign.evaluate.runs import (
    Run,
    Shots,
    Summary,
    amount,
    labels_a_class,
    labels_in_words,
    shared_warnings,
    summarise,
)
from modalign.files import write
from modalign.methods import ALL_METHODS, method_class
from modalign.record import plain

FORMAT = "modalign-comparison-1"
REFERENCE = "zero_shot"
SEPARATOR = ": "  # between a method and the ingredient that is switched off, in the name of a run


@dataclass(frozen=True)
class LeftOut:
    """A method, or one of its runs, that is missing, and why. ``shots`` None: at every number of labels."""

    method: str
    shots: Shots | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Two methods at one number of labels, image by image.

    Attributes
    ----------
    shots : labels a class.
    first, second : names of the methods.
    kind : ``"reference"`` for a method against zero-shot, ``"runner-up"`` for the best against the second best.
    comparison : first minus second, over all test images.
    """

    shots: Shots
    first: str
    second: str
    kind: str
    comparison: Comparison

    @property
    def sentence(self) -> str:
        """In words, with the number of labels."""
        return f"{labels_in_words(self.shots)}: {self.comparison.sentence(title(self.first), title(self.second))}"


@dataclass(frozen=True)
class Ablation:
    """A method with one active ingredient switched off, beside the method as it is."""

    method: str
    ingredient: str
    shots: Shots
    accuracy: Interval
    without: Interval
    comparison: Comparison


@dataclass(frozen=True)
class Cost:
    """What one fit takes at the most labels, medians over seeds; ``peak_bytes`` None where it was not measured."""

    method: str
    shots: Shots
    fit_seconds: float
    predict_seconds: float
    n_train: int
    n_test: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Look:
    """A closer look at one fitted method on the test images, taken when all was decided.

    Attributes
    ----------
    method, shots, seed : which one.
    reliability : words → bins, before and after the temperature was fitted on validation images.
    gap : ``before`` and ``after`` the map → numbers of :func:`~modalign.linalg.gaussians.modality_gap`.
    clouds : ``before`` and ``after`` → image vectors and class texts, for a picture only.
    labels : of the images of the clouds.
    """

    method: str
    shots: Shots
    seed: int
    reliability: dict[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    gap: dict[str, dict[str, float | None]] = field(default_factory=dict)
    clouds: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)
    labels: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class MethodComparison:
    """Every method on one person's images.

    Attributes
    ----------
    runs : all runs; those with an ingredient switched off are named ``method: ingredient``.
    left_out : what was not run, and why.
    notes : what a reader should know about the data and the protocol.
    record : encoders, counts, seeds, versions, seconds.
    looks : the best method, and the best one that has a map.
    """

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()

    @cached_property
    def table(self) -> tuple[Summary, ...]:
        """Mean and 95 % interval over seeds for every method and number of labels."""
        return tuple(summarise(run for run in self.runs if SEPARATOR not in run.method))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the table."""
        return tuple(dict.fromkeys(row.method for row in self.table))

    @property
    def shots(self) -> tuple[Shots, ...]:
        """Numbers of labels a class, ascending."""
        return tuple(sorted({row.shots for row in self.table}, key=amount))

    @property
    def best(self) -> Summary:
        """The row with the highest mean accuracy; of equals the one with fewer labels."""
        return max(self.table, key=lambda row: (row.accuracy.mean, -amount(row.shots)))

    def at(self, method: str, shots: Shots) -> Summary | None:
        """The row of a method at a number of labels; one that labels do not change has a single row, at 0."""
        rows = {row.shots: row for row in self.table if row.method == method}
        return rows.get(shots, rows.get(0) if set(rows) == {0} else None)

    def standing(self, shots: Shots) -> list[Summary]:
        """All methods that can be had with so many labels, best first."""
        rows = (self.at(method, shots) for method in self.methods)
        return sorted((row for row in rows if row is not None), key=lambda row: -row.accuracy.mean)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """At every number of labels each method against zero-shot, and the best one against the second.

        Answers are compared image by image, averaged over seeds, with the paired bootstrap of
        :func:`~modalign.evaluate.metrics.paired_bootstrap`. The verdicts against zero-shot hold for all methods of one
        number of labels together (Holm 1979): with many methods one would beat it by luck.
        """
        found: list[Verdict] = []
        for shots in self.shots:
            standing = [row.method for row in self.standing(shots)]
            if REFERENCE in standing:
                pairs = [(m, REFERENCE) for m in standing if m != REFERENCE]
                compared = holm([self._compare(shots, *pair) for pair in pairs])
                found += [Verdict(shots, *pair, "reference", c) for pair, c in zip(pairs, compared, strict=True)]
            if len(standing) > 1:
                found.append(Verdict(shots, *standing[:2], "runner-up", self._compare(shots, *standing[:2])))
        return tuple(found)

    @cached_property
    def ablations(self) -> tuple[Ablation, ...]:
        """Every method beside itself with one ingredient switched off."""
        found = []
        # random text is drawn anew for every seed: other features, and on purpose
        ablated = (replace(run, features="") for run in self.runs if SEPARATOR in run.method)
        for row in summarise(ablated):
            method, _, ingredient = row.method.partition(SEPARATOR)
            full = self.at(method, row.shots)
            if full is not None:
                comparison = self._compare(row.shots, method, row.method)
                found.append(Ablation(method, ingredient, row.shots, full.accuracy, row.accuracy, comparison))
        order = {name: i for i, name in enumerate(self.methods)}
        return tuple(sorted(found, key=lambda a: (order[a.method], amount(a.shots))))

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """Time and memory of every method at the most labels it was run at."""
        found = []
        for method in self.methods:
            own = [run for run in self.runs if run.method == method]
            most = max((run.shots for run in own), key=amount)
            own = [run for run in own if run.shots == most]
            peaks = [run.peak_bytes for run in own if run.peak_bytes is not None]
            found.append(
                Cost(
                    method,
                    most,
                    fit_seconds=float(np.median([run.fit_seconds for run in own])),
                    predict_seconds=float(np.median([run.predict_seconds for run in own])),
                    n_train=own[0].n_train,
                    n_test=own[0].accuracy.n,
                    peak_bytes=int(np.median(peaks)) if peaks else None,
                )
            )
        return tuple(found)

    @property
    def sentence(self) -> str:
        """The outcome in two sentences."""
        best = self.best
        parts = [f"{title(best.method)} with {labels_a_class(best.shots)} is right most often, "
                 f"{percent(best.accuracy.mean)} %."]  # fmt: skip
        last = [v for v in self.verdicts if v.shots == best.shots and v.kind == "runner-up"]
        if last:
            parts.append(last[0].comparison.sentence(title(last[0].first), title(last[0].second)))
        return " ".join(parts)

    @property
    def header(self) -> list[str]:
        """Columns of :attr:`rows`."""
        return ["accuracy, %", *map(labels_in_words, self.shots)]

    @property
    def rows(self) -> list[list[str]]:
        """The table in words: the mean, its ± over draws if they differ, and + or − where luck does not explain the
        difference to zero-shot."""
        beyond = {(v.first, v.shots): v.comparison for v in self.verdicts if v.kind == "reference"}
        rows = []
        for method in self.methods:
            line = [title(method)]
            for shots in self.shots:
                row, against = self.at(method, shots), beyond.get((method, shots))
                mark = "" if against is None or not against.significant else " +" if against.difference > 0 else " −"
                line.append("" if row is None else f"{_in_words(row.accuracy)}{mark}")
            rows.append(line)
        return rows

    @property
    def remarks(self) -> list[str]:
        """Notes, what methods warned of, and what was left out, a sentence each, with the methods that it concerns."""
        reasons: dict[str, dict[str, None]] = {}
        for entry in self.left_out:
            reasons.setdefault(entry.reason, {})[title(entry.method)] = None
        missing = [
            f"{', '.join(methods)} {'was' if len(methods) == 1 else 'were'} left out: {reason}"
            for reason, methods in reasons.items()
        ]
        return [*self.notes, *shared_warnings(self.runs, title), *missing]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON knows it; what follows from the runs is there for readers and not read back."""
        return {
            "format": FORMAT,
            "sentence": self.sentence,
            "table": plain([vars(row) for row in self.table]),
            "verdicts": [plain(asdict(v)) | {"sentence": v.sentence} for v in self.verdicts],
            "ablations": plain([asdict(a) for a in self.ablations]),
            "costs": plain([asdict(c) for c in self.costs]),
            "left_out": [asdict(entry) for entry in self.left_out],
            "notes": list(self.notes),
            "remarks": self.remarks,
            "record": plain(self.record),
            "looks": [_look_as_dict(look) for look in self.looks],
            "runs": [json.loads(run.to_json()) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MethodComparison:
        """What :meth:`as_dict` wrote, without the clouds of its pictures."""
        if content.get("format") != FORMAT:
            raise InputError(f"Expected a comparison of format {FORMAT}, got {content.get('format')!r}.")
        return cls(
            runs=tuple(Run.from_json(json.dumps(run)) for run in content["runs"]),
            left_out=tuple(LeftOut(**entry) for entry in content["left_out"]),
            notes=tuple(content["notes"]),
            record=content["record"],
            looks=tuple(_look_from_dict(look) for look in content["looks"]),
        )

    def __repr__(self) -> str:
        outcome = self.sentence if self.table else "no run"
        return f"MethodComparison({len(self.methods)} methods, {len(self.runs)} runs: {shorten(outcome, 200)})"

    def __str__(self) -> str:
        return f"{text_table(self.header, self.rows)}\n\n{self.sentence}" if self.table else repr(self)

    def _repr_html_(self) -> str:
        return html_table(self.sentence if self.table else "no run", self.header, self.rows)

    def save(self, path: str | Path) -> Path:
        """Write :meth:`as_dict` as one JSON file; the whole file or nothing."""
        return write(path, json.dumps(self.as_dict(), ensure_ascii=False, indent=1))

    def _compare(self, shots: Shots, first: str, second: str) -> Comparison:
        return paired_bootstrap(self._answers(first, shots), self._answers(second, shots))

    def _answers(self, method: str, shots: Shots) -> np.ndarray:
        """(n,) how often each test image was named right, over seeds."""
        own = [run for run in self.runs if run.method == method]
        row = [run.correct for run in own if run.shots == shots] or [run.correct for run in own if run.shots == 0]
        return np.mean(row, axis=0)


def holm(comparisons: Sequence[Comparison], level: float = 0.05) -> list[Comparison]:
    """The same with ``significant`` holding for all of them at once: the k-th smallest of m p-values is compared with
    level/(m − k + 1), and the first that fails ends it (Holm 1979)."""
    order = sorted(range(len(comparisons)), key=lambda i: comparisons[i].p_value)
    holds, found = True, list(comparisons)
    for rank, i in enumerate(order):
        holds = holds and comparisons[i].p_value < level / (len(order) - rank)
        found[i] = replace(comparisons[i], significant=comparisons[i].significant and holds)
    return found


def title(method: str) -> str:
    """The name people know a method by; of a run with something switched off, that too."""
    name, _, ingredient = method.partition(SEPARATOR)
    known = method_class(name).title if name in ALL_METHODS else name
    return f"{known}, {ingredient}" if ingredient else known


def with_titles(rows: Iterable[Summary]) -> list[Summary]:
    """Rows of a table with the names people know."""
    return [replace(row, method=title(row.method)) for row in rows]


def _in_words(accuracy: Interval) -> str:
    """Without a ± where all draws gave the same."""
    return percent(accuracy.mean) if abs(accuracy.half_width) < 1e-9 else str(accuracy)


def _look_as_dict(look: Look) -> dict[str, Any]:
    return {
        "method": look.method,
        "shots": look.shots,
        "seed": look.seed,
        "reliability": {words: [asdict(b) for b in bins] for words, bins in look.reliability.items()},
        "gap": plain(look.gap),
    }


def _look_from_dict(content: dict[str, Any]) -> Look:
    bins = {words: tuple(ReliabilityBin(**b) for b in rows) for words, rows in content["reliability"].items()}
    return Look(content["method"], content["shots"], content["seed"], bins, content["gap"])
