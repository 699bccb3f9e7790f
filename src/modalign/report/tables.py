"""Tables of a report, from plain values or from the summary of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modalign.errors import InputError
from modalign.evaluate.metrics import percent
from modalign.evaluate.runs import Summary, amount, labels_in_words
from modalign.report.style import words


@dataclass(frozen=True)
class Cell:
    """A value with a small note under it; ``strong`` where it is the best of its column."""

    text: str
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Header, rows of equal length, and a sentence under them. Columns of numbers are set flush right.

    Attributes
    ----------
    header : column names.
    rows : cells; plain values are written as ``str`` writes them.
    caption : what the reader should know, such as what ± means.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str | int | float]]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise InputError(f"Expected rows of {len(self.header)} cells, one a column of the header.")

    def html(self) -> str:
        """The table, everything escaped; scrolls by itself where the page is narrower."""
        cells = [[c if isinstance(c, Cell) else Cell(str(c)) for c in row] for row in self.rows]
        numeric = [bool(cells) and all(_is_number(row[k].text) for row in cells) for k in range(len(self.header))]
        kinds = [' class="number"' if n else "" for n in numeric]
        head = "".join(f'<th scope="col"{k}>{words(h)}</th>' for h, k in zip(self.header, kinds, strict=True))
        body = "".join(
            f"<tr>{''.join(_cell(c, k, first=i == 0) for i, (c, k) in enumerate(zip(row, kinds, strict=True)))}</tr>"
            for row in cells
        )
        caption = f"<caption>{words(self.caption)}</caption>" if self.caption else ""
        return (
            f'<div class="table" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )


def accuracy_table(rows: Sequence[Summary], caption: str | None = None) -> Table:
    """Methods down, labelled images a class across; mean accuracy in percent with its ± under it, the best in bold.

    Parameters
    ----------
    rows : what :func:`~modalign.evaluate.protocol.summarise` returns.
    caption : default: what the numbers are and over how many seeds.
    """
    shots = sorted({row.shots for row in rows}, key=amount)
    best = {k: max(row.accuracy.mean for row in rows if row.shots == k) for k in shots}
    found = {(row.method, row.shots): row.accuracy for row in rows}
    lines: list[list[Cell | str]] = []
    for method in dict.fromkeys(row.method for row in rows):
        line: list[Cell | str] = [method]
        for k in shots:
            if (accuracy := found.get((method, k))) is None:
                line.append(Cell("–"))
                continue
            spread = f"± {percent(accuracy.half_width)}" if math.isfinite(accuracy.half_width) else "one run"
            rivals = sum(row.shots == k for row in rows)
            line.append(Cell(percent(accuracy.mean), spread, strong=rivals > 1 and accuracy.mean == best[k]))
        lines.append(line)
    if caption is None:
        repeats = max((row.accuracy.n for row in rows), default=0)
        caption = f"Accuracy in percent by labelled images a class; ± is the 95 % interval over {repeats} seeds."
    header = ["", *map(labels_in_words, shots)]
    return Table(header, lines, caption)


def _cell(cell: Cell, kind: str, *, first: bool) -> str:
    text = f"<strong>{words(cell.text)}</strong>" if cell.strong else words(cell.text)
    note = f"<small>{words(cell.note)}</small>" if cell.note else ""
    return f'<th scope="row"{kind}>{text}{note}</th>' if first else f"<td{kind}>{text}{note}</td>"


def _is_number(text: str) -> bool:
    return text in ("", "–", "→") or text.lstrip("+-−±≥≤<>~ ")[:1].isdigit()
