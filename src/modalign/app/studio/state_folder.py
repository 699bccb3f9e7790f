"""The folder of a studio: where it is, and the settings that a session keeps in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from modalign.app.studio.exam import exam_limit
from modalign.app.studio.label_log import LOCK_FILE, LOG_FILE
from modalign.core.errors import EncoderMismatchError, InputError, argument
from modalign.core.files import read_json, require_own_folder, write
from modalign.encoders.base import Encoder

SETTINGS_FILE = "studio.json"


def state_folder(source: Path) -> Path:
    """Where the state of a source is kept by default: next to it, never inside."""
    path = source.resolve()
    return path.parent / f"{path.name}.studio"


def require_place(state: Path, source: Any) -> None:
    """Raise unless ``state`` is empty or of a studio, and not in ``source``, whose images its thumbnails would be."""
    require_own_folder(state, "a studio", LOG_FILE, lambda name: name in (LOCK_FILE, SETTINGS_FILE))
    if isinstance(source, (str, Path)) and Path(state).resolve().is_relative_to(Path(source).resolve()):
        raise InputError(
            f"Expected a folder for the state that is not among the images, '{state}' is in '{source}'; choose another "
            f"one with {argument('state')}."
        )


def kept_settings(state: Path, encoder: Encoder, contents: list[str], seed: int, multi_label: bool) -> dict[str, Any]:
    """Return the fixed settings of the session: encoder, seed, exam set, and the kind of labels."""
    path = state / SETTINGS_FILE
    if not path.exists():
        fixed = {"v": 1, "encoder": encoder.spec.name, "fingerprint": encoder.spec.fingerprint, "seed": seed}
        fixed |= {"multi_label": True} if multi_label else {}
        fixed["exam_limit"] = str(exam_limit(contents, seed))  # more digits than JSON numbers reliably keep
        write(path, json.dumps(fixed, indent=1))
        return fixed
    kept = read_json(path, "the settings of a studio")
    if not _is_kept(kept):
        raise InputError(f"Expected the settings of a studio in '{path}', got something else; choose another folder.")
    if kept["fingerprint"] != encoder.spec.fingerprint:
        raise EncoderMismatchError(
            f"Expected the encoder '{kept.get('encoder')}' of the earlier session, got '{encoder.spec.name}'; "
            f"use the same, or another folder with {argument('state')}."
        )
    if kept.get("multi_label", False) != multi_label:
        has, wants = ("several classes", "one class") if not multi_label else ("one class", "several classes")
        raise InputError(
            f"Expected a studio folder with {wants} per image, '{state}' has {has}; open it with the same kind "
            f"({argument('multi_label')}), or choose another folder with {argument('state')}."
        )
    return kept


def _is_kept(entries: object) -> bool:
    """Whether these are the settings that a studio writes."""
    if not isinstance(entries, dict) or not {"fingerprint", "seed", "exam_limit"} <= set(entries):
        return False
    limit, seed = entries["exam_limit"], entries["seed"]
    is_limit = isinstance(limit, str) and re.fullmatch(r"[0-9]{1,20}", limit) is not None and int(limit) < 2**64
    return is_limit and type(seed) is int and seed >= 0
