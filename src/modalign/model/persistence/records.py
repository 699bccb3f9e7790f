"""Validation of the record of a :class:`~modalign.Classifier`: entries that are read later have the right type."""

from __future__ import annotations

import math
from typing import Any

from modalign.core.errors import InputError

_MEASURED = {"accuracy": float, "low": float, "high": float, "n": int, "how": str}
_MAYBE_MEASURED = (_MEASURED, None)
_OUTCOME = {
    "held_out": _MAYBE_MEASURED,
    "zero_shot": _MAYBE_MEASURED,
    "agreement": _MAYBE_MEASURED,
    "chance": float,
    "notes": [str],
}
_ESTIMATE = {"sizes": {str: float}, "absent": [str], "evidence": float, "divergence": float}
_CANDIDATE = {
    "name": str,
    "accuracy": (float, None),
    "log_loss": (float, None),
    "weight": float,
    "seconds": float,
}
_OPTIONAL = {"class_sizes": {str: float}, "estimate": _ESTIMATE}
_RECORD = {
    "shots": (int, None),
    "images": {str: int},
    "outcome": (_OUTCOME, None),
    "candidates": [_CANDIDATE],
    "calibrated": bool,
    "sentences": [[str]],
    "notes": [str],
    "quarantined": [{"id": str, "reason": str}],
    "seconds": float,
}
_VALIDATION = {"how": str, "labeled": int}


def checked_record(entry: object) -> dict[str, Any]:
    """``entry`` if it can be the record of a model. Entries may be missing, as in older models, or unknown.

    Raises
    ------
    InputError
        The end of a sentence: which entry is wrong.
    """
    if not isinstance(entry, dict):
        raise InputError("its record is invalid.")
    parts: list[tuple[dict[str, Any], object]] = [
        (_RECORD, entry),
        (_VALIDATION, entry.get("validation", {})),
        (_OPTIONAL, entry.get("outcome") or {}),
    ]
    for outline, part in parts:
        if not isinstance(part, dict):
            raise InputError("its record is invalid.")
        for name in outline.keys() & part.keys():
            if not _fits(part[name], outline[name]):
                raise InputError(f"its record is invalid: the entry '{name}' is not understood.")
    return entry


def _fits(value: Any, outline: Any) -> bool:
    """Whether a value has the form of ``outline``: a type, None, one of several, a list or mapping of such, or keys."""
    if isinstance(outline, tuple):
        return any(_fits(value, choice) for choice in outline)
    if isinstance(outline, list):
        return isinstance(value, list) and all(_fits(entry, outline[0]) for entry in value)
    if isinstance(outline, dict):
        if not isinstance(value, dict):
            return False
        if str in outline:
            return all(_fits(entry, outline[str]) for entry in value.values())
        return outline.keys() <= value.keys() and all(_fits(value[name], own) for name, own in outline.items())
    if outline is None or outline is bool or outline is str:
        return value is None if outline is None else isinstance(value, outline)
    number = isinstance(value, int if outline is int else (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
