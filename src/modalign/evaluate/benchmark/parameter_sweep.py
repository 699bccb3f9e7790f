"""A method of a benchmark at several values of one hyper-parameter, or of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from modalign.core.errors import InputError, argument
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_result import AVERAGE, BenchmarkRow
from modalign.evaluate.metrics import Interval, interval_legend

_Value = TypeVar("_Value")
MEGABYTE = 2.0**20


class SweepRow(NamedTuple):
    """Figures at one value.

    Attributes
    ----------
    value : float
        Of the hyper-parameter.
    found : BenchmarkRow
        What was found with it.
    other : float, optional
        Of the second hyper-parameter.
    """

    value: float
    found: BenchmarkRow
    other: float | None = None


@dataclass(frozen=True)
class ParameterSweep:
    """Accuracy, time and memory by the value of a hyper-parameter.

    Attributes
    ----------
    method, name : str
        Method, and hyper-parameter.
    rows : tuple of SweepRow
        By value, those of the first value first.
    notes : tuple of str, default=()
        Remarks about the data, and what is missing.
    second : str, default=""
        The other hyper-parameter of a sweep of two.
    """

    method: str
    name: str
    rows: tuple[SweepRow, ...]
    notes: tuple[str, ...] = ()
    second: str = ""

    @property
    def curves(self) -> dict[str, dict[float, Interval]]:
        """Name → value → accuracy over seeds.

        A curve per value of the second hyper-parameter, protocol, number of labels, tested part and data set. Where
        there are several data sets, those of their average alone.
        """
        return self._curves(lambda row: row.accuracy)

    @property
    def seconds(self) -> dict[str, dict[float, float]]:
        """The same with the mean processor seconds of a fit."""
        return self._curves(lambda row: row.cpu_seconds)

    @property
    def megabytes(self) -> dict[str, dict[float, float]]:
        """The same with the peak memory of a run; without the runs that do not have it."""
        found = self._curves(lambda row: row.peak_bytes)
        known = {
            name: {value: peak / MEGABYTE for value, peak in curve.items() if peak is not None}
            for name, curve in found.items()
        }
        return {name: curve for name, curve in known.items() if curve}

    def _curves(self, figure: Callable[[BenchmarkRow], _Value]) -> dict[str, dict[float, _Value]]:
        shown = [row for row in self.rows if row.found.dataset == AVERAGE] or list(self.rows)
        words = [
            ("" if other is None else f"{self.second} {other:.15g}", row.protocol, row.setting, row.dataset, row.part)
            for _, row, other in shown
        ]
        varying = [i for i in range(5) if len({word[i] for word in words}) > 1] or [2]
        found: dict[str, dict[float, _Value]] = {}
        for one, word in zip(shown, words, strict=True):
            found.setdefault(", ".join(word[i] for i in varying), {})[one.value] = figure(one.found)
        return found

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text."""
        names = [self.name, self.second] if self.second else [self.name]
        header = [*names, "protocol", "labels", "data set", "tested", "accuracy", "n", "cpu s", "MB"]
        return header, [
            [*(f"{number:.15g}" for number in (value, other) if number is not None), row.protocol, row.setting,
             row.dataset, row.part, str(row.accuracy), f"{row.n_test:,}", f"{row.cpu_seconds:.1f}",
             "" if row.peak_bytes is None else f"{row.peak_bytes / MEGABYTE:.0f}"]
            for value, row, other in self.rows
        ]  # fmt: skip

    @property
    def legend(self) -> str:
        """Meaning of ± in :attr:`table`."""
        return interval_legend(row.found.accuracy for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "name": self.name,
            **({"second": self.second} if self.second else {}),
            "notes": list(self.notes),
            "rows": [
                {
                    "value": value, **({"other": other} if self.second else {}), "protocol": row.protocol,
                    "shots": row.shots, "dataset": row.dataset, "part": row.part, "accuracy": row.accuracy.mean,
                    "low": row.accuracy.low, "high": row.accuracy.high, "seeds": row.accuracy.n, "n_test": row.n_test,
                    "cpu_seconds": row.cpu_seconds, "peak_bytes": row.peak_bytes,
                }
                for value, row, other in self.rows
            ],
        }  # fmt: skip


def sweep_parameter(
    source: str | Path,
    method: str,
    name: str,
    values: Sequence[float],
    *,
    by: tuple[str, Sequence[float]] | None = None,
    **options: Any,
) -> ParameterSweep:
    """Run a benchmark for each value of a hyper-parameter of a method, or for each pair of values of two.

    The values are compared on test images, so a sweep describes a method and chooses nothing.

    Parameters
    ----------
    source : str or Path
        As for :func:`~modalign.evaluate.benchmark.benchmark.run_benchmark`.
    method, name : str
        A method; one of its hyper-parameters.
    values : sequence of float
        Different numbers; at least two.
    by : tuple of str and sequence of float, default=None
        Another hyper-parameter and its values, of which each has a curve.
    options : object
        Further arguments of ``run_benchmark``, such as ``protocol``, ``shots`` and ``seeds``.

    Raises
    ------
    InputError
        Before anything is fitted.
    """
    settings = {key: dict(own) for key, own in (options.pop("hyperparameters", None) or {}).items()}
    second, others = ("", (None,)) if by is None else (by[0], tuple(by[1]))
    for parameter, numbers in ((name, values), *([] if by is None else [by])):
        if len(set(numbers)) < 2 or len(set(numbers)) < len(numbers):
            raise InputError(f"Expected at least two different values of {argument(parameter)}, got {list(numbers)}.")
        if parameter in settings.get(method, {}):
            raise InputError(
                f"Expected {argument(parameter)} as the values to compare alone, got one setting of it too."
            )
    if second == name:
        raise InputError(f"Expected another hyper-parameter than {argument(name)} beside it, got it twice.")
    rows: list[SweepRow] = []
    notes: list[str] = []
    for value in sorted(values):
        for other in sorted(others, key=lambda number: number or 0):
            chosen = {name: value} | ({} if other is None else {second: other})
            known = {**settings, method: {**settings.get(method, {}), **chosen}}
            result = run_benchmark(source, methods=[method], hyperparameters=known, **options)
            rows += [SweepRow(value, row, other) for row in result.rows]
            words = ", ".join(f"{key}={number:.15g}" for key, number in chosen.items())
            notes += [*result.notes, *(f"{words} is left out: {reason}" for reason in result.reasons)]
    return ParameterSweep(method, name, tuple(rows), tuple(dict.fromkeys(notes)), second)
