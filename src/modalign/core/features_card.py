"""Entries of a features file beside its arrays: the encoder, and the items that were left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError
from modalign.core.files import parse_json
from modalign.core.name_matching import quoted
from modalign.core.renaming import FORMER_PARTS

if TYPE_CHECKING:
    from modalign.core.features import Features

PARTS = {"", "train", "validation", "test", "unlabeled"}
"""Allowed parts of an image."""


@dataclass(frozen=True)
class Quarantined:
    """An item that could not be used, with the reason."""

    id: str
    reason: str


def features_card(features: Features) -> dict[str, Any]:
    """Return the card of features as JSON values."""
    return {
        "spec": asdict(features.spec) if features.spec else None,
        "quarantined": [asdict(entry) for entry in features.quarantined],
    }


def read_features_card(text: str, path: str | Path) -> tuple[EncoderSpec | None, tuple[Quarantined, ...]]:
    """Return the encoder and the items left out, from the card of a features file."""
    card = parse_json(text, f"the card in '{path}'")
    left_out = card.get("quarantined", []) if isinstance(card, dict) else None
    if not isinstance(left_out, list) or not all(map(_is_quarantined, left_out)):
        raise InputError(f"Expected the encoder and the items left out in the card of '{path}', got something else.")
    spec = None if card.get("spec") is None else EncoderSpec.read(card["spec"])
    return spec, tuple(Quarantined(**entry) for entry in left_out)


def check_parts(parts: Any, n: int, path: str | Path | None = None) -> tuple[str, ...]:
    """``parts`` of n images, of a file at ``path``, or none."""
    if isinstance(parts, str):
        parts = (parts,)
    present = {old: new for new, old in FORMER_PARTS.items()}
    parts = tuple(present.get(str(part), str(part)) for part in parts)
    if len(parts) not in (0, n) or not set(parts) <= PARTS:
        place = "" if path is None else f" in '{path}'"
        strange = sorted(set(parts) - PARTS)
        got = quoted(strange, 3) if strange else f"{len(parts)} for {n} images"
        raise InputError(f"Expected one of {quoted(sorted(PARTS))} per image as parts{place}, got {got}.")
    return parts


def _is_quarantined(entry: object) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"id", "reason"}:
        return False
    return all(isinstance(text, str) for text in entry.values())
