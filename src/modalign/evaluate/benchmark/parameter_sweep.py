"""A method of a benchmark at several values of one hyper-parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_result import AVERAGE, BenchmarkRow
from modalign.evaluate.metrics import Interval, interval_legend


@dataclass(frozen=True)
class ParameterSweep:
    """Accuracy by the value of a hyper-parameter.

    Attributes
    ----------
    method, name : str
        Method, and hyper-parameter.
    rows : tuple of (float, BenchmarkRow)
        Value, and what was found with it.
    notes : tuple of str, default=()
        Remarks about the data, and what is missing.
    """

    method: str
    name: str
    rows: tuple[tuple[float, BenchmarkRow], ...]
    notes: tuple[str, ...] = ()

    @property
    def curves(self) -> dict[str, dict[float, Interval]]:
        """Name → value → accuracy over seeds: a curve per protocol, number of labels and tested part, and data set.

        Where there are several data sets, those of their average alone.
        """
        averaged = [pair for pair in self.rows if pair[1].dataset == AVERAGE]
        shown = averaged or list(self.rows)
        words = [(row.protocol, row.setting, row.dataset, row.part) for _, row in shown]
        varying = [i for i in range(4) if len({word[i] for word in words}) > 1] or [1]
        found: dict[str, dict[float, Interval]] = {}
        for (value, row), word in zip(shown, words, strict=True):
            found.setdefault(", ".join(word[i] for i in varying), {})[value] = row.accuracy
        return found

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text."""
        header = [self.name, "protocol", "labels", "data set", "tested", "accuracy", "n", "cpu s"]
        return header, [
            [f"{value:.15g}", row.protocol, row.setting, row.dataset, row.part, str(row.accuracy), f"{row.n_test:,}",
             f"{row.cpu_seconds:.1f}"]
            for value, row in self.rows
        ]  # fmt: skip

    @property
    def legend(self) -> str:
        """Meaning of ± in :attr:`table`."""
        return interval_legend(row.accuracy for _, row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "name": self.name,
            "notes": list(self.notes),
            "rows": [
                {
                    "value": value, "protocol": row.protocol, "shots": row.shots, "dataset": row.dataset,
                    "part": row.part, "accuracy": row.accuracy.mean, "low": row.accuracy.low,
                    "high": row.accuracy.high, "seeds": row.accuracy.n, "n_test": row.n_test,
                    "cpu_seconds": row.cpu_seconds,
                }
                for value, row in self.rows
            ],
        }  # fmt: skip


def sweep_parameter(
    source: str | Path, method: str, name: str, values: Sequence[float], **options: Any
) -> ParameterSweep:
    """Run a benchmark for each value of a hyper-parameter of a method.

    The values are compared on test images, so a sweep describes a method and chooses nothing.

    Parameters
    ----------
    source : str or Path
        As for :func:`~modalign.evaluate.benchmark.benchmark.run_benchmark`.
    method, name : str
        A method, and one of its hyper-parameters.
    values : sequence of float
        Different numbers; at least two.
    options : object
        Further arguments of ``run_benchmark``, such as ``protocol``, ``shots`` and ``seeds``.

    Raises
    ------
    InputError
        Before anything is fitted.
    """
    if len(set(values)) < 2 or len(set(values)) < len(values):
        raise InputError(f"Expected at least two different values of {argument(name)}, got {list(values)}.")
    settings = {key: dict(own) for key, own in (options.pop("hyperparameters", None) or {}).items()}
    if name in settings.get(method, {}):
        raise InputError(f"Expected {argument(name)} as the values to compare alone, got one setting of it too.")
    rows: list[tuple[float, BenchmarkRow]] = []
    notes: list[str] = []
    for value in sorted(values):
        known = {**settings, method: {**settings.get(method, {}), name: value}}
        result = run_benchmark(source, methods=[method], hyperparameters=known, **options)
        rows += [(value, row) for row in result.rows]
        notes += [*result.notes, *(f"{name}={value:.15g} is left out: {reason}" for reason in result.reasons)]
    return ParameterSweep(method, name, tuple(rows), tuple(dict.fromkeys(notes)))
