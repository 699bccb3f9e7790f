"""Names of the files that describe what a folder holds, by which its kind is known without loading it."""

from __future__ import annotations

from pathlib import Path

CLASSIFIER = "card.json"
MULTI_LABEL = "multi_label.json"
SEGMENTER = "segmenter.json"
CARD_FILE, MANIFEST_FILE = "_card.json", "_manifest.json"
"""Of features and answers in parts."""
MASKS = "masks.json"

CARDS = (CLASSIFIER, MULTI_LABEL, SEGMENTER, CARD_FILE, MANIFEST_FILE, MASKS)


def holds(folder: str | Path, card: str) -> bool:
    """Return whether ``folder`` has a file of this name."""
    try:
        return (Path(folder) / card).is_file()
    except (OSError, ValueError):  # a name that is too long, or with a null byte
        return False
