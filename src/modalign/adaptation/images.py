"""The images of an adaptation and their division into training and validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.data.copies import learnable
from modalign.data.items import Items, load_items
from modalign.data.split import Split, official_split
from modalign.data.splits import few_shot
from modalign.errors import InputError, argument
from modalign.features import UNLABELLED
from modalign.methods.base import VectorMethod
from modalign.methods.tower import TowerMethod


def read_items(
    images: Any, classes: Sequence[str] | str | Path | None, unlabelled: bool, split: str | Path | Split | None = None
) -> Items:
    if unlabelled and classes is None:
        raise InputError(f"Expected the names of the classes for images without labels; give {argument('classes')}.")
    items = load_items(images, classes=classes, split=split, **({"labels": UNLABELLED} if unlabelled else {}))
    if len(items.class_names) < 2:
        raise InputError(
            f"Expected at least 2 classes, got {len(items.class_names)}; put the images of each class in a folder of "
            f"its own, or name the classes with {argument('classes')}."
        )
    return learnable(_with_train_part(items))


def _with_train_part(items: Items) -> Items:
    """The items, if there is something to learn from; without a label in its train part, that part alone."""
    official = official_split(items)
    if official is None:
        return items
    if not len(official.train):
        raise InputError(
            f"Expected images to learn from, but {items.division} mark none of the {len(items)} images as that; "
            "to learn from one of them, give it alone."
        )
    if (items.labels[official.train] == UNLABELLED).all():
        return items.select(official.train)
    return items


def split_items(items: Items, shots: int | None, method: VectorMethod | TowerMethod, seed: int) -> Split | None:
    """Which images to learn from and to validate on; None where no image has a label."""
    if shots is not None and shots < 1:
        raise InputError(f"Expected shots to be at least 1, got {shots}; leave it out to learn from all images.")
    if (items.labels != UNLABELLED).any():
        return few_shot(items, "all" if shots is None else shots, seed=seed)
    if method.needs_labels:
        raise InputError(
            f"{type(method).__name__} learns from labelled images, got none; "
            f"sort some into one folder per class, or use {argument('method', 'gpua')}, which needs none."
        )
    return None
