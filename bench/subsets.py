"""Kinds of unlabeled sets: even, natural, long-tailed, with absent classes, dominated by one class, small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

Draw = Callable[[list[np.ndarray], Generator], list[int]]
"""Rows of each class, in random order → how many of each to take."""


def _long_tail(factor: float) -> Draw:
    """Class sizes that fall off by ``factor`` from the largest class to the smallest, classes in random order."""

    def draw(rows: list[np.ndarray], rng: Generator) -> list[int]:
        ranks = np.empty(len(rows))
        ranks[rng.permutation(len(rows))] = np.linspace(0, 1, len(rows))
        largest = 2 * np.median([len(r) for r in rows])
        return [max(1, round(largest * factor**-rank)) for rank in ranks]

    return draw


def _present(count: Callable[[int], int]) -> Draw:
    """Only some of the classes, whole."""

    def draw(rows: list[np.ndarray], rng: Generator) -> list[int]:
        kept = set(rng.permutation(len(rows))[: count(len(rows))].tolist())
        return [len(r) if k in kept else 0 for k, r in enumerate(rows)]

    return draw


def _dominated(rows: list[np.ndarray], rng: Generator) -> list[int]:
    """One class makes up about 80 % of the images."""
    sizes = np.array([len(r) for r in rows])
    top = int(np.argmax(sizes + rng.random(len(rows))))
    rest = rng.permutation(np.repeat(np.arange(len(rows)), np.where(np.arange(len(rows)) == top, 0, sizes)))
    counts = np.bincount(rest[: max(1, sizes[top] // 4)], minlength=len(rows))
    counts[top] = sizes[top]
    return counts.tolist()


def _few(count: int) -> Draw:
    """``count`` images in all, drawn from the pool as it is."""

    def draw(rows: list[np.ndarray], rng: Generator) -> list[int]:
        owner = rng.permutation(np.repeat(np.arange(len(rows)), [len(r) for r in rows]))
        return np.bincount(owner[:count], minlength=len(rows)).tolist()

    return draw


KINDS: dict[str, Draw] = {
    "natural": lambda rows, rng: [len(r) for r in rows],
    "even": lambda rows, rng: [int(np.quantile([len(r) for r in rows], 0.1))] * len(rows),
    "16 per class": lambda rows, rng: [16] * len(rows),
    "tail ×10": _long_tail(10),
    "tail ×50": _long_tail(50),
    "tail ×100": _long_tail(100),
    "half absent": _present(lambda n: n // 2),
    "5 present": _present(lambda n: 5),
    "2 present": _present(lambda n: 2),
    "one 80 %": _dominated,
    "25 images": _few(25),
    "50 images": _few(50),
    "100 images": _few(100),
}


def subset(y: np.ndarray, n_classes: int, kind: str, seed: int) -> np.ndarray:
    """Rows of a pool with labels ``y`` that make up one kind of folder; shuffled."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    rows = [rng.permutation(np.flatnonzero(y == k)) for k in range(n_classes)]
    counts = KINDS[kind](rows, rng)
    return rng.permutation(np.concatenate([r[:count] for r, count in zip(rows, counts, strict=True)]))
