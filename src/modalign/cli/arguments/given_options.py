"""Checks of the options of a command as they were given: none is ignored, and no output replaces an input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from modalign.core.errors import InputError

_OUTPUTS = ("out", "page", "confusion", "figure", "record")
_MODEL_FILES = (".json", ".safetensors")
_PICTURES = (".png", ".svg")
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
    """Raise if an output is a file that the command reads: an input, a file of a model, or a picture of a source."""
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
    own = _MODEL_FILES if os.path.isfile(path / "card.json") else _PICTURES
    return inside and output.suffix.lower() in own
