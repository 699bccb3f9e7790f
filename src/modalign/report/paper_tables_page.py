"""Page of the tables of the papers: each printed number, with the user's number or what is missing to reproduce it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modalign.core.record import versions
from modalign.evaluate.publications.bench_commands import substitute_command
from modalign.evaluate.publications.number_states import KINDS
from modalign.evaluate.publications.shapes.shape_statements import (
    SHAPE_HEADER,
    SHAPE_LEGEND,
    VERDICTS,
    ShapeStatement,
    by_place,
    count_verdicts,
)
from modalign.evaluate.publications.table_view import NumberCell, PaperTable, count_states, own_legend
from modalign.evaluate.published import PAPERS
from modalign.report.page import Page, PageSection
from modalign.report.run_tables import Fold, Row, Table, TableCell
from modalign.report.text import fact

MEANING = {
    "here": "From your runs, or computed without weights and images.",
    "other backbone": "The same test images with another encoder.",
    "needs weights": "The encoder has to be on this machine, and the images.",
    "needs images": "The images have to be on this machine; features of them suffice.",
    "needs GPU-hours": "Weights and images, and an hour or more on a GPU for all seeds, as estimated from arithmetic.",
    "method not built": "The library lacks the method or the option.",
    "not reproducible": "The publication lacks a setting, or contradicts itself.",
}
_SUBSTITUTE = (
    "The digits of scikit-learn with the encoder tiny. Orders of methods and signs of differences can be "
    "compared, values cannot."
)
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def paper_tables_page(tables: Sequence[PaperTable]) -> Page:
    """A page of tables, paper by paper, with the counts of numbers by state."""
    counts = count_states(tables)
    total = sum(sum(row.values()) for row in counts.values())
    own = sum(cell.own is not None for table in tables for cell in table.cells)
    page = Page(
        "The papers' tables",
        "Each printed number. Below it is the number of your own runs with the same method, protocol and "
        "test list, or what is missing to reproduce it.",
        facts=[fact(total, "printed number"), fact(len(tables), "table"), (f"{own:,}", "with runs of yours")],
        record={"versions": versions()},
    )
    page.section("Numbers by state", own_legend(tables), blocks=[_counts(counts), _meanings()])
    if any(table.shapes for table in tables):
        page.section("Order of rows on other data", SHAPE_LEGEND, blocks=_verdicts(tables))
    for paper in counts:
        for table in (t for t in tables if t.paper == paper):
            page.section(
                f"{paper.upper()}, {table.table}",
                _about(table),
                blocks=[_numbers(table), *_shapes(table), *_commands(table)],
            )
    return page


def save_paper_tables_page(tables: Sequence[PaperTable], path: str | Path) -> Path:
    """Write the page of :func:`paper_tables_page`."""
    return paper_tables_page(tables).save(path)


def own_in_words(cell: NumberCell) -> str:
    """Return the user's number with its interval, or the state in few words."""
    if cell.own is None:
        return cell.state.words if cell.state.kind == "here" else cell.state.kind
    note = "" if cell.own.same_encoder else f", {cell.own.encoder}"
    note += ", default settings" if cell.own.settings == "default" else ""
    return f"ours {cell.own}{note}"


def printed_with_mark(cell: NumberCell) -> str:
    """A number as printed, with the number of its footnote."""
    mark = str(cell.footnote).translate(_SUPERSCRIPTS) if cell.footnote else ""
    return cell.number.printed + mark


def _about(table: PaperTable) -> str:
    return "\n\n".join([f"{PAPERS[table.paper]}. {table.title[:1].upper()}{table.title[1:]}.", *table.remarks])


def _numbers(table: PaperTable) -> PageSection:
    rows: dict[str, list[Row]] = {
        group: [[name, *(_cell(cell) for cell in row)] for name, row in own] for group, own in table.groups.items()
    }
    notes = [f"{str(i).translate(_SUPERSCRIPTS)} {text}." for i, text in enumerate(table.footnotes, start=1)]
    return Table(["", *table.columns], rows, " ".join(notes))


def _cell(cell: NumberCell | None) -> TableCell | str:
    if cell is None:
        return "–"
    return TableCell(printed_with_mark(cell), own_in_words(cell), strong=cell.own is not None)


def _shapes(table: PaperTable) -> list[PageSection]:
    """Return a table per data set about the order of rows."""
    return [
        Table(SHAPE_HEADER, [_shape_cells(shape) for shape in shapes], title=f"Order of rows on {place}")
        for place, shapes in by_place(table.shapes).items()
    ]


def _verdicts(tables: Sequence[PaperTable]) -> PageSection:
    """Statements about the order of rows by verdict, a row per table."""
    stated = {f"{t.paper.upper()}, {t.table}": count_verdicts(t.shapes) for t in tables if t.shapes}
    rows = [[name, *(str(n) for n in found.values())] for name, found in stated.items()]
    totals = [sum(found[kind] for found in stated.values()) for kind in VERDICTS]
    return Table(["", *VERDICTS], rows, foot=[["all", *map(str, totals)]])


def _shape_cells(shape: ShapeStatement) -> list[TableCell | str]:
    *cells, verdict = shape.cells
    return [*cells, TableCell(verdict, strong=verdict != "not confirmed")]


def _commands(table: PaperTable) -> list[PageSection]:
    """Return what is needed to reproduce the numbers, a line per state and command."""
    lines: dict[tuple[str, str], int] = {}
    for cell in table.cells:
        entry = (cell.state.words, cell.state.command)
        lines[entry] = lines.get(entry, 0) + 1
    rows = [[str(n), words, command or "–"] for (words, command), n in lines.items()]
    folds: list[PageSection] = [Fold("States and command lines", [Table(["numbers", "state", "command"], rows)])]
    substitutes = dict.fromkeys(filter(None, (substitute_command(cell.number) for cell in table.cells)))
    if substitutes:
        listed = Table(["command"], [[command] for command in substitutes], _SUBSTITUTE)
        folds.append(Fold("The same protocol on data that is at hand", [listed]))
    return folds


def _counts(counts: Mapping[str, Mapping[str, int]]) -> PageSection:
    papers = list(counts.values())
    rows = [[kind, *(f"{row[kind]:,}" for row in papers), f"{sum(row[kind] for row in papers):,}"] for kind in KINDS]
    totals = [sum(row.values()) for row in papers]
    foot = [["all", *(f"{total:,}" for total in totals), f"{sum(totals):,}"]]
    return Table(["", *(paper.upper() for paper in counts), "all"], rows, foot=foot)


def _meanings() -> PageSection:
    return Table(["state", "meaning"], [[kind, MEANING[kind]] for kind in KINDS])
