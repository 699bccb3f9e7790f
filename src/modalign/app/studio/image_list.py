"""A list of images from another command, which are shown first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument
from modalign.core.files import read_json


def listed_images(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """Names of the images in a file of ``modalign audit --out`` or ``modalign search --json``, each once, in its order.

    Parameters
    ----------
    path : Path
        A JSON file with ``findings``, which have ``ids``, or ``hits``, which have an ``id``.
    ids : sequence of str
        Names of the images of the source; others are left out.

    Raises
    ------
    InputError
        The file is of another form, or names none of the images.
    """
    names = _names(read_json(path, "a list of images"))
    if names is None:
        raise InputError(
            f"Expected in '{path}' the findings of modalign audit --out or the hits of modalign search --json, got "
            "something else."
        )
    known = set(ids)
    found = tuple(dict.fromkeys(name for name in names if name in known))
    if not found:
        raise InputError(
            f"Expected images of this source in '{path}', got {len(names)} others; give {argument('listed')} a list of "
            "the same folder."
        )
    return found


def _names(found: Any) -> list[str] | None:
    entries = (found.get("findings") or found.get("hits")) if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    lists = [entry.get("ids", [entry.get("id")]) for entry in entries]
    sound = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    return [name for names in lists for name in names] if sound else None
