"""Tables of the page of a comparison."""

from __future__ import annotations

from modalign.evaluate.comparison.findings import REFERENCE, Ablation, title
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.metrics import percent
from modalign.evaluate.paired import Comparison, signed
from modalign.evaluate.runs import Shots, Summary, labels_in_words
from modalign.report.page import PageSection
from modalign.report.run_tables import Fold, Table, TableCell, chance_row, interval_note
from modalign.report.text import count

_SAME = "→"  # in the columns of a method without labels


def accuracies(result: MethodComparison) -> Table:
    """Methods down, labels across; the highest of a column in bold, and a mark where it differs from zero-shot."""
    verdicts = {(v.shots, v.first): v.comparison for v in result.verdicts if v.kind == "reference"}
    highest = {shots: result.standing(shots)[0].accuracy.mean for shots in result.shots}
    rows: list[list[TableCell | str]] = []
    for method in result.methods:
        line: list[TableCell | str] = [title(method)]
        for shots in result.shots:
            row = _own(result, method, shots)
            if not isinstance(row, Summary):
                line.append(row)
                continue
            strong = len(result.standing(shots)) > 1 and row.accuracy.mean == highest[shots]
            sign = _sign(verdicts.get((shots, method)))
            line.append(TableCell(percent(row.accuracy.mean), row.accuracy.spread, strong, sign))
        rows.append(line)
    low, high = result.test_interval(result.best)
    notes = [interval_note(row.accuracy for row in result.table)]
    notes.append(f"With other test images {percent(result.best.accuracy.mean)} % would lie between {percent(low)} and "
                 f"{percent(high)} % (95 % interval for {result.n_test:,} images).")  # fmt: skip
    if verdicts:
        notes.append("▲ significantly better and ▼ significantly worse than zero-shot; the test is explained below.")
    if any(_SAME in line for line in rows):
        notes.append(f"{_SAME} as without labels, which this method does not use.")
    return Table(
        ["", *map(labels_in_words, result.shots)],
        rows,
        " ".join(notes),
        title="Accuracy in percent by labeled images per class, the highest of a column in bold",
        foot=[] if result.chance is None else [chance_row(result.chance, len(result.shots))],
    )


def against_reference(result: MethodComparison) -> Table | None:
    """Differences to zero-shot, methods down and labels across; None if there are none."""
    found = {(v.first, v.shots): v.comparison for v in result.verdicts if v.kind == "reference"}
    rows: list[list[TableCell | str]] = []
    for method in (m for m in result.methods if m != REFERENCE):
        line: list[TableCell | str] = [title(method)]
        for shots in result.shots:
            row = _own(result, method, shots)
            comparison = found.get((method, shots))
            if isinstance(row, Summary) and comparison is not None:
                line.append(
                    TableCell(signed(comparison.difference), comparison.interval, strong=comparison.significant)
                )
            else:
                line.append(row if isinstance(row, str) else "–")
        rows.append(line)
    if not found:
        return None
    return Table(
        ["", *map(labels_in_words, result.shots)],
        rows,
        "Difference in points over its corrected interval. Bold: significant. Not bold: no significant difference.",
        title=f"Each method against {title(REFERENCE)}",
    )


def best_and_second(result: MethodComparison) -> Table | None:
    """The two most accurate methods at every number of labels, a row per comparison; None if there is none."""
    found: dict[tuple[str, str, Comparison], list[str]] = {}
    for v in result.verdicts:
        if v.kind == "runner-up":
            found.setdefault((v.first, v.second, v.comparison), []).append(labels_in_words(v.shots))
    if not found:
        return None
    rows: list[list[TableCell | str]] = [
        [", ".join(labels), title(first), title(second), _points(comparison), _verdict(comparison)]
        for (first, second, comparison), labels in found.items()
    ]
    return Table(
        ["labels per class", "most accurate", "second", "difference, points", "verdict"],
        rows,
        "The two methods were selected on the test images, which favors the first.",
        title="The most accurate method against the second",
    )


def ablation_blocks(result: MethodComparison) -> list[PageSection]:
    """Ablations that change the accuracy significantly, by method, and the others folded."""
    changed = [a for a in result.ablations if a.comparison.significant]
    others = [a for a in result.ablations if not a.comparison.significant]
    chance = "" if result.chance is None else f"Chance level is {percent(result.chance)} %."
    blocks: list[PageSection] = []
    if changed:
        blocks.append(_ablation_table(changed, chance, "Significant changes"))
    if others:
        summary = f"{count(len(others), 'ablation')} without a significant difference"
        blocks.append(Fold(summary, [_ablation_table(others, chance)]))
    return blocks


def costs(result: MethodComparison) -> Table:
    """Time and memory by method."""
    rows = [
        [
            title(c.method),
            labels_in_words(c.shots),
            f"{c.n_train:,}",
            "–" if c.n_unlabeled is None else f"{c.n_unlabeled:,}",
            f"{c.fit_seconds:.2f}",
            f"{1e6 * c.predict_seconds / c.n_test:.0f}",
            "–" if c.peak_bytes is None else f"{c.peak_bytes / 2**20:.0f}",
        ]
        for c in result.costs
    ]
    header = [
        "",
        "labels per class",
        "labeled images",
        "unlabeled",
        "fit, s",
        "predict 1,000 images, ms",
        "memory, MiB",
    ]
    return Table(header, rows)


def _ablation_table(ablations: list[Ablation], caption: str, heading: str = "") -> Table:
    groups: dict[str, list[list[TableCell | str]]] = {}
    for a in ablations:
        groups.setdefault(title(a.method), []).append(
            [
                a.ingredient,
                labels_in_words(a.shots),
                percent(a.accuracy.mean),
                percent(a.without.mean),
                _points(a.comparison),
                _effect(a.comparison),
            ]
        )
    header = ["switched off", "labels per class", "with it, %", "without, %", "difference, points", "the component"]
    return Table(header, groups, caption, title=heading)


def _own(result: MethodComparison, method: str, shots: Shots) -> Summary | str:
    """The row of a method that was run at that number of labels, or its replacement."""
    row = result.at(method, shots)
    if row is None:
        return "–"
    return row if row.shots == shots else _SAME


def _sign(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.significant:
        return ""
    return "▲" if comparison.difference > 0 else "▼"


def _points(comparison: Comparison) -> TableCell:
    return TableCell(signed(comparison.difference), comparison.interval, strong=comparison.significant)


def _verdict(comparison: Comparison) -> str:
    return "significantly better" if comparison.significant else "no significant difference"


def _effect(comparison: Comparison) -> str:
    if comparison.significant:
        return "helps" if comparison.difference > 0 else "hurts"
    if comparison.low == comparison.high == 0:
        return "no significant difference: the same images are right"
    return "no significant difference"
