"""The label log: an append-only file, one event per line, each flushed to disk before it takes effect."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modalign.app.studio.label_state import NONE
from modalign.core.errors import InputError, argument
from modalign.core.files import append_line, make_folder, parse_json, read_bytes, take_lock

VERSION = 1
LOG_FILE, LOCK_FILE = "labels.jsonl", "lock"
_LIMIT = 2**31  # bytes of a log


class LabelLog:
    """The events of one studio, in a folder that no other studio may use at the same time.

    Every event is a JSON object with ``v`` (version of the format), ``n`` (its number), ``time`` (UTC), ``kind`` and
    the entries of its kind; see :mod:`~modalign.app.studio.label_state`.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Attributes
    ----------
    events : list of dict
        All events, in order.
    dropped : bool
        Whether the last line was incomplete, as a killed process leaves it, and was left out.

    Raises
    ------
    InputError
        Another studio uses the folder, it cannot be written, or a line of the log is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)
        self.path = self.folder / LOG_FILE
        self._lock: int | None = take_lock(
            self.folder / LOCK_FILE,
            f"Expected a studio folder that is not in use, '{self.folder}' is used by a running studio; open its page, "
            f"stop it, or choose another folder with {argument('state')}.",
        )
        try:
            self.events, self.dropped = _read_events(self.path)
        except InputError:
            self.close()
            raise

    def append(self, kind: str, **entries: Any) -> dict[str, Any]:
        """Add an event and return it when it is on the disk; an InputError for one that could not be read again."""
        number = self.events[-1]["n"] + 1 if self.events else 0
        event = {"v": VERSION, "n": number, "time": datetime.now(UTC).isoformat(timespec="seconds"), "kind": kind}
        event |= entries
        line = json.dumps(event, ensure_ascii=True, separators=(",", ":")).encode()
        if _event(line) is None:
            raise InputError("Expected text that UTF-8 can hold and whole numbers, got others; nothing has changed.")
        append_line(self.path, line, durable=True)
        self.events.append(event)
        return event

    def close(self) -> None:
        """Let another studio use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _read_events(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The events of a log, and whether an incomplete last line was left out."""
    if not path.exists():
        return [], False
    lines = read_bytes(path, "a label log", _LIMIT).split(b"\n")
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        event = _event(line)
        if event is not None and (not events or event["n"] > events[-1]["n"]):
            events.append(event)
        elif number == len(lines):  # the next event replaces it
            return events, True
        else:
            raise InputError(
                f"Expected an event in line {number} of '{path}', got something else; restore the file, or "
                "remove the line, whose labels are lost."
            )
    return events, False


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = parse_json(line.decode(), "an event")
    except (InputError, UnicodeDecodeError):
        return None
    return event if isinstance(event, dict) and event.get("v") == VERSION and _is_sound(event) else None


def _is_sound(event: dict[str, Any]) -> bool:
    """Whether an event has its number, its kind, and the entries of its kind; other kinds may have any."""
    kind, name = event.get("kind"), event.get("name")
    numbers = {"add": ("class",), "rename": ("class",), "merge": ("class", "into"), "undo": ("of",)}
    if not isinstance(kind, str) or not all(map(_is_count, (event.get(key) for key in ("n", *numbers.get(kind, ()))))):
        return False
    if kind in ("add", "rename"):
        return isinstance(name, str) and bool(name.strip())
    if kind == "label":
        of, images = event.get("class", ""), event.get("images")
        return (of in (None, NONE) or _is_count(of)) and isinstance(images, list) and all(map(_is_image, images))
    if kind == "sets":
        sets, images = event.get("sets"), event.get("images")
        both = isinstance(sets, list) and isinstance(images, list) and len(sets) == len(images)
        return both and all(map(_is_image, images or ())) and all(map(_is_set, sets or ()))
    return True


def _is_set(value: object) -> bool:
    """Whether this is a list of class numbers, or null."""
    return value is None or (isinstance(value, list) and all(map(_is_count, value)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_image(entry: object) -> bool:
    """Whether this is [id, content hash, 0 or 1]."""
    return isinstance(entry, list) and list(map(type, entry)) == [str, str, int]
