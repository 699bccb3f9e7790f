"""A printed table with the state of each of its numbers and the user's own numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modalign.core.errors import UnknownNameError
from modalign.evaluate.metrics import interval_legend
from modalign.evaluate.publications.number_states import KINDS, NumberState, number_state
from modalign.evaluate.publications.own_runs import OwnNumber
from modalign.evaluate.publications.printed_block import PrintedBlock
from modalign.evaluate.publications.printed_methods import refuse_row
from modalign.evaluate.publications.printed_tables import BLOCKS, REMARKS, printed_numbers
from modalign.evaluate.publications.published_number import PAPERS, Published
from modalign.evaluate.publications.shapes.shape_statements import ShapeStatement

_ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII", 8: "VIII", 9: "IX", 10: "X"}
_SHARED = (("dataset", "not stated"), ("setting", "cost"))  # of a column of others, not of separate rows


@dataclass(frozen=True)
class NumberCell:
    """A printed number, its state, one's own number if there is one, and which footnote it has (0: none)."""

    number: Published
    state: NumberState
    own: OwnNumber | None
    footnote: int


@dataclass(frozen=True)
class PaperTable:
    """One table as printed.

    Attributes
    ----------
    paper, table : str
        ``"cmm"`` and ``"Table 1"``.
    title : str
        Protocols and backbones.
    columns : tuple of str
        Heads.
    groups : mapping of str to rows
        Name and cells of each row under the name of a group, which is ``""`` where there is one; None is an empty cell.
    footnotes : tuple of str
        Cautions, in the order of their numbers.
    remarks : tuple of str
        Remarks on the whole table, and the other harmonic mean.
    shapes : tuple of ShapeStatement, default=()
        Whether runs on other data have the printed order of rows.
    """

    paper: str
    table: str
    title: str
    columns: tuple[str, ...]
    groups: Mapping[str, Sequence[tuple[str, tuple[NumberCell | None, ...]]]]
    footnotes: tuple[str, ...]
    remarks: tuple[str, ...]
    shapes: tuple[ShapeStatement, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether one's own runs are beside a number or give the order of two rows."""
        return bool(self.shapes) or any(cell.own is not None for cell in self.cells)

    @property
    def cells(self) -> list[NumberCell]:
        """All numbers."""
        return [cell for rows in self.groups.values() for _, row in rows for cell in row if cell is not None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        cells = [
            {**vars(cell.number), "state": cell.state.kind, "detail": cell.state.detail, "command": cell.state.command}
            | (
                {}
                if cell.own is None
                else {"own": vars(cell.own.value) | {"encoder": cell.own.encoder, "settings": cell.own.settings}}
            )
            for cell in self.cells
        ]
        return {
            "paper": self.paper, "table": self.table, "numbers": cells, "remarks": list(self.remarks),
            "shapes": [shape.as_dict() for shape in self.shapes],
        }  # fmt: skip


Own = Callable[[Published], OwnNumber | None]


def find_tables(names: Sequence[str]) -> list[tuple[str, str]]:
    """(paper, table) of each name such as ``"cmm:1"``, ``"dam:IV"`` and ``"dam:4"``, ``"gpua"``, or ``"all"``.

    Raises
    ------
    UnknownNameError
        No paper or no table of it has that name.
    InputError
        The name is that of a row; the message says in which tables it is, and whether the library has its method.
    """
    found: dict[tuple[str, str], None] = {}
    for name in names:
        paper, _, table = name.partition(":")
        papers = list(PAPERS) if paper.lower() == "all" else [paper.lower()]
        if papers[0] not in PAPERS:
            refuse_row(name)
            raise UnknownNameError("paper", paper, [*PAPERS, "all"])
        for one in papers:
            found |= dict.fromkeys((one, own) for own in _tables_of(one, table))
    return list(found)


def paper_table(
    paper: str, table: str, own: Own = lambda number: None, shapes: Sequence[ShapeStatement] = ()
) -> PaperTable:
    """A table as printed, each number with its state.

    Parameters
    ----------
    paper, table : str
        As :func:`find_tables` has them.
    own : callable, optional
        One's own number for a printed one, or None.
    shapes : sequence of ShapeStatement, default=()
        What one's own runs state about the order of its rows.
    """
    blocks = [block for block in BLOCKS[paper] if block.table == table]
    labels = _group_labels(blocks)
    heads: dict[str, None] = {}
    footnotes: dict[str, int] = {}
    rows: dict[str, dict[str, dict[str, NumberCell]]] = {}
    numbers = iter([p for p in printed_numbers() if (p.paper, p.table) == (paper, table)])
    for block, label in zip(blocks, labels, strict=True):
        for entry, _ in block.cells():
            number = next(numbers)
            head = ", ".join(_head(key, entry[key]) for key in block.columns)
            heads[head] = None
            mark = footnotes.setdefault(number.caution, len(footnotes) + 1) if number.caution else 0
            cell = NumberCell(*_with_own(number, own(number)), mark)
            rows.setdefault(label, {}).setdefault(str(entry[block.rows_are]), {})[head] = cell
    groups = {
        label: [(name, tuple(row.get(head) for head in heads)) for name, row in own_rows.items()]
        for label, own_rows in rows.items()
    }
    remarks = [text for about, text in REMARKS[paper] if about in (table, table.partition("(")[0])]
    remarks += _other_mean(groups)
    return PaperTable(
        paper, table, _title(blocks), tuple(heads), groups, tuple(footnotes), tuple(remarks), tuple(shapes)
    )


def count_states(tables: Iterable[PaperTable]) -> dict[str, Counter[str]]:
    """Paper → numbers by state, every state named."""
    counts: dict[str, Counter[str]] = {}
    for table in tables:
        counts.setdefault(table.paper, Counter(dict.fromkeys(KINDS, 0))).update(c.state.kind for c in table.cells)
    return counts


def own_legend(tables: Iterable[PaperTable]) -> str:
    """Meaning of ± after one's own numbers; ``""`` where there are none."""
    own = [cell.own.value for table in tables for cell in table.cells if cell.own is not None]
    return interval_legend(own) if own else ""


def _tables_of(paper: str, table: str) -> list[str]:
    """All tables of a paper, or those with a number: ``4`` is also ``IV``, ``5`` all parts of V, ``5b`` one of them."""
    known = list(dict.fromkeys(block.table for block in BLOCKS[paper]))
    if not table:
        return known
    plain = {name: re.sub(r"[()\s]", "", name.removeprefix("Table ")).lower() for name in known}
    wanted = re.sub(r"[()\s]", "", table).lower()
    letters = wanted.lstrip("0123456789")
    digits = wanted.removesuffix(letters)
    roman = _ROMAN.get(int(digits or 0), "").lower() + letters
    found = [name for name, own in plain.items() if own in (wanted, roman)]
    found = found or [name for name, own in plain.items() if own[:-1] in (wanted, roman) and "(" in name]
    if not found:
        raise UnknownNameError(f"table of {paper}", table, plain.values())
    return found


def _with_own(number: Published, own: OwnNumber | None) -> tuple[Published, NumberState, OwnNumber | None]:
    """The state that a run makes of a number."""
    state = number_state(number)
    if own is not None:
        state = NumberState("here" if own.same_encoder else "other backbone", own.encoder, state.command)
    return number, state, own


def _group_labels(blocks: Sequence[PrintedBlock]) -> list[str]:
    """Return the heading of a block of a table: data set, protocol or backbone."""
    kinds = [{"dataset": str(b.fixed.get("dataset", "")), "setting": b.setting, "backbone": b.backbone} for b in blocks]
    distinct = {key: list(dict.fromkeys(k[key] for k in kinds if (key, k[key]) not in _SHARED)) for key in kinds[0]}
    telling = [key for key, values in distinct.items() if len(values) > 1]
    return [", ".join(distinct[k][0] if (k, kind[k]) in _SHARED else kind[k] for k in telling) for kind in kinds]


def _head(key: str, value: object) -> str:
    if key == "shots":
        return "1 shot" if value == 1 else f"{value} shots" if value else "no label"
    return "H" if value == "harmonic mean" else str(value)


def _title(blocks: Sequence[PrintedBlock]) -> str:
    """Protocols, backbones, shots and metrics that rows share, each once."""
    settings = [b.setting for b in blocks if ("setting", b.setting) not in _SHARED] or [blocks[0].setting]
    shots = [_head("shots", b.fixed["shots"]) for b in blocks if "shots" in b.fixed]
    metrics = [str(b.fixed["metric"]) for b in blocks if "metric" in b.fixed]
    return ", ".join(
        dict.fromkeys(text for text in (*settings, *(b.backbone for b in blocks), *shots, *metrics) if text)
    )


def _other_mean(groups: Mapping[str, Sequence[tuple[str, tuple[NumberCell | None, ...]]]]) -> list[str]:
    """The mean of the harmonic means of base and new, where the table has their harmonic mean of the averages."""
    found: dict[str, list[float]] = {}
    for rows in groups.values():
        for name, row in rows:
            numbers = [cell.number for cell in row if cell is not None and cell.number.metric == "harmonic mean"]
            found.setdefault(name, []).extend(n.value for n in numbers if n.dataset != "average")
    means = [f"{name} {np.mean(values):.2f}" for name, values in found.items() if len(values) > 1]
    if not means or len(groups) == 1:
        return []
    return [f"Means of the harmonic means, which are not printed: {', '.join(means)}."]
