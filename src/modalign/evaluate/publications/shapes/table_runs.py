"""Runs of the rows of printed tables on other data: the digits, features, or a folder of images."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.progress import track
from modalign.evaluate.benchmark.benchmark import NoRunsError, run_benchmark
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import TRANSFER
from modalign.evaluate.comparison.findings import title
from modalign.evaluate.publications.bench_commands import encoder_parts
from modalign.evaluate.publications.shapes.row_claims import TableRow, printed_rows
from modalign.evaluate.runs import RunWarning, shared_warnings
from modalign.methods import method_class, method_name
from modalign.methods.contract.parameters import check_parameters
from modalign.methods.contract.vectors import VectorMethod


@dataclass(frozen=True)
class TableRuns:
    """Runs of rows of tables, and why others are missing.

    Attributes
    ----------
    runs : tuple of BenchmarkRun
        Also those of the results file with the same settings.
    reasons : mapping of str to tuple of str
        Reason → names of the rows that were not run.
    """

    runs: tuple[BenchmarkRun, ...]
    reasons: Mapping[str, tuple[str, ...]]

    @property
    def notes(self) -> list[str]:
        """Warnings of the runs, each once with its methods."""
        return shared_warnings({run.key: run.run for run in self.runs}.values(), title)


def run_tables(
    source: str | Path,
    tables: Sequence[tuple[str, str]],
    *,
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
    settings: str = "default",
    record: str | Path | None = None,
    **options: Any,
) -> TableRuns:
    """Run the rows of tables by their protocols on data of your own.

    Each row is a call of :func:`~modalign.evaluate.benchmark.benchmark.run_benchmark`, so a record is continued.
    Transfers are left out where there is one data set.

    Parameters
    ----------
    source : str or Path
        See :class:`~modalign.evaluate.benchmark.benchmark_source.BenchmarkSource`.
    tables : sequence of (str, str)
        Papers and tables, as :func:`~modalign.evaluate.publications.table_view.find_tables` has them.
    hyperparameters : mapping, optional
        Method → name → value, such as fewer epochs; those that make a row what it is take precedence.
    settings : str, default="default"
        Or ``"paper"``.
    record : str, Path or None, default=None
        Results file.
    options : object
        Further arguments of ``run_benchmark``, such as ``seeds``, ``encoder`` and ``jobs``.

    Raises
    ------
    InputError
        The data or an option is invalid; raised before anything is fitted.
    """
    given = BenchmarkSource(source, options.get("datasets"))
    groups = list(_groups(tables))
    known_methods = list(dict.fromkeys(rows[0].method for rows in groups))
    hyperparameters = {method_name(name): values for name, values in (hyperparameters or {}).items()}
    for name, values in hyperparameters.items():
        if name not in known_methods:
            raise UnknownNameError("method of these tables", name, known_methods)
        check_parameters(method_class(name)(**values))  # before other rows are run
    runs: list[BenchmarkRun] = []
    reasons: dict[str, list[str]] = {}
    for rows in track(groups, "rows of the tables", total=len(groups), unit="rows"):
        row = rows[0]
        if given.of_vectors and not issubclass(method_class(row.method), VectorMethod):
            reasons.setdefault("it learns inside an encoder and needs images", []).append(row.name)
            continue
        if row.protocol in TRANSFER and len(given.names_for(row.protocol)) < 2:
            reasons.setdefault("its protocol takes several data sets", []).append(row.name)
            continue
        encoder = options.get("encoder") or ""
        of_part = row.images in ("vision", "clip")
        joined = "+" in encoder or (of_part and given.of_vectors and "+" in given.open(given.names[0]).encoder_name)
        if given.of_vectors and of_part and (joined or not row.runs_on(encoder)):
            reasons.setdefault("it compares the parts of two encoders and needs images", []).append(row.name)
            continue
        if not row.runs_on(encoder):
            reasons.setdefault("it compares the parts of two encoders; give both as a+b", []).append(row.name)
            continue
        known = {**hyperparameters.get(row.method, {}), **dict(row.changes)}
        ways: dict[str, Any] = {"hyperparameters": {row.method: known}} if known else {}
        if row.imbalance is not None:
            ways["imbalances"] = [one.imbalance for one in rows]
        elif row.shots:
            ways["shots"] = [one.shots for one in rows]
        ways |= {"protocol": row.protocol, "methods": [row.method], "settings": settings, "record": record, **options}
        if "+" in encoder:
            ways["encoder"], ways["clip_encoder"] = encoder_parts(encoder, row.images)
            ways["clip_encoder"] = ways["clip_encoder"] or None
        for per_class in dict.fromkeys([row.per_class, None]):  # all images where classes have too few
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RunWarning)  # they are among the notes
                    result = run_benchmark(source, per_class=per_class, **ways)
            except NoRunsError as error:
                reasons.setdefault(error.reasons, []).append(row.name)
                continue
            runs += result.runs
            for reason in result.reasons:
                reasons.setdefault(reason, []).append(row.name)
            break
    if not runs:
        why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in list(reasons.items())[:3])
        raise InputError(
            f"Expected rows that can be run on '{source}', got none ({why or 'no row has a protocol of bench'})."
        )
    return TableRuns(tuple(runs), {reason: tuple(dict.fromkeys(names)) for reason, names in reasons.items()})


def _groups(tables: Sequence[tuple[str, str]]) -> Iterator[list[TableRow]]:
    """Rows that differ by the number of labels or the imbalance alone, in one list."""
    found: dict[str, dict[tuple[object, ...], TableRow]] = {}
    for paper, table in tables:
        for row in printed_rows(paper, table):
            key = json.dumps([row.method, row.changes, row.protocol, row.per_class, row.images])
            found.setdefault(key, {}).setdefault(row.key, row)
    return iter([list(rows.values()) for rows in found.values()])
