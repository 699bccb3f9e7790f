"""A small data root in CoOp's layout: digits under the names of three benchmarks, and ImageNet with a variant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from modalign.data.digits import DIGIT_NAMES, load_digits

COOP = {
    "eurosat": ("eurosat/2750", "eurosat/split_zhou_EuroSAT.json", (0, 1, 2, 3, 4, 5)),
    "dtd": ("dtd/images", "dtd/split_zhou_DescribableTextures.json", (9, 8, 7, 6)),
    "ucf101": ("ucf101/UCF-101-midframes", "ucf101/split_zhou_UCF101.json", (2, 3, 5, 7)),
}
EACH = {"train": 6, "val": 3, "test": 5}
WORDNET = {f"n0000000{k}": DIGIT_NAMES[k] for k in range(6)}


def write_coop_root(root: Path) -> Path:
    """Three data sets with split files; images of class k of a set are digits of its k-th name."""
    digits = load_digits()
    for offset, (images, lists, classes) in enumerate(COOP.values()):
        (root / images).mkdir(parents=True)
        split: dict[str, list[list[object]]] = {part: [] for part in EACH}
        for label, digit in enumerate(classes):
            rows = iter(np.flatnonzero(digits.labels == digit)[20 * offset :])
            for part, count in EACH.items():
                for _ in range(count):
                    row = int(next(rows))
                    name = f"{DIGIT_NAMES[digit]}_{row}.png"
                    (root / images / name).write_bytes(digits.read(row))
                    split[part].append([name, label, DIGIT_NAMES[digit]])
        (root / lists).write_text(json.dumps(split))
    return root


def write_imagenet_root(root: Path) -> Path:
    """ImageNet with six classes, and ImageNet-A with two of them."""
    digits = load_digits()
    lines = "\n".join(f"{key} {name}" for key, name in WORDNET.items())
    (root / "imagenet").mkdir(parents=True)
    (root / "imagenet/classnames.txt").write_text(lines)
    folders = {"imagenet/images/train": 6, "imagenet/images/val": 4}
    for k, key in enumerate(WORDNET):
        rows = iter(np.flatnonzero(digits.labels == k).tolist())
        places = dict(folders) | ({"imagenet-adversarial/imagenet-a": 4} if k in (1, 4) else {})
        for place, count in places.items():
            (root / place / key).mkdir(parents=True)
            for _ in range(count):
                row = next(rows)
                (root / place / key / f"{row}.png").write_bytes(digits.read(row))
    return root
