"""Checks of the options of a command as they were given: none is ignored, and no output replaces an input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from modalign.core.card_names import CARDS
from modalign.core.errors import InputError

_OUTPUTS = ("out", "page", "confusion", "figure", "record")
_STORED = (".safetensors", ".parquet")
_PICTURES = (".png", ".svg")
_LISTS = (".csv", ".tsv", ".txt", ".lst")
_CELL = re.compile(r"[\t\n\r,;\"]+")
_given: dict[str, str] = {}  # parameter → option, of the command that is running


def remember_given(context: typer.Context) -> None:
    """Keep which options were given, for :func:`refuse_unused`, and refuse an output that would replace an input."""
    _given.clear()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name and source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT"):
            _given[parameter.name] = parameter.opts[0]
    require_apart(context.params)


def was_given(name: str) -> bool:
    """Whether the parameter was given, rather than left at its default."""
    return name in _given


def refuse_unused(reason: str, *names: str) -> None:
    """Raise if one of the options was given although it has no effect; ``reason`` says where it has one."""
    for name in names:
        if name in _given:
            raise InputError(f"Expected {_given[name]} {reason}; leave it out.")


def require_apart(parameters: Mapping[str, Any]) -> None:
    """Raise if an output is a file that the command reads, or another output.

    A command reads its inputs, the files of a model, and the pictures of a folder or list.
    """
    named: dict[Path, str] = {}
    for name in _OUTPUTS:
        for output in _paths(parameters.get(name)):
            other = named.setdefault(Path(os.path.abspath(output)), name)
            if other != name:
                raise InputError(f"Expected different files for --{other} and --{name}, got '{output}' for both.")
    inputs = [path for name, value in parameters.items() if name not in _OUTPUTS for path in _paths(value)]
    for name in _OUTPUTS:
        for output in _paths(parameters.get(name)):
            read = next((path for path in inputs if os.path.isfile(output) and _reads(path, output)), None)
            if read is not None:
                raise InputError(
                    f"Expected --{name} apart from what the command reads, got '{output}', which belongs to "
                    f"'{read}' and would be replaced; choose another name."
                )


def _paths(value: Any) -> Iterator[Path]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return (entry for entry in values if isinstance(entry, Path))


def _reads(path: Path, output: Path) -> bool:
    """Whether a command that is given ``path`` reads the file ``output``."""
    try:
        if os.path.samefile(path, output):
            return True
        inside = os.path.isdir(path) and output.resolve().is_relative_to(path.resolve())
    except OSError:
        return False
    if inside:
        return output.name in CARDS or output.suffix.lower() in (*_STORED, *_PICTURES)
    return output.suffix.lower() in _PICTURES and path.suffix.lower() in _LISTS and _lists(path, output)


def _lists(path: Path, output: Path) -> bool:
    """Whether a text file names a file, relative to its own folder or by an absolute path."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return False
    cells = (cell for cell in _CELL.split(text) if cell.endswith(output.name))
    return any(os.path.isfile(path.parent / cell) and os.path.samefile(path.parent / cell, output) for cell in cells)
