"""The images that a method inside an encoder learns from, with labels and class text in one order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, ClassText
from modalign.data.items import Items
from modalign.methods.contract.class_names import Classes, order_of_rows, read_labels


def labeled_items(items: Items, labels: Any, text: ClassText) -> tuple[Items, ClassText]:
    """Return the images with their labels, and the text of their classes in the order of the images' class names.

    Parameters
    ----------
    items : Items
        n images.
    labels : array-like of shape (n,) or None
        Class names, or indices into those of ``items`` (else of ``text``), −1 is unlabeled; None keeps those of
        ``items``.
    text : ClassText
        Text of all class names of ``items``.

    Raises
    ------
    InputError
        Labels of another length or type, or outside the classes; a class without text.
    """
    if items.class_names:
        order = order_of_rows(items.class_names, text.class_names)
        text = text.select([text.class_names[k] for k in order])
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(items),) or labels.dtype.kind not in "iuUO":
            raise InputError(
                f"Expected one whole number per image ({len(items)}) as label, or one class name, got "
                f"{labels.dtype} of shape {labels.shape}."
            )
        if labels.dtype.kind not in "iu":
            own = items.class_names or text.class_names
            labels = Classes(np.arange(len(own)), tuple(own)).codes(read_labels(labels, len(items), "per image"))
        items = replace(items, labels=labels.astype(np.int64))
    known = items.labels[items.labels != UNLABELED]
    if len(known) and not 0 <= known.min() <= known.max() < len(text):
        raise InputError(f"Expected labels in 0…{len(text) - 1} or -1, got {known.min()}…{known.max()}.")
    return items, text
