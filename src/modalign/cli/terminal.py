"""Output of the command line: tables and JSON to standard output, notes and errors to standard error.

Names of files and classes are not trusted. Everything is printed by this module, which replaces control characters by
visible escapes (:func:`~modalign.core.display.visible`); JSON contains them exactly, escaped.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from modalign.core.child_processes import launched
from modalign.core.display import is_safe, text_table, visible

if TYPE_CHECKING:
    from modalign.core.features import Quarantined


def print_lines(*lines: str, err: bool = True) -> None:
    """Print lines of text; a line break inside a line is shown as an escape.

    Of several processes that torchrun started, the first one prints, and the others print only why they ended.
    """
    rank, _ = launched()
    for line in lines if rank == 0 else [f"process {rank}: {line}" for line in lines if line.startswith("error: ")]:
        typer.echo(visible(line), err=err)


def announce(page: Path | None) -> None:
    """Print where a page was written, if one was."""
    if page is not None:
        print_lines(f"page: {page}", err=False)


def command_line(command: str, *words: str | Path) -> str:
    """Return a command of modalign in shell syntax, with printable characters only."""
    return " ".join(["modalign", command, *map(_quoted, words)])


def next_step(out: Path, source: Path, *words: str | Path, testable: bool) -> str:
    """Return the suggested next command: evaluate on ``source`` if labeled images are left there, else predict."""
    command = command_line("evaluate" if testable else "predict", out, source, *words)
    untested = "" if testable else "no labeled image is left to test it on; to classify these images, or others, "
    return f"{untested}try: {command}"


def _quoted(word: str | Path) -> str:
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):
        text = f"./{text}"  # no option
    if visible(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def _escaped(character: str) -> str:
    """A character between ``$'`` and ``'``; half of a surrogate pair stands for a byte of a file name."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    plain = is_safe(character) and character not in "\\'"
    return character if plain else character.encode("unicode_escape").decode() if character != "'" else "\\'"


def print_json(value: Any) -> None:
    """Print one JSON value; numbers that are not finite are strings."""
    if launched()[0] != 0:
        return
    from modalign.core.record import plain

    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
    text = json.dumps(plain(value), ensure_ascii=not unicode, allow_nan=False, indent=2)
    typer.echo(re.sub(r"[^\n -~]", lambda c: c[0] if is_safe(c[0]) else json.dumps(c[0])[1:-1], text))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns are wrapped to the width of a terminal and unlimited in other outputs."""
    if launched()[0] != 0:
        return
    if sys.stdout is None or not sys.stdout.isatty():
        typer.echo(text_table(header, rows))
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(name, overflow="fold") for name in header), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def report_quarantine(quarantined: list[dict[str, str]] | tuple[Quarantined, ...]) -> None:
    """Print the files that could not be used, each with its reason."""
    if not quarantined:
        return
    print_lines(f"left out {len(quarantined)} {'file' if len(quarantined) == 1 else 'files'} that could not be used:")
    for entry in quarantined:
        entry = entry if isinstance(entry, dict) else vars(entry)
        print_lines(f"  {entry['id']}: {entry['reason']}")
