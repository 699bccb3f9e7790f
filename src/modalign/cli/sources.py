"""What commands that take images or vectors are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modalign.core.errors import InputError, argument

if TYPE_CHECKING:
    from modalign.core.features import Features
    from modalign.data.items import Items


def images_or_features(source: Path, *, split: Path | None = None, classes: Path | None = None) -> Items | Features:
    """The images of a source, or the vectors of a features file (``.npz``)."""
    from modalign.core.features import Features
    from modalign.data.items import load_items

    if source.suffix.lower() != ".npz":
        return load_items(source, split=split, classes=classes)
    if split is not None or classes is not None:
        given = "split" if split is not None else "classes"
        raise InputError(f"Expected {argument(given)} with images, got the vectors in '{source}'; leave it out.")
    return Features.load(source)
