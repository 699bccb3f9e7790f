"""Raw values of the published masks → class numbers, by lookup tables of 256 entries.

255 is "ignored" after every rule: such pixels are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from modalign.core.errors import InputError

IGNORED = 255
_INVALID = 254  # no data set has as many classes
_CITYSCAPES = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
_STUFF_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_STUFF = tuple(raw for raw in range(182) if raw not in _STUFF_GAPS)
_LAST_THING = 90  # raw values up to it are objects, those above are stuff

Rule = Literal["plain", "zero_ignored", "cityscapes_ids", "stuff_ids", "object_ids"]


def apply_rule(raw: np.ndarray, rule: Rule, n_classes: int, name: str = "the mask") -> np.ndarray:
    """The class numbers of a published mask, (H, W) uint8.

    ===================  ==============================================================================================
    ``plain``            0 … K − 1 as is, 255 ignored
    ``zero_ignored``     0 and 255 ignored, others less 1 (``reduce_zero_label`` of mmsegmentation)
    ``cityscapes_ids``   ``_labelIds.png``: 7, 8, 11, 12, 13, 17, 19–28, 31, 32, 33 → 0 … 18, all else ignored
    ``stuff_ids``        COCO-Stuff: 0–181 without 11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90 → 0 … 170, 255 ignored
    ``object_ids``       COCO-Stuff as objects: up to 90 the number of ``stuff_ids`` plus 1, all else 0, the background
    ===================  ==============================================================================================

    Parameters
    ----------
    raw : array of shape (H, W)
        Pixel values of the file.
    rule : str
        One of the above.
    n_classes : int
        K.
    name : str
        Name of the mask for messages.

    Raises
    ------
    InputError
        A value occurs that the rule does not define.
    """
    if raw.size and raw.max() > 255:
        raise InputError(f"Expected mask values up to 255 in {name}, got {raw.max()}.")
    labels = lookup(rule, n_classes)[raw]
    if (labels == _INVALID).any():
        value = int(raw[labels == _INVALID].min())
        raise InputError(
            f"Expected the values of {n_classes} classes in {name} by the rule '{rule}', got the value {value}; "
            "check that it is the annotation of this data set."
        )
    return labels


def lookup(rule: Rule, n_classes: int) -> np.ndarray:
    """The table of a rule, (256,) uint8."""
    return _TABLES[rule](n_classes)


def _plain(n_classes: int) -> np.ndarray:
    table = np.full(256, _INVALID, dtype=np.uint8)
    table[:n_classes] = np.arange(n_classes)
    table[255] = IGNORED
    return table


def _zero_ignored(n_classes: int) -> np.ndarray:
    table = np.full(256, _INVALID, dtype=np.uint8)
    table[1 : n_classes + 1] = np.arange(n_classes)
    table[[0, 255]] = IGNORED
    return table


def _cityscapes(n_classes: int) -> np.ndarray:
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[list(_CITYSCAPES)] = np.arange(n_classes)
    return table


def _stuff(n_classes: int) -> np.ndarray:
    table = np.full(256, _INVALID, dtype=np.uint8)
    table[list(_STUFF)] = np.arange(n_classes)
    table[255] = IGNORED
    return table


def _object(n_classes: int) -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    things = [raw for raw in _STUFF if raw <= _LAST_THING]
    table[things] = np.arange(1, n_classes)
    return table


_TABLES: dict[Rule, Callable[[int], np.ndarray]] = {
    "plain": _plain,
    "zero_ignored": _zero_ignored,
    "cityscapes_ids": _cityscapes,
    "stuff_ids": _stuff,
    "object_ids": _object,
}
