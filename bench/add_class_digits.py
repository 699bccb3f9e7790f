"""A digit that is added after the fit, with and without images of the other digits to bound its correction.

    python -m bench.add_class_digits [--heads lfa,gda] [--seeds 3]

Each of the ten digits is left out of a fit to 8 images per class and then added, by its text or with 5 images too,
and with 0, 50, 100 and 300 held-out images of the other digits as ``check``. Everything is measured on other images.
A line for each head is a row of the table in ``docs/results/add_class.md``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

import modalign as ma
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.itemset import Items
from modalign.encoders import Encoder
from modalign.methods.added.added_classes import AddedClasses
from modalign.methods.contract.tower import TowerMethod

CHECKED = (0, 50, 100, 300)
SHOTS, IMAGES, FITTED, HELD_OUT = 8, 5, 300, 300


def without(items: Items, c: int) -> Items:
    """Items of the other classes alone, numbered without ``c``."""
    names = tuple(name for k, name in enumerate(items.class_names) if k != c)
    return replace(items, labels=np.where(items.labels > c, items.labels - 1, items.labels), class_names=names)


def trial(digits: Items, vectors: torch.Tensor, encoder: Encoder, head: str, c: int, seed: int) -> np.ndarray:
    """(2, 4, 2): by text and with images, for each number of checked images: points below zero-shot, points lost."""
    order = np.random.default_rng([seed, c]).permutation(len(digits))
    other, new = order[digits.labels[order] != c], order[digits.labels[order] == c]
    fitted, held, rest = np.split(other, [FITTED, FITTED + HELD_OUT])
    own, new = np.split(new, [IMAGES])
    model = ma.adapt(
        without(digits.select(fitted), c), encoder=encoder, method=head, shots=SHOTS, templates=DIGIT_TEMPLATES,
        mirror=False, random_state=seed,
    )  # fmt: skip
    last = len(model.class_names)
    place = torch.from_numpy(np.where(digits.labels == c, last, digits.labels - (digits.labels > c)))
    assert not isinstance(model.method, TowerMethod)

    def right(answers: torch.Tensor, rows: np.ndarray) -> float:
        return 100 * float((answers.argmax(dim=1) == place[rows]).float().mean())

    before, found = right(model.method.scores(vectors[rest]), rest), []
    for images in (None, digits.select(own)):
        for n in CHECKED:
            check = without(digits.select(held[:n]), c) if n else None
            method = model.add_class(digits.class_names[c], images, check=check).method
            assert isinstance(method, AddedClasses)
            zero_shot = right(vectors[new] @ method.prototypes_.T, new)
            lost = before - right(method.scores(vectors[rest]), rest)
            found.append((zero_shot - right(method.scores(vectors[new]), new), lost))
    return np.array(found).reshape(2, len(CHECKED), 2)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--heads", default="lfa,gda")
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    torch.set_num_threads(1)
    digits, encoder = load_digits(), ma.load_encoder("tiny")
    vectors = torch.tensor(encoder.embed_images(digits).vectors)
    for head in given.heads.split(","):
        found = np.stack(
            [
                np.mean([trial(digits, vectors, encoder, head, c, seed) for seed in range(given.seeds)], axis=0)
                for c in range(len(digits.class_names))
            ]
        )  # (classes, 2, checked, 2)
        for kind, name in enumerate(("by text", f"with {IMAGES} images")):
            for j, n in enumerate(CHECKED):
                below, lost = found[:, kind, j].T
                print(
                    f"| {head} | {name} | {n} | {lost.mean():.1f} | {lost.max():.1f} | {-below.mean():+.1f} | "
                    f"{-below.max():+.1f} ({digits.class_names[int(below.argmax())]}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
