"""Card files of models that are not classifiers; a name is enough to tell the kind of a folder without loading it."""

from __future__ import annotations

from pathlib import Path

MULTI_LABEL = "multi_label.json"
SEGMENTER = "segmenter.json"


def holds(folder: str | Path, card: str) -> bool:
    """Return whether ``folder`` has a file of this name."""
    try:
        return (Path(folder) / card).is_file()
    except (OSError, ValueError):  # a name that is too long, or with a null byte
        return False
