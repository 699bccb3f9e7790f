"""Result of a benchmark: means over seeds with intervals, averages over data sets, both harmonic means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modalign.core.record import plain
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.comparison.findings import LeftOut, title
from modalign.evaluate.metrics import Interval, harmonic_mean, interval_legend, mean_interval
from modalign.evaluate.runs import Shots, amount, labels_in_words

AVERAGE = "average"
HARMONIC = "harmonic mean"
HARMONIC_OF_AVERAGES = "harmonic mean of averages"
HALVES = ("base", "new")


@dataclass(frozen=True)
class BenchmarkRow:
    """One figure of a table.

    Attributes
    ----------
    method, protocol, dataset, part : str
        ``dataset`` is ``"average"`` for the mean over data sets; ``part`` is also ``"harmonic mean"``.
    shots : int or str
        Labeled images per class.
    imbalance : float, optional
        Of the long-tail protocol.
    accuracy : Interval
        Over seeds, as a share. Of an average, each seed's mean over the data sets.
    n_test : int
        Tested images; of an average their sum.
    n_datasets : int
        Number of data sets in an average.
    cpu_seconds : float
        Mean processor time of a fit.
    transductive : bool
        Whether the method was fitted on the tested images, without their labels.
    peak_bytes : float, optional
        Largest memory of a run; None where no run has it.
    """

    method: str
    protocol: str
    dataset: str
    part: str
    shots: Shots
    imbalance: float | None
    accuracy: Interval
    n_test: int
    n_datasets: int
    cpu_seconds: float
    transductive: bool
    peak_bytes: float | None = None

    @property
    def setting(self) -> str:
        """Shots or imbalance, as text."""
        if self.imbalance is not None:
            return f"imbalance {self.imbalance:g}"
        return labels_in_words(self.shots)


@dataclass(frozen=True)
class BenchmarkResult:
    """All runs of a benchmark, missing runs with reasons, and notes.

    Attributes
    ----------
    runs : tuple of BenchmarkRun
        In the requested order.
    left_out : tuple of LeftOut
        Methods and runs that are missing, with reasons.
    notes : tuple of str
        Messages about the data.
    """

    runs: tuple[BenchmarkRun, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[BenchmarkRow, ...]:
        """All figures; harmonic means and averages follow the figures they are computed from."""
        found: list[BenchmarkRow] = []
        for group in _grouped(self.runs, lambda r: (r.protocol, r.run.method, r.run.shots, r.imbalance)):
            of_sets = [
                row
                for runs in _grouped(group, lambda r: (r.dataset,))
                for row in _rows_of_set(list(_grouped(runs, lambda r: (r.part,))))
            ]
            found += [*of_sets, *_averages(group)]
        return tuple(found)

    @property
    def header(self) -> list[str]:
        """Columns of :attr:`table`."""
        return ["protocol", "method", "labels", "data set", "tested", "accuracy", "n", "cpu s"]

    @property
    def table(self) -> list[list[str]]:
        """The rows as text, for a terminal."""
        ordered = sorted(self.rows, key=lambda row: (row.protocol, amount(row.shots), row.imbalance or 0))
        return [
            [
                row.protocol,
                title(row.method),
                row.setting,
                row.dataset if row.n_datasets == 1 else f"{AVERAGE} of {row.n_datasets}",
                row.part + (" (transductive)" if row.transductive else ""),
                str(row.accuracy),
                f"{row.n_test:,}",
                f"{row.cpu_seconds:.1f}",
            ]
            for row in ordered
        ]

    @property
    def legend(self) -> str:
        """Meaning of ± in :attr:`table`."""
        return interval_legend(row.accuracy for row in self.rows)

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Reason → methods that are missing for it, each once."""
        found: dict[str, list[str]] = {}
        for entry in self.left_out:
            methods = found.setdefault(entry.reason, [])
            if entry.method not in methods:
                methods.append(entry.method)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rows": [plain(asdict(row)) for row in self.rows],
            "left_out": [plain(asdict(entry)) for entry in self.left_out],
            "notes": list(self.notes),
        }


def places_once(methods: Iterable[str]) -> str:
    """Methods that are missing, each place once: ``cmm, gda (dtd on new; dtd on old); lfa (eurosat)``."""
    places: dict[str, list[str]] = {}
    for method in methods:
        name, _, place = method.partition(" (")
        places.setdefault(place.removesuffix(")"), []).append(name)
    found: dict[tuple[str, bool], list[str]] = {}
    for place, names in places.items():
        found.setdefault((", ".join(names), bool(place)), []).append(place)
    return "; ".join(names + (f" ({'; '.join(own)})" if placed else "") for (names, placed), own in found.items())


def _grouped(runs: Iterable[BenchmarkRun], key: Any) -> Iterable[list[BenchmarkRun]]:
    """The runs by key, in order of first appearance. Of repeated runs the last one counts."""
    groups: dict[Any, dict[tuple[object, ...], BenchmarkRun]] = {}
    for run in runs:
        groups.setdefault(key(run), {})[(run.dataset, run.part, run.run.seed)] = run
    return (list(group.values()) for group in groups.values())


def _by_seed(runs: Sequence[BenchmarkRun]) -> dict[int, float]:
    return {run.run.seed: run.run.accuracy.top1 for run in runs}


def _row(runs: Sequence[BenchmarkRun], values: Iterable[float], **changed: Any) -> BenchmarkRow:
    first = runs[0]
    own: dict[str, Any] = {
        "method": first.run.method,
        "protocol": first.protocol,
        "dataset": first.dataset,
        "part": first.part,
        "shots": first.run.shots,
        "imbalance": first.imbalance,
        "n_test": first.run.accuracy.n,
        "n_datasets": 1,
        "cpu_seconds": float(np.mean([run.cpu_seconds for run in runs])),
        "transductive": first.transductive,
        "peak_bytes": max((run.run.peak_bytes for run in runs if run.run.peak_bytes is not None), default=None),
    }
    return BenchmarkRow(**own | changed, accuracy=mean_interval(list(values), bounds=(0, 1)))


def _rows_of_set(parts: Sequence[list[BenchmarkRun]]) -> list[BenchmarkRow]:
    """A row for every tested part of one data set, and the harmonic mean of base and new classes."""
    rows = [_row(runs, _by_seed(runs).values()) for runs in parts]
    named = {runs[0].part: runs for runs in parts}
    if set(HALVES) <= set(named):
        base, new = (_by_seed(named[half]) for half in HALVES)
        both = [harmonic_mean(base[seed], new[seed]) for seed in base if seed in new]
        if both:
            n = sum(row.n_test for row in rows)
            rows.append(_row(parts[0], both, part=HARMONIC, n_test=n))
    return rows


def _averages(group: Sequence[BenchmarkRun]) -> list[BenchmarkRow]:
    """Means over data sets of the seeds that all of them have; of a transfer, over the targets without the source."""
    transfer = group[0].part not in ("test", *HALVES)
    targets = [run for run in group if run.part != run.dataset] if transfer else list(group)
    rows: list[BenchmarkRow] = []
    averages: dict[str, dict[int, float]] = {}
    of_sets: dict[str, list[dict[int, float]]] = {}
    for part in dict.fromkeys("test" if transfer else run.part for run in targets):
        runs = targets if transfer else [run for run in targets if run.part == part]
        sets = list(_grouped(runs, lambda r: (r.part if transfer else r.dataset,)))
        values = [_by_seed(one) for one in sets]
        of_sets[part] = values
        seeds = [seed for seed in values[0] if all(seed in one for one in values)]
        if len(sets) < 2 or not seeds:
            continue
        averages[part] = {seed: float(np.mean([one[seed] for one in values])) for seed in seeds}
        n = sum(one[0].run.accuracy.n for one in sets)
        rows.append(_row(runs, averages[part].values(), dataset=AVERAGE, part=part, n_test=n, n_datasets=len(sets)))
    if set(HALVES) <= set(averages):
        base, new = (averages[half] for half in HALVES)
        seeds = [seed for seed in base if seed in new]
        size = {"dataset": AVERAGE, "n_test": sum(r.n_test for r in rows), "n_datasets": rows[0].n_datasets}
        of_averages = [harmonic_mean(base[seed], new[seed]) for seed in seeds]
        pairs = list(zip(*(of_sets[half] for half in HALVES), strict=True))
        of_means = [float(np.mean([harmonic_mean(b[seed], n[seed]) for b, n in pairs])) for seed in seeds]
        rows.append(_row(group, of_averages, part=HARMONIC_OF_AVERAGES, **size))
        rows.append(_row(group, of_means, part=HARMONIC, **size))
    return rows
