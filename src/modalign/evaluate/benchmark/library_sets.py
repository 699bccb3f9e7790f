"""The digits as a benchmark data set, and the targets of transfers from them; all come with the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modalign.data.digit_shifts import DIGIT_SHIFTS, digit_lists, load_shifted_digits
from modalign.data.digits import DIGIT_NAMES, DIGIT_TEMPLATES, load_digits
from modalign.data.drawn_sets import DRAWN_SETS, load_drawn_set
from modalign.data.items import Items
from modalign.data.splits.split import EMPTY, Split

DIGITS = "digits"
TARGETS: Mapping[str, tuple[str, ...]] = {"domain": tuple(DIGIT_SHIFTS), "cross-dataset": tuple(DRAWN_SETS)}
"""Protocol → data sets that a method is tested on after learning from the digits."""
LIBRARY_SETS = (DIGITS, *DIGIT_SHIFTS, *DRAWN_SETS)
_TESTED = {"digits": 539, "digits_inverted": 539, "digits_blurred": 539, "digits_noise": 266, "digits_rotated": 273}


@dataclass(frozen=True)
class LibrarySetSize:
    """Classes and test images of a data set of the library, known without loading it.

    Attributes
    ----------
    n_classes, n_test : int
        Numbers of classes and of test images.
    templates : sequence of str
        Sentences for the class names.
    """

    n_classes: int
    n_test: int
    templates: Sequence[str]


def library_set_size(name: str) -> LibrarySetSize:
    """Size of one of :data:`LIBRARY_SETS`."""
    if name in DRAWN_SETS:
        drawn = DRAWN_SETS[name]
        return LibrarySetSize(len(drawn.class_names), drawn.each * len(drawn.class_names), drawn.templates)
    classes = DIGIT_NAMES if name == DIGITS else DIGIT_SHIFTS[name].classes
    return LibrarySetSize(len(classes), _TESTED[name], DIGIT_TEMPLATES)


def open_library_set(name: str) -> tuple[Items, Split | None, Sequence[str]]:
    """Images, lists and templates of one of :data:`LIBRARY_SETS`. All images of a target are for testing."""
    if name == DIGITS:
        items = load_digits()
        return items, digit_lists(items), DIGIT_TEMPLATES
    items = load_shifted_digits(name) if name in DIGIT_SHIFTS else load_drawn_set(name)
    lists = Split(EMPTY.copy(), test=np.arange(len(items)), description="all images are for testing")
    return items, lists, library_set_size(name).templates
