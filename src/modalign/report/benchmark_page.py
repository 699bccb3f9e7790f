"""Page of a benchmark: a section per protocol, first the average over data sets, then each data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.core.record import versions
from modalign.evaluate.benchmark.benchmark_result import AVERAGE, HALVES, BenchmarkResult, BenchmarkRow
from modalign.evaluate.comparison.findings import title
from modalign.evaluate.metrics import Interval, percent
from modalign.evaluate.runs import Summary
from modalign.report import statements
from modalign.report.curves import accuracy_over_labels
from modalign.report.page import Page, PageSection
from modalign.report.papers.outcomes import base_new_bars
from modalign.report.papers.sweeps import MethodCost, cost_bubbles
from modalign.report.run_tables import Fold, Table, TableCell
from modalign.report.text import count, without_folders

HEADINGS = {
    "few-shot": ("Few labels", "Labeled images are drawn per class; the whole test list is tested."),
    "base-to-new": (
        "From base to new classes",
        "Methods learn on the first half of the classes. Each half is tested in its own label space.",
    ),
    "cross-dataset": (
        "From one data set to others",
        "Methods learn on the first data set and are tested on all, each with its own class names. The average is over "
        "the targets, without the source.",
    ),
    "domain": (
        "Shifted images",
        "Methods learn on the first data set and are tested on variants of it, among the classes of each variant. The "
        "average is over the variants, without the source.",
    ),
    "long-tail": (
        "Long-tailed training images",
        "The sizes of the base classes fall exponentially from the largest to the smallest. Each half of the classes "
        "is tested in its own label space.",
    ),
    "inductive": (
        "Without labels, new images",
        "Methods are fitted on the train list without labels and tested on the test list.",
    ),
    "transductive": (
        "Without labels, the same images",
        "Methods are fitted on the test list without labels, and their predictions for these images are scored.",
    ),
}


def save_benchmark_page(result: BenchmarkResult, path: str | Path) -> Path:
    """Write one self-contained HTML page.

    Parameters
    ----------
    result : BenchmarkResult
        Result of :func:`~modalign.evaluate.benchmark.benchmark.run_benchmark`.
    path : str or Path
        A name that ends in ``.html``.
    """
    rows = result.rows
    sets = list(dict.fromkeys(row.dataset for row in rows if row.n_datasets == 1))
    methods = list(dict.fromkeys(row.method for row in rows))
    seeds = sorted({run.run.seed for run in result.runs})
    page = Page(
        f"{count(len(methods), 'method')} on {count(len(sets), 'data set')}",
        f"{count(len(result.runs), 'run')} of published protocols. Test labels are used once per run, to score it.",
        facts=[(f"{len(methods)}", "methods"), (f"{len(sets)}", "data sets"), (f"{len(seeds)}", "seeds")],
        record={
            "encoder": sorted({run.encoder for run in result.runs}),
            "settings": sorted({run.settings for run in result.runs}),
            "data sets": sets,
            "seeds": seeds,
            "versions": versions(),
        },
    )
    for protocol in dict.fromkeys(row.protocol for row in rows):
        heading, text = HEADINGS[protocol]
        own = [row for row in rows if row.protocol == protocol]
        page.section(heading, text, blocks=_blocks(own))
    if costs := _costs(rows):
        page.section(
            "Cost",
            "Processor time of one fit on the last data set with the largest number of labels, summed over threads.",
            blocks=cost_bubbles(costs),
        )
    _add_missing(page, result)
    return page.save(path)


def _blocks(rows: Sequence[BenchmarkRow]) -> list[PageSection]:
    averages = [row for row in rows if row.n_datasets > 1]
    first = averages or [row for row in rows if row.dataset == rows[0].dataset]
    blocks: list[PageSection] = []
    tests = [row for row in first if row.part == "test"]
    if len({row.shots for row in tests if row.shots}) > 1:
        curves = [Summary(title(row.method), row.shots, row.accuracy, row.cpu_seconds) for row in tests]
        blocks.append(accuracy_over_labels(curves, width=720, height=430))
    blocks.append(_table(first, _title(first[0])))
    blocks += _bars(first)
    others = [
        _table(own, dataset)
        for dataset in dict.fromkeys(row.dataset for row in rows if row.n_datasets == 1)
        if (own := [row for row in rows if row.dataset == dataset]) != first
    ]
    if others:
        blocks.append(Fold("Each data set", others))
    return blocks


def _bars(rows: Sequence[BenchmarkRow]) -> list[PageSection]:
    """Base and new classes of each method, at the last setting."""
    setting = rows[-1].setting
    halves: dict[str, dict[str, Interval]] = {}
    for row in rows:
        if row.part in HALVES and (row.setting == setting or row.shots == 0):
            halves.setdefault(title(row.method), {})[row.part] = row.accuracy
    known = {name: (parts["base"], parts["new"]) for name, parts in halves.items() if len(parts) == len(HALVES)}
    return [base_new_bars(known, title=f"Base and new classes, {setting}")] if known else []


def _costs(rows: Sequence[BenchmarkRow]) -> list[MethodCost]:
    """A fit of each method at its last setting on whole data sets."""
    last = {row.method: row for row in rows if row.part == "test" and row.n_datasets == 1}
    return [MethodCost(title(name), row.accuracy.mean, row.cpu_seconds) for name, row in last.items()]


def _title(row: BenchmarkRow) -> str:
    return f"Average of {row.n_datasets} data sets" if row.dataset == AVERAGE else row.dataset


def _table(rows: Sequence[BenchmarkRow], name: str) -> Table:
    """Methods down; settings and tested parts across; mean accuracy over its interval, the best in bold."""
    columns = list(dict.fromkeys((row.setting, row.part) for row in rows))
    cells = {(row.method, row.setting, row.part): row for row in rows}
    best = {
        column: max(row.accuracy.mean for row in rows if (row.setting, row.part) == column)
        for column in columns
        if sum((row.setting, row.part) == column for row in rows) > 1
    }
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        line: list[TableCell | str] = [title(method)]
        for column in columns:
            row = cells.get((method, *column))
            if row is None:
                line.append(TableCell("–"))
                continue
            strong = row.accuracy.mean == best.get(column)
            line.append(TableCell(percent(row.accuracy.mean), row.accuracy.spread, strong=strong))
        lines.append(line)
    one = len({part for _, part in columns}) == 1
    header = ["", *(setting if one else f"{part}, {setting}" for setting, part in columns)]
    n = max(row.n_test for row in rows)
    caption = f"Percent of {count(n, 'test image')}; small print: 95 % interval over the seeds."
    return Table(header, lines, caption, title=name)


def _add_missing(page: Page, result: BenchmarkResult) -> None:
    rows = [[", ".join(methods), without_folders(reason)] for reason, methods in result.reasons.items()]
    notes = statements.paragraphs(result.notes)
    if rows or notes:
        blocks = [Table(["methods", "reason"], rows, title="Not run")] if rows else []
        page.section("Notes", notes, blocks=blocks)
