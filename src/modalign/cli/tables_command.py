"""``modalign tables``: published numbers of the papers, with what is needed to reproduce each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.arguments.assignments import hyperparameters_by_method, words
from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.options import AsJson, HtmlPage, check_file, command
from modalign.cli.terminal import announce, print_json, print_lines, print_table
from modalign.core.name_matching import quoted

if TYPE_CHECKING:
    from modalign.evaluate.publications.own_runs import OwnRuns
    from modalign.evaluate.publications.table_view import NumberCell, PaperTable

MANY = 10  # tables, which are better read on a page


@command()
def tables(
    names: Annotated[
        list[str], typer.Argument(help="cmm:1, dam:IV or dam:4 for a table, gpua for all of a paper, or all.")
    ],
    record: Annotated[
        Path | None, typer.Option(help="Results file (.jsonl) of 'modalign bench' to compare with the numbers.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Run the rows on this data first, to compare their order: images, vectors or 'digits', as for bench."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With --on: number of draws.")] = 3,
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="With --on: as for bench.")] = None,
    datasets: Annotated[str | None, typer.Option(help="With --on: data sets, separated by commas.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="With --on: sentence with {} for the class name; repeatable.")
    ] = None,
    descriptions: Annotated[Path | None, typer.Option(help="With --on: as for bench.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --on: method.name=value, such as fair.epochs=2 (repeatable)."),
    ] = None,
    settings: Annotated[str, typer.Option(help="With --on: default, or paper.")] = "default",
    jobs: Annotated[int, typer.Option(min=0, help="With --on: runs at a time; 0 is one per core.")] = 1,
    page: HtmlPage = None,
    as_json: AsJson = False,
) -> None:
    """Print tables of the papers: each published number with your own run or what is missing to reproduce it."""
    check_file(page, ".html", ".htm")
    if on is None:
        refuse_unused(
            "with --on DATA", "seeds", "encoder", "datasets", "template", "descriptions", "set_", "settings", "jobs"
        )
    from modalign.evaluate.benchmark.benchmark_records import read_benchmark_runs
    from modalign.evaluate.publications.bench_commands import substitute_command
    from modalign.evaluate.publications.own_runs import OwnRuns
    from modalign.evaluate.publications.shapes.shape_statements import SHAPE_LEGEND, OwnShapes, count_verdicts
    from modalign.evaluate.publications.shapes.table_runs import run_tables
    from modalign.evaluate.publications.table_view import count_states, find_tables, own_legend, paper_table
    from modalign.report.paper_tables_page import save_paper_tables_page

    wanted = find_tables(names)
    reasons: Mapping[str, Sequence[str]] = {}
    notes: list[str] = []
    if on is None:
        runs = read_benchmark_runs(record) if record else []
    else:
        made = run_tables(
            on, wanted, hyperparameters=hyperparameters_by_method(set_ or []), settings=settings, record=record,
            seeds=seeds, encoder=encoder, datasets=words(datasets) if datasets else None,
            templates=template or None, descriptions=descriptions, jobs=jobs or os.cpu_count() or 1,
        )  # fmt: skip
        runs, reasons, notes = list(made.runs), made.reasons, made.notes
    own, shapes = OwnRuns(runs), OwnShapes(runs)
    found = [paper_table(paper, table, own, shapes(paper, table)) for paper, table in wanted]
    if page is not None:
        save_paper_tables_page(found, page)
    counts = count_states(found)
    if as_json:
        print_json(
            {
                "tables": [table.as_dict() for table in found],
                "counts": counts,
                "left_out": {k: [*v] for k, v in reasons.items()},
                "notes": notes,
            }
        )
        return
    if page is None or len(found) < MANY:
        for table in found:
            _print(table)
    states = list(next(iter(counts.values())))
    rows = [[paper, *(str(row[state]) for state in states), str(sum(row.values()))] for paper, row in counts.items()]
    print_table(["numbers by state", *states, "all"], rows)
    running = sum(bool(substitute_command(cell.number)) for table in found for cell in table.cells)
    print_lines(f"{running:,} of them can also be run on 'modalign bench digits'.", err=False)
    if any(table.shapes for table in found):
        verdicts = count_verdicts(shape for table in found for shape in table.shapes)
        listed = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
        print_lines(f"Order of rows on other data: {listed}. {SHAPE_LEGEND}", err=False)
    if record is not None:
        print_lines(*_without_runs(found, own, record))
    if legend := own_legend(found):
        print_lines(legend, err=False)
    left = [f"left out {', '.join(rows_without)}: {reason}" for reason, rows_without in reasons.items()]
    print_lines(*(f"note: {note}" for note in (*notes, *left)))
    announce(page)


def _without_runs(tables: Sequence[PaperTable], own: OwnRuns, record: Path) -> list[str]:
    """Notes on tables without a run to compare, and on what the closest runs have otherwise."""
    found: dict[str, list[str]] = {}
    for table in (table for table in tables if not table.compared):
        found.setdefault(own.closest(cell.number for cell in table.cells), []).append(f"{table.paper} {table.table}")
    return [
        f"note: '{record}' has no run to compare with {quoted(alone)}"
        + (f"; the closest ones have {other}" if other else "")
        for other, alone in found.items()
    ]


def _print(table: PaperTable) -> None:
    """Print a table, a line per row, followed by the states of its numbers, and the order of rows on other data."""
    from modalign.evaluate.publications.shapes.shape_statements import SHAPE_HEADER, by_place

    print_lines(f"{table.paper.upper()}, {table.table}: {table.title}", err=False)
    shared = _shared_state(table)
    lines = []
    for group, rows in table.groups.items():
        lines += [[group, *[""] * (len(table.columns) + 1)]] if group else []
        lines += [[name, *map(_number, row), _states([cell for cell in row if cell is not None])] for name, row in rows]
    width = len(table.columns) + (1 if shared else 2)
    print_table(["", *table.columns, "state"][:width], [line[:width] for line in lines])
    if shared:
        print_lines(f"Its numbers: {shared}.", err=False)
    notes = (f"[{number}] {text}." for number, text in enumerate(table.footnotes, start=1))
    print_lines(*notes, *table.remarks, "", err=False)
    for place, shapes in by_place(table.shapes).items():
        print_lines(f"Order of rows on {place}:", err=False)
        print_table(SHAPE_HEADER, [shape.cells for shape in shapes])
        print_lines("", err=False)


def _shared_state(table: PaperTable) -> str:
    """The states of all numbers as text where each row has the same ones, of methods that are built."""
    kinds = [{cell.state.kind for cell in row if cell is not None} for rows in table.groups.values() for _, row in rows]
    alike = len(kinds) > 1 and all(own == kinds[0] and "method not built" not in own for own in kinds)
    return _states(table.cells) if alike else ""


def _number(cell: NumberCell | None) -> str:
    from modalign.report.paper_tables_page import own_in_words

    if cell is None:
        return ""
    mark = f" [{cell.footnote}]" if cell.footnote else ""
    return f"{cell.number.printed}{mark}" + (f" ({own_in_words(cell)})" if cell.own else "")


def _states(cells: list[NumberCell]) -> str:
    """Return the states of a row as text, each once; many details of one state are counted."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        found.setdefault(cell.state.kind, {})[cell.state.detail] = None
    words = []
    for kind, details in found.items():
        if kind == "needs GPU-hours":
            hours = sorted(map(int, details))
            words.append(f"{kind}: about {hours[0]}" + (f" to {hours[-1]}" if len(hours) > 1 else ""))
            continue
        named = list(details)[:3]
        more = f" and {len(details) - len(named)} more" if len(details) > len(named) else ""
        words.append(f"{kind}: {', '.join(named)}{more}")
    return "; ".join(words)
