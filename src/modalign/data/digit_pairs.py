"""Pictures of two digits side by side, so that examples of several classes per image run without a download."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from modalign.core.randomness import require_seed
from modalign.data.blobs import BytesBlob
from modalign.data.digits import DIGIT_NAMES, load_digits
from modalign.data.itemset import Items
from modalign.data.label_sets import LabeledSets

_SIDE = 16  # pixels; two digits of 8 × 8 are in the middle


def load_digit_pairs(train: int = 400, test: int = 600, *, random_state: int = 0) -> LabeledSets:
    """Pairs of the digits of :func:`~modalign.data.digits.load_digits`, with the one or two classes that each shows.

    Pairs of the parts ``"train"`` and ``"test"`` are drawn from different digits, so that no digit is in both.

    Parameters
    ----------
    train, test : int
        Pairs per part.
    random_state : int, default=0
        Seed of the draw.

    Examples
    --------
    >>> from modalign.data.digit_pairs import load_digit_pairs
    >>> pairs = load_digit_pairs(10, 5)
    >>> pairs
    LabeledSets(15 images, 10 classes, 29 labels)
    >>> pairs.items.open(0).size
    (16, 16)
    """
    require_seed(random_state)
    digits, rng = load_digits(), np.random.default_rng(random_state)
    order = rng.permutation(len(digits))
    half = len(digits) // 2
    chosen = np.concatenate([rng.choice(order[:half], (train, 2)), rng.choice(order[half:], (test, 2))])
    matrix = np.zeros((len(chosen), len(DIGIT_NAMES)), dtype=np.int8)
    blobs = []
    for row, (left, right) in enumerate(chosen.tolist()):
        canvas = Image.new("RGB", (_SIDE, _SIDE))
        for column, digit in enumerate((left, right)):
            canvas.paste(digits.open(digit), (column * _SIDE // 2, _SIDE // 4))
        file = BytesIO()
        canvas.save(file, "PNG")
        blobs.append(BytesBlob(file.getvalue()))
        matrix[row, digits.labels[[left, right]]] = 1
    items = Items(
        ids=tuple(f"pairs/{i:04d}.png" for i in range(len(chosen))),
        blobs=tuple(blobs),
        parts=np.array(["train"] * train + ["test"] * test),
        division="the draw of the pairs",
    )
    return LabeledSets(items, matrix, DIGIT_NAMES)
