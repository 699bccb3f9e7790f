"""What the command line prints: tables and JSON to standard output, notes to standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from modalign.features import Quarantined


def say(text: str, *, err: bool = True) -> None:
    """A line of text."""
    typer.echo(text, err=err)


def print_json(value: Any) -> None:
    """One JSON object."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns, as wide as they need to be where nobody folds them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not console.is_terminal:  # a pipe has no width: never fold a row
        console = Console(width=sum(max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)))
    console.print(table)


def report_quarantine(quarantined: list[dict[str, str]] | tuple[Quarantined, ...]) -> None:
    """The files that could not be used, each with its reason."""
    if not quarantined:
        return
    say(f"left out {len(quarantined)} {'file' if len(quarantined) == 1 else 'files'} that could not be used:")
    for entry in quarantined:
        entry = entry if isinstance(entry, dict) else vars(entry)
        say(f"  {entry['id']}: {entry['reason']}")
