"""Results files: a run per line as JSON, each line with its format, to which several processes may append."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from modalign.core.errors import InputError, argument
from modalign.core.files import check_writable, local_path, parse_json, read_bytes, sole_use
from modalign.core.renaming import stacklevel_outside

R = TypeVar("R")

SUFFIX = ".jsonl"
_LIMIT = 2**30  # bytes of a results file


class NewerFormatError(InputError):
    """A later version of the library wrote a line."""


def parse_entries(line: str, family: str, version: int) -> dict[str, Any]:
    """Return the entries of a line without its format, ``family-version``; older versions are read as well.

    Raises
    ------
    NewerFormatError
        The version is above ``version``.
    ValueError
        The line is cut short, or of another family.
    """
    content = parse_json(line, "a line of a results file")
    name = content.pop("format", None) if isinstance(content, dict) else None
    found = re.fullmatch(rf"{family}-([1-9][0-9]{{0,8}})", name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"not of format {family}-{version}")
    if int(found[1]) > version:
        raise NewerFormatError(f"is of format {name}, and this version of modalign reads up to {version}")
    return dict(content)


def read_lines(path: str | Path, parse: Callable[[str], R]) -> list[R]:
    """Parse the lines of a results file.

    Lines that are no run, such as one cut short, are left out with a warning.

    Raises
    ------
    InputError
        A later version of the library wrote a line. Or, of several lines, or of one that was not cut short, none is a
        run: nothing may be appended to such a file.
    """
    lines = read_bytes(path, "a results file", _LIMIT).decode("utf-8", errors="replace").split("\n")
    runs, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            runs += [parse(line)] if line.strip() else []
        except NewerFormatError as error:
            raise InputError(f"Line {number} of '{path}' {error}; update modalign, or choose another name.") from None
        except (ValueError, KeyError, TypeError):
            damaged.append(number)
    if not runs and damaged and (damaged[0] < len(lines) or _is_json(lines[-1])):
        raise InputError(f"Expected a results file with a run per line, '{path}' has none; choose another name.")
    if damaged:
        warnings.warn(
            f"'{path}': lines {damaged} are no complete runs and were left out.", stacklevel=stacklevel_outside()
        )
    return runs


def _is_json(line: str) -> bool:
    """Whether a line is whole, and not one that a killed writer cut short."""
    try:
        parse_json(line, "the last line")
    except InputError:
        return False
    return True


def check_record(path: str | Path, parse: Callable[[str], Any]) -> None:
    """Raise unless runs can be added to a file: it can be written, and is a new ``.jsonl`` file or contains runs."""
    new = not os.path.lexists(local_path(path))
    check_writable(path, append=True)
    if new and Path(path).suffix.lower() != SUFFIX:
        raise InputError(f"Expected {argument('record')} to end in {SUFFIX}, as its lines are JSON, got '{path}'.")
    if Path(path).is_file():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code that uses the runs warns
            read_lines(path, parse)


@contextmanager
def sole_record(path: str | Path | None) -> Iterator[None]:
    """Hold a results file while the block runs; an InputError if another process does, as both would add every run."""
    if path is None or not os.access(Path(path).absolute().parent, os.W_OK):  # no place for a lock
        yield
        return
    with sole_use(f"{path}.lock", f"another run adds to '{Path(path).name}'", "a results file"):
        yield
