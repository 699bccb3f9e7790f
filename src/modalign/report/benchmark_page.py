"""Page of a benchmark: a section per protocol, first the average over data sets, then each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modalign.core.record import versions
from modalign.evaluate.benchmark.benchmark_result import (
    AVERAGE,
    HALVES,
    BenchmarkResult,
    BenchmarkRow,
    places_once,
)
from modalign.evaluate.benchmark.benchmark_tasks import TRANSFER
from modalign.evaluate.comparison.findings import REFERENCE, title
from modalign.evaluate.metrics import Interval, percent
from modalign.evaluate.runs import Summary, amount
from modalign.report import statements
from modalign.report.curves import accuracy_over_labels
from modalign.report.page import Page, PageSection
from modalign.report.papers.outcomes import base_new_bars
from modalign.report.papers.sweeps import MethodCost, cost_bubbles
from modalign.report.run_tables import Fold, Table, TableCell, interval_note
from modalign.report.style import Picture
from modalign.report.text import count, fact, without_folders

CURVES = 8  # methods in a figure; more lines cannot be told apart
OVER_LABELS = "Accuracy by labeled images per class"

HEADINGS = {
    "few-shot": ("Few labels", "Labeled images are drawn per class; the whole test list is tested."),
    "base-to-new": (
        "From base to new classes",
        "Methods learn on the first half of the classes. Each half is tested in its own label space.",
    ),
    "cross-dataset": (
        "From one data set to others",
        "Methods learn on the first data set and are tested on it and on others with other class names. The average "
        "is over the targets, without the source.",
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
    sets = list(
        dict.fromkeys(row.part if row.protocol in TRANSFER else row.dataset for row in rows if row.n_datasets == 1)
    )
    methods = list(dict.fromkeys(row.method for row in rows))
    seeds = sorted({run.run.seed for run in result.runs})
    page = Page(
        f"{count(len(methods), 'method')} on {count(len(sets), 'data set')}",
        f"{count(len(result.runs), 'run')} of published protocols. Test labels are used once per run, to score it.",
        facts=[fact(len(methods), "method"), fact(len(sets), "data set"), fact(len(seeds), "seed")],
        record={
            "encoder": sorted({run.encoder for run in result.runs}),
            "settings": sorted({run.settings for run in result.runs}),
            "data sets": sets,
            "seeds": seeds,
            "versions": versions(),
        },
    )
    for protocol in dict.fromkeys(row.protocol for row in rows):
        own = [row for row in rows if row.protocol == protocol]
        blocks = _blocks(own)
        drawn = any(isinstance(block, Picture) and block.title == OVER_LABELS for block in blocks)
        heading, text = HEADINGS[protocol]
        if drawn and len({row.method for row in own}) > CURVES:
            text += f" The figure shows zero-shot and the {CURVES} methods with the highest accuracy at most labels."
        if protocol == rows[0].protocol:  # which holds for all sections
            text += f"\n\n{interval_note(row.accuracy for row in rows)}"
        page.section(heading, text, blocks=blocks)
    if costs := _costs(rows):
        page.section("Cost", costs[0], blocks=costs[1])
    _add_missing(page, result)
    return page.save(path)


def _blocks(rows: Sequence[BenchmarkRow]) -> list[PageSection]:
    averages = [row for row in rows if row.n_datasets > 1]
    first = averages or [row for row in rows if row.dataset == rows[0].dataset]
    blocks: list[PageSection] = []
    tests = [row for row in first if row.part == "test"]
    if len({row.shots for row in tests if row.shots}) > 1:
        curves = [Summary(title(row.method), row.shots, row.accuracy, row.cpu_seconds) for row in _best(tests)]
        blocks.append(accuracy_over_labels(curves, width=470, height=360))
    blocks += [*_tables(first, _title(first[0])), *_bars(first)]
    others = [
        table
        for dataset in dict.fromkeys(row.dataset for row in rows if row.n_datasets == 1)
        if (own := [row for row in rows if row.dataset == dataset]) != first
        for table in _tables(own, dataset)
    ]
    if others:
        blocks.append(Fold("Each data set", others))
    return blocks


def _best(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """The rows of zero-shot and of the methods with the highest accuracy, each at its largest number of labels."""
    last = {row.method: row for row in sorted(rows, key=_order)}
    ranked = sorted((name for name in last if name != REFERENCE), key=lambda name: -last[name].accuracy.mean)
    return [row for row in rows if row.method in (REFERENCE, *ranked[:CURVES])]


def _order(row: BenchmarkRow) -> tuple[float, float]:
    """Settings in order: by imbalance and by number of labels."""
    return row.imbalance or 0.0, amount(row.shots)


def _bars(rows: Sequence[BenchmarkRow]) -> list[PageSection]:
    """Base and new classes of each method, at the last setting."""
    halves = [row for row in rows if row.part in HALVES]
    if not halves:
        return []
    last = max(halves, key=_order)
    found: dict[str, dict[str, Interval]] = {}
    for row in halves:
        if row.setting == last.setting or row.shots == 0:
            found.setdefault(title(row.method), {})[row.part] = row.accuracy
    known = {name: (parts["base"], parts["new"]) for name, parts in found.items() if len(parts) == len(HALVES)}
    return [base_new_bars(known, title=f"Base and new classes, {last.setting}")] if known else []


def _costs(rows: Sequence[BenchmarkRow]) -> tuple[str, list[PageSection]] | None:
    """Text, figure and table of the cost of a fit; of one data set of one protocol, since only that is comparable."""
    whole = [row for row in rows if row.part == "test" and row.n_datasets == 1]
    if not whole:
        return None
    protocol, dataset = whole[0].protocol, whole[0].dataset
    own = [row for row in whole if (row.protocol, row.dataset) == (protocol, dataset)]
    last = {row.method: row for row in sorted(own, key=_order)}
    text = (
        f"Processor time of one fit on {dataset} by the protocol {protocol}, with the largest number of labels of each "
        "method, summed over threads."
    )
    costs = [MethodCost(title(name), row.accuracy.mean, row.cpu_seconds) for name, row in last.items()]
    listed = [
        [cost.name, last[name].setting, percent(cost.accuracy), f"{cost.seconds:.2f}"]
        for name, cost in zip(last, costs, strict=True)
    ]
    table = Table(["", "labels", "accuracy", "processor s"], listed)
    return text, [cost_bubbles(costs), Fold("As a table", [table])]


def _title(row: BenchmarkRow) -> str:
    return f"Average of {row.n_datasets} data sets" if row.dataset == AVERAGE else row.dataset


def _tables(rows: Sequence[BenchmarkRow], name: str) -> list[PageSection]:
    """A table; where several parts are tested in several settings, one of the last setting and the others folded.

    Each has the methods without labels, which are the same in all.
    """
    settings = list(dict.fromkeys(row.setting for row in sorted(rows, key=_order) if row.imbalance or row.shots))
    if len(settings) < 2 or len({row.part for row in rows}) == 1:
        return [_table(rows, name)]
    tables = [
        _table([row for row in rows if row.setting == setting or row.setting not in settings], f"{name}, {setting}")
        for setting in reversed(settings)
    ]
    return [tables[0], Fold("Other settings", tables[1:])]


def _table(rows: Sequence[BenchmarkRow], name: str) -> Table:
    """Methods down; settings or tested parts across; mean accuracy over its interval, the best in bold."""
    one = len({row.part for row in rows}) == 1
    columns = list(dict.fromkeys(row.setting if one else row.part for row in rows))
    cells = {(row.method, row.setting if one else row.part): row for row in rows}
    own = {column: [row.accuracy.mean for (_, c), row in cells.items() if c == column] for column in columns}
    best = {column: max(means) for column, means in own.items() if len(means) > 1}
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        line: list[TableCell | str] = [title(method)]
        for column in columns:
            row = cells.get((method, column))
            if row is None:
                line.append(TableCell("–"))
                continue
            strong = row.accuracy.mean == best.get(column)
            line.append(TableCell(percent(row.accuracy.mean), row.accuracy.spread, strong=strong))
        lines.append(line)
    caption, foot = _tested(cells)
    return Table(["", *columns], lines, caption, title=name, foot=foot)


def _tested(cells: Mapping[tuple[str, str], BenchmarkRow]) -> tuple[str, list[list[str]]]:
    """Caption and foot of a table: what is tested, per column where columns differ.

    Data sets of an average may show the same images, so that predictions are counted there.
    """
    sizes: dict[str, int] = {}
    for (_, column), row in cells.items():
        sizes[column] = max(sizes.get(column, 0), row.n_test)
    sets = max(row.n_datasets for row in cells.values())
    alike = len(set(sizes.values())) == 1
    n = next(iter(sizes.values()))
    if sets > 1:
        caption = f"Percent, averaged over {sets} data sets" + (f", with {n:,} predictions per seed." if alike else ".")
    else:
        caption = f"Percent of {count(n, 'test image')}." if alike else "Percent."
    unit = "predictions per seed" if sets > 1 else "test images"
    return caption, [] if alike else [[unit, *(f"{n:,}" for n in sizes.values())]]


def _add_missing(page: Page, result: BenchmarkResult) -> None:
    rows = [[places_once(methods), without_folders(reason)] for reason, methods in result.reasons.items()]
    notes = statements.paragraphs(result.notes)
    if rows or notes:
        blocks = [Table(["methods", "reason"], rows, title="Not run")] if rows else []
        page.section("Notes", notes, blocks=blocks)
