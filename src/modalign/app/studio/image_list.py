"""A list of images from another command, which are shown first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument
from modalign.core.files import read_json


def listed_rows(path: Path, ids: Sequence[str]) -> tuple[int, ...]:
    """Rows of the images in a file of ``modalign audit --out`` or ``modalign search --json``, each once, in its order.

    Parameters
    ----------
    path : Path
        A JSON file with ``findings``, which have ``ids``, or ``hits``, which have an ``id``.
    ids : sequence of str
        Names of the images of the session.

    Raises
    ------
    InputError
        The file is of another form, or names none of the images.
    """
    found = read_json(path, "a list of images")
    names = _names(found)
    if names is None:
        raise InputError(
            f"Expected in '{path}' the findings of modalign audit --out or the hits of modalign search --json, got "
            "something else."
        )
    place = {name: row for row, name in enumerate(ids)}
    rows = tuple(dict.fromkeys(place[name] for name in names if name in place))
    if not rows:
        raise InputError(
            f"Expected images of this source in '{path}', got {len(names)} others; give {argument('listed')} a list of "
            "the same folder."
        )
    return rows


def _names(found: Any) -> list[str] | None:
    entries = (found.get("findings") or found.get("hits")) if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    lists = [entry.get("ids", [entry.get("id")]) for entry in entries]
    sound = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    return [name for names in lists for name in names] if sound else None
