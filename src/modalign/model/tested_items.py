"""Images that a classifier may be tested on, and their labels in its numbering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.core.labels import renumbered
from modalign.data.copies import one_label_each
from modalign.data.items import Items, load_items
from modalign.data.names import match_names, quoted
from modalign.data.splits.split import images_to_test_on


def items_to_test_on(class_names: Sequence[str], images: Any, split: Any, classes: Any) -> tuple[Items, np.ndarray]:
    """The images of a source that may be tested on, and their labels as indices into ``class_names``."""
    items = one_label_each(images_to_test_on(load_items(images, split=split, classes=classes)))
    return items, labels_among(class_names, items)


def labels_among(class_names: Sequence[str], items: Items) -> np.ndarray:
    """Labels of ``items`` as indices into ``class_names``, matched by name; other classes are refused."""
    known = match_names(items.class_names, class_names)
    used = np.unique(items.labels[items.labels != UNLABELED])
    unknown = [items.class_names[k] for k in used if items.class_names[k] not in known]
    if unknown:
        raise InputError(
            f"Expected images of the model's {len(class_names)} classes, got also {quoted(unknown, 1)}; remove "
            f"or rename those folders, or give {argument('classes')} as in fitting."
        )
    return renumbered(items.labels, items.class_names, class_names)
