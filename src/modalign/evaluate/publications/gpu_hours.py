r"""About how many GPU-hours a printed number takes, from its arithmetic.

.. math:: h = \frac{s\, E \lceil n / B \rceil\, (B\, a\, f_I + K\, b\, f_T)}{3600\, r}

for s seeds, E epochs over n images in batches of B, K classes, a passes of f_I through the vision tower per image and b
passes of f_T through the text tower per class, at a sustained rate r. A pass with gradient counts twice: the weights
are frozen, so that backward costs as much as forward. Sentences have all 77 tokens, as in the public codes.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from modalign.data.splits.benchmarks import Dataset, dataset
from modalign.evaluate.publications.paper_settings import paper_settings
from modalign.evaluate.publications.printed_block import ELEVEN
from modalign.evaluate.publications.printed_methods import built_method
from modalign.evaluate.publications.published_number import Published
from modalign.methods import method_class

RATE = 30e12
"""Floating-point operations per second: what half precision sustains on batches this small on one data-center GPU.

Steps measured by ``bench.gpu`` on an H200 in bfloat16 are 21 (MaPLe), 26 (DAM), 38 (CoOp), 46 (FAIR) and 77 (ALIGN)
times 10¹², the reading of the images included.
"""
IMAGE = {"RN50": 12e9, "RN101": 20e9, "ViT-B/32": 9e9, "ViT-B/16": 35e9}
SENTENCE = 6e9  # 12 layers of width 512, 77 tokens
SEEDS = 3  # where the paper does not say

# Forward passes per image and per class in a step. FAIR: 16 crops, the weak view, and the strong one with gradient.
_PASSES: dict[str, tuple[float, float]] = {
    "coop": (1, 2), "cocoop": (1, 2), "kgcoop": (1, 2), "upl": (1, 32), "vpt": (2, 0), "upt": (2, 2),
    "maple": (2, 2), "promptsrc": (3, 2), "plot": (1, 8), "align": (8, 8), "dam": (3, 2), "hpt": (2, 2),
    "fair": (19, 0), "reclip": (4, 2),
}  # fmt: skip
_PER_IMAGE = ("cocoop",)  # a prompt per image and class
LARGEST_CLASS = 100  # images, of the long tail
IMAGENET = 1_281_167  # training images


def gpu_hours(number: Published, protocol: str, datasets: tuple[str, ...]) -> float:
    """GPU-hours of all runs behind a number of a method that is built: those of each data set, over the seeds."""
    trained = ("imagenet",) if protocol in ("cross-dataset", "domain") else datasets
    vision = next((name for name in IMAGE if name in number.backbone), "ViT-B/16")
    runs = (_seconds(number.method, protocol, name, number.shots or 16, vision) for name in trained)
    return (number.seeds or SEEDS) * sum(runs) / 3600


def sets_of_average(number: Published, others: tuple[str, ...]) -> tuple[str, ...]:
    """The data sets of a number: its own, or those that are averaged; ``others`` are the other columns."""
    if number.dataset != "average":
        return (number.dataset,)
    return others or tuple(ELEVEN.split())


@cache
def _seconds(row: str, protocol: str, name: str, shots: int, vision: str) -> float:
    """Of one run."""
    method, data = built_method(row), dataset(name)
    assert method is not None
    settings = paper_settings(method.name, name, protocol=protocol, shots=shots).parameters | method.changes
    trained: Any = method_class(method.name)(**settings)
    classes = math.ceil(data.n_classes / 2) if protocol in ("base-to-new", "long-tail") else data.n_classes
    steps = trained.epochs * math.ceil(_images(protocol, data, classes, shots) / trained.batch_size)
    per_image, per_class = _PASSES.get(method.name, (2, 2))
    if method.name in _PER_IMAGE:
        per_class *= trained.batch_size
    return steps * (trained.batch_size * per_image * IMAGE[vision] + classes * per_class * SENTENCE) / RATE


def _images(protocol: str, data: Dataset, classes: int, shots: int) -> int:
    """Images that are trained on."""
    match protocol:
        case "inductive":
            return data.vissl[0] if data.vissl else data.coop[0] if data.coop else IMAGENET
        case "transductive":
            return data.test_size("vissl") or data.n_test
        case "long-tail":
            return classes * LARGEST_CLASS // 3  # about the mean of the tails
    return classes * shots
