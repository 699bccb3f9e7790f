"""Variants of the digits' test images with fixed shifts, as ImageNet has V2, Sketch, A and R.

Two of them have half of the classes, as ImageNet-A and -R have 200 of 1,000.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from modalign.core.errors import UnknownNameError
from modalign.data.blobs import ImageBlob
from modalign.data.digits import DIGIT_NAMES, load_digits
from modalign.data.itemset import Items
from modalign.data.splits.drawing import draw_split
from modalign.data.splits.split import Split

_BLUR = 0.8  # pixels, of images with 8 × 8
_NOISE = 64.0  # standard deviation, of values from 0 to 255
_ANGLE = 20.0  # degrees, counterclockwise


@dataclass(frozen=True)
class DigitShift:
    """How a variant is made.

    Attributes
    ----------
    shift : callable
        From a gray image and its number among the test images to the shifted image.
    classes : tuple of int
        Digits in the variant.
    """

    shift: Callable[[Image.Image, int], Image.Image]
    classes: tuple[int, ...] = tuple(range(10))


def _noisy(image: Image.Image, number: int) -> Image.Image:
    noise = np.random.default_rng([2028, number]).normal(0, _NOISE, image.size[::-1])
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


DIGIT_SHIFTS: Mapping[str, DigitShift] = {
    "digits_inverted": DigitShift(lambda image, _: ImageOps.invert(image)),
    "digits_blurred": DigitShift(lambda image, _: image.filter(ImageFilter.GaussianBlur(_BLUR))),
    "digits_noise": DigitShift(_noisy, classes=(0, 2, 4, 6, 8)),
    "digits_rotated": DigitShift(
        lambda image, _: image.rotate(_ANGLE, Image.Resampling.BICUBIC), classes=(1, 3, 5, 7, 9)
    ),
}
"""Name → variant: inverted, blurred, with noise (even digits), and rotated by 20 degrees (odd digits)."""


def digit_lists(digits: Items) -> Split:
    """Return the train, validation and test lists of the digits: 50, 20 and 30 % of each class."""
    return draw_split(digits, train=0.5, validation=0.2)


@cache
def _tested_digits() -> tuple[int, ...]:
    return tuple(digit_lists(load_digits()).test.tolist())


def shown_digits(name: str) -> np.ndarray:
    """The digit behind each image of a variant.

    Several variants show the same digit, so their answers are not independent.

    Parameters
    ----------
    name : str
        One of :data:`DIGIT_SHIFTS`.

    Returns
    -------
    ndarray of shape (n,)
        Row of each image in :func:`~modalign.data.digits.load_digits`.

    Raises
    ------
    UnknownNameError
        There is no such variant.

    Examples
    --------
    >>> from modalign.data.digit_shifts import shown_digits
    >>> len(shown_digits("digits_inverted")), len(shown_digits("digits_rotated"))
    (539, 273)
    """
    if name not in DIGIT_SHIFTS:
        raise UnknownNameError("variant of the digits", name, DIGIT_SHIFTS)
    rows = np.array(_tested_digits())
    return rows[np.isin(load_digits().labels[rows], DIGIT_SHIFTS[name].classes)]


def load_shifted_digits(name: str) -> Items:
    """Load a variant of the digits: their test images (see :func:`digit_lists`), shifted, 8 × 8 pixels.

    The class names are those of the variant's classes. The shifts are the same in every call.

    Parameters
    ----------
    name : str
        One of :data:`DIGIT_SHIFTS`.

    Raises
    ------
    UnknownNameError
        There is no such variant.

    Examples
    --------
    >>> from modalign.data.digit_shifts import load_shifted_digits
    >>> load_shifted_digits("digits_noise").class_names
    ('zero', 'two', 'four', 'six', 'eight')
    """
    rows = shown_digits(name)
    digits, variant = load_digits().select(rows), DIGIT_SHIFTS[name]
    ids = tuple(one.replace("digits/", f"{name}/") for one in digits.ids)
    return replace(
        digits,
        ids=ids,
        given=ids,
        blobs=tuple(ImageBlob(variant.shift(digits.open(i).convert("L"), int(row))) for i, row in enumerate(rows)),
        labels=np.searchsorted(variant.classes, digits.labels),
        class_names=tuple(DIGIT_NAMES[k] for k in variant.classes),
    )
