"""Checks of the entries of ``masks.json``, which may have been edited or damaged since it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from modalign.core.arrays import is_integer, is_number


def is_class_entry(entry: object) -> bool:
    """Whether an entry has a name, further names and a color."""
    if not isinstance(entry, dict) or not {"name", "names", "color"} <= entry.keys():
        return False
    color = entry["color"]
    return (
        _is_text(entry["name"])
        and isinstance(entry["names"], list)
        and all(map(_is_text, entry["names"]))
        and isinstance(color, list)
        and len(color) == 3
        and all(_is_count(value) and value <= 255 for value in color)
    )


def is_image_entry(entry: object, n_classes: int) -> bool:
    """Whether an entry has a photo, a mask below the folder, its size, and segments of known classes."""
    if not isinstance(entry, dict) or not {"file", "mask", "content", "width", "height", "segments"} <= entry.keys():
        return False
    return (
        _is_text(entry["file"])
        and _is_inside(entry["mask"])
        and isinstance(entry["content"], str)
        and all(_is_count(entry[side]) and entry[side] > 0 for side in ("width", "height"))
        and _are_shares(entry, ("none_share",))
        and isinstance(entry["segments"], list)
        and all(_is_segment(segment, n_classes) for segment in entry["segments"])
    )


def _is_segment(segment: object, n_classes: int) -> bool:
    if not isinstance(segment, dict) or not _are_shares(segment, ("share", "mean_confidence")):
        return False
    return _is_count(segment.get("class_id")) and segment["class_id"] < n_classes


def _are_shares(entry: Mapping[str, Any], names: Iterable[str]) -> bool:
    values = [entry.get(name) for name in names]
    return all(is_number(v) and 0 <= v <= 1 for v in values)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return is_integer(value) and value >= 0


def _is_inside(value: object) -> bool:
    """Whether a path lies below the folder that it is relative to."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts
