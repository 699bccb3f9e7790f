"""The digits as a benchmark data set, and the targets of transfers from them; all come with the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modalign.data.digit_shifts import DIGIT_SHIFTS, digit_lists, load_shifted_digits
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.drawn_sets import DRAWN_SETS, load_drawn_set
from modalign.data.items import Items
from modalign.data.splits.split import EMPTY, Split

DIGITS = "digits"
TARGETS: Mapping[str, tuple[str, ...]] = {"domain": tuple(DIGIT_SHIFTS), "cross-dataset": tuple(DRAWN_SETS)}
"""Protocol → data sets that a method is tested on after learning from the digits."""
LIBRARY_SETS = (DIGITS, *DIGIT_SHIFTS, *DRAWN_SETS)


def open_library_set(name: str) -> tuple[Items, Split | None, Sequence[str]]:
    """Images, lists and templates of one of :data:`LIBRARY_SETS`. All images of a target are for testing."""
    if name == DIGITS:
        items = load_digits()
        return items, digit_lists(items), DIGIT_TEMPLATES
    items = load_shifted_digits(name) if name in DIGIT_SHIFTS else load_drawn_set(name)
    templates = DIGIT_TEMPLATES if name in DIGIT_SHIFTS else DRAWN_SETS[name].templates
    lists = Split(EMPTY.copy(), test=np.arange(len(items)), description="all images are for testing")
    return items, lists, templates
