"""Reading and checking of the images of an adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.data.copies import learnable
from modalign.data.items import Items, load_items
from modalign.data.label_sets import note_on_sets
from modalign.data.splits.split import Split, official_split
from modalign.data.tables import FIT_SETS


def read_items(
    images: Any, classes: Sequence[str] | str | Path | None, unlabeled: bool, split: str | Path | Split | None = None
) -> Items:
    if unlabeled and classes is None:
        raise InputError(f"Expected the names of the classes for images without labels; give {argument('classes')}.")
    items = load_items(images, classes=classes, split=split, labels=UNLABELED if unlabeled else None)
    if len(items.class_names) < 2:
        advice = (
            "put the images of each class in a folder of its own, give a table with a column 'label', or name the "
            f"classes with {argument('classes')}"
        )
        advice = next((note for note in items.notes if note.endswith(FIT_SETS)), advice)
        raise InputError(f"Expected at least 2 classes, got {len(items.class_names)}; {advice}.")
    items = replace(items, notes=(*items.notes, *note_on_sets(items)))
    return learnable(_with_train_part(items))


def _with_train_part(items: Items) -> Items:
    """Return the items, or their train part if it has no labels; raise if there is nothing to learn from."""
    official = official_split(items)
    if official is None:
        return items
    if not len(official.train):
        raise InputError(
            f"Expected images to learn from, but none of the {len(items)} images is marked as that by "
            f"{items.division}; to learn from one of them, give it alone."
        )
    if (items.labels[official.train] == UNLABELED).all():
        return items.select(official.train)
    return items
