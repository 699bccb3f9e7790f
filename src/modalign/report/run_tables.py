"""Tables of a report, from plain values or from the summary of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from modalign.core.errors import InputError
from modalign.evaluate.metrics import Interval, interval_legend, percent
from modalign.evaluate.runs import Summary, amount, labels_in_words
from modalign.report.page import PageSection
from modalign.report.templating import render


@dataclass(frozen=True)
class TableCell:
    """A value, a small note under it and a sign behind it; ``strong`` where it is emphasized."""

    text: str
    note: str = ""
    strong: bool = False
    sign: str = ""


_LONGEST = 24  # characters of a number with its unit; longer cells are sentences
Row = Sequence[TableCell | str | int | float]


@dataclass(frozen=True)
class Table:
    """Header, rows of equal length, and a sentence under them. Columns of numbers are set flush right.

    Attributes
    ----------
    header : sequence of str
        Column names.
    rows : sequence of rows, or mapping from group name to rows
        Cells; plain values are written as ``str`` writes them. A group name has its own row above the rows of the
        group.
    caption : str
        Explanation, such as the meaning of an interval.
    title : str
        Title above the table.
    foot : sequence of rows
        Rows to compare the others with, such as chance level, set apart at the end.
    """

    header: Sequence[str]
    rows: Sequence[Row] | Mapping[str, Sequence[Row]]
    caption: str = ""
    title: str = ""
    foot: Sequence[Row] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in (*self._flat(), *self.foot)):
            raise InputError(f"Expected rows of {len(self.header)} cells, one per column of the header.")

    def html(self) -> str:
        """The table, everything escaped; scrolls by itself where the page is narrower."""
        groups = self.rows if isinstance(self.rows, Mapping) else {"": self.rows}
        cells = [_cells(row) for row in (*self._flat(), *self.foot)]
        kinds = ["number" if cells and all(_is_number(row[k].text) for row in cells) else "" for k in self._columns()]
        return render(
            "table.html",
            table=self,
            label=self.title or self.caption or "Table",
            kinds=kinds,
            signed=[any(row[k].sign for row in cells) for k in self._columns()],
            groups=[(name, [_cells(row) for row in rows]) for name, rows in groups.items()],
            foot=[_cells(row) for row in self.foot],
        )

    def _flat(self) -> list[Row]:
        return [row for rows in self.rows.values() for row in rows] if isinstance(self.rows, Mapping) else [*self.rows]

    def _columns(self) -> range:
        return range(len(self.header))


@dataclass(frozen=True)
class Fold:
    """Collapsed blocks with a ``summary`` of their content."""

    summary: str
    blocks: Sequence[PageSection]

    def html(self) -> str:
        """The fold, closed."""
        return render("fold.html", fold=self, blocks=[Markup(block.html()) for block in self.blocks])


def accuracy_table(rows: Sequence[Summary], *, chance: float) -> Table:
    """Methods down, labeled images per class across; mean accuracy in percent over its interval, the best in bold.

    Parameters
    ----------
    rows : sequence of Summary
        Result of :func:`~modalign.evaluate.runs.summarize`.
    chance : float
        Accuracy of guessing, in the last row.
    """
    shots = sorted({row.shots for row in rows}, key=amount)
    best = {k: max(row.accuracy.mean for row in rows if row.shots == k) for k in shots}
    found = {(row.method, row.shots): row.accuracy for row in rows}
    lines: list[list[TableCell | str]] = []
    for method in dict.fromkeys(row.method for row in rows):
        line: list[TableCell | str] = [method]
        for k in shots:
            if (accuracy := found.get((method, k))) is None:
                line.append(TableCell("–"))
                continue
            rivals = sum(row.shots == k for row in rows)
            strong = rivals > 1 and accuracy.mean == best[k]
            line.append(TableCell(percent(accuracy.mean), accuracy.spread, strong=strong))
        lines.append(line)
    return Table(
        ["", *map(labels_in_words, shots)],
        lines,
        interval_note(row.accuracy for row in rows),
        title="Accuracy in percent by labeled images per class, the highest of a column in bold",
        foot=[chance_row(chance, len(shots))],
    )


def chance_row(chance: float, columns: int) -> list[str]:
    """Row of chance level, for comparison."""
    return ["Chance level", *[percent(chance)] * columns]


def interval_note(intervals: Iterable[Interval]) -> str:
    """Explanation of the small print under an accuracy."""
    return interval_legend(intervals, "Small numbers are the 95 % interval")


def _cells(row: Row) -> list[TableCell]:
    return [content if isinstance(content, TableCell) else TableCell(str(content)) for content in row]


def _is_number(text: str) -> bool:
    return text in ("", "–", "→") or (len(text) <= _LONGEST and text.lstrip("+-−±≥≤<>~ ")[:1].isdigit())
