"""The built-in example data: scikit-learn's 1,797 handwritten digits, available without a download."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from modalign.data.blobs import BytesBlob
from modalign.data.items import Items
from modalign.data.text.templates import DIGIT_TEMPLATES

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load_digits() -> Items:
    """Load the handwritten digits: bright strokes on black, 8 × 8 pixels rescaled from 0…16 to 0…255, as PNG.

    The images keep 8 × 8 pixels; the preprocessing of the encoder enlarges them. Ids are ``digits/0000.png`` … in
    scikit-learn's order. ``few_shot(load_digits(), shots, seed, test=0.3)`` tests every draw on the same 539 of them.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI.
    """
    images, labels = _bundle()
    return Items(
        ids=tuple(f"digits/{i:04d}.png" for i in range(len(labels))),
        blobs=tuple(BytesBlob(png) for png in images),
        labels=labels.copy(),
        class_names=DIGIT_NAMES,
    )


@cache
def _bundle() -> tuple[tuple[bytes, ...], np.ndarray]:
    from sklearn.datasets import load_digits as load  # half a second of import that only this function needs

    bunch = load()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)
    return tuple(map(_png, pixels)), bunch.target.astype(np.int64)


def _png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


__all__ = ["DIGIT_NAMES", "DIGIT_TEMPLATES", "load_digits"]
