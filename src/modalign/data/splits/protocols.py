"""Further protocols of the literature: without labels, base to new classes, long-tailed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.names import quoted
from modalign.data.splits.drawing import Labels, by_class, label_array, official_lists
from modalign.data.splits.split import EMPTY, PARTS, Split

LARGEST_CLASS = 100  # images of the largest class of a long tail


def unlabeled(labels: Labels, *, official: Split | None = None, transductive: bool = False) -> Split:
    """Return a split for learning without labels.

    Unlabeled images are those of the train list or, if transductive, of the test list, which are also tested."""
    y, _ = label_array(labels)
    official = official_lists(labels, official)
    if official is None:
        test = np.flatnonzero(y != UNLABELED) if transductive else EMPTY
        text = "transductive: adapted to and tested on the same images" if transductive else "all images without labels"
        return Split(EMPTY, EMPTY, test, np.arange(len(y)), None, text)
    if transductive:
        text = "transductive: adapted to and tested on the test list"
        return Split(EMPTY, EMPTY, official.test, official.test, official.seed, text, official.notes)
    pool = np.union1d(official.train, official.unlabeled)
    return Split(EMPTY, EMPTY, official.test, pool, official.seed, "inductive: the train list without labels")


@dataclass(frozen=True, eq=False)
class BaseToNew:
    """Split of the base-to-new protocol of CoCoOp: learn on one half of the classes, test on both.

    Attributes
    ----------
    base_classes, new_classes : ndarray
        Class indices of the two halves.
    base : Split
        The split restricted to base classes; its test list is the test on base.
    new_test : ndarray
        Test indices of the new classes. Each half is scored in its own label space, see :func:`relabel`.
    """

    base_classes: np.ndarray
    new_classes: np.ndarray
    base: Split
    new_test: np.ndarray


def base_to_new(labels: Labels, n_classes: int, split: Split) -> BaseToNew:
    """Make a base-to-new split; the first ⌈C/2⌉ classes are base. Shots are drawn for all classes first.

    Source: Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022, section 4.1.
    """
    y, _ = label_array(labels)
    if n_classes < 2 or (len(y) and y.max() >= n_classes):
        raise InputError(f"Expected at least 2 classes and labels below their number, got {n_classes} classes.")
    half = math.ceil(n_classes / 2)
    is_base = (y >= 0) & (y < half)
    restricted = {name: (part := getattr(split, name))[is_base[part]] for name in PARTS}
    base = replace(split, **restricted, description=f"{split.description}; base classes 0…{half - 1}")
    new_test = split.test[y[split.test] >= half]
    return BaseToNew(np.arange(half), np.arange(half, n_classes), base, new_test)


def relabel(labels: Labels, classes: np.ndarray | Sequence[int]) -> np.ndarray:
    """Renumber labels by their position in ``classes``; −1 for all others."""
    y, _ = label_array(labels)
    classes = np.asarray(classes, dtype=np.int64)
    table = np.full(max(int(y.max(initial=0)), int(classes.max(initial=0))) + 2, UNLABELED, dtype=np.int64)
    table[classes] = np.arange(len(classes))
    return table[y]


def long_tail(
    labels: Labels,
    imbalance: float,
    seed: int = 0,
    *,
    cap: int = LARGEST_CLASS,
    official: Split | None = None,
    class_names: Sequence[str] = (),
) -> Split:
    """Reduce the training list so that class sizes decrease exponentially, as in Candle.

    Classes are sorted by size, at most ``cap`` images each; class i of C keeps n_i = max(1, ⌊n_max · r^(i/(C−1))⌋)
    images with r = 1/imbalance. Classes in order of their indices are shuffled by ``numpy.random.RandomState(seed)``,
    and the first n_i images of each are kept, in the order of the list. Validation and test lists are unchanged.

    The images are those of Candle if ``official`` is :func:`~modalign.data.splits.drawing.few_shot` with ``cap`` shots
    and the same seed, restricted to the base classes by :func:`base_to_new`.

    Parameters
    ----------
    labels : array-like
        Class indices, −1 = unknown; or items.
    imbalance : float
        Ratio of the largest class to the smallest: 10, 20 or 50.
    seed : int, default=0
        Seed of the draw.
    cap : int, default=100
        Largest number of images of a class; the first ones of larger classes are used.
    official : Split or None, default=None
        Lists to draw from. Default: those of the items.
    class_names : sequence of str, default=()
        Names of the classes for notes.

    Notes
    -----
    Source: the long-tail protocol of Candle (Shi et al. 2024), which DAM's paper follows.
    """
    y, names = label_array(labels)
    names = tuple(class_names) or names
    official = official_lists(labels, official)
    if not imbalance >= 1:
        raise InputError(f"Expected an imbalance ratio ≥ 1, such as 10, 20 or 50, got {imbalance}.")
    pool = np.flatnonzero(y != UNLABELED) if official is None else official.train
    groups = {label: group[:cap] for label, group in by_class(y, pool).items()}
    by_size = sorted(groups, key=lambda label: -len(groups[label]))  # ties by appearance, as Counter.most_common
    largest, last = (len(groups[by_size[0]]) if groups else 0), max(1, len(groups) - 1)
    wanted = {label: int(max(largest * (1 / imbalance) ** (i / last), 1)) for i, label in enumerate(by_size)}
    rng = np.random.RandomState(seed)
    kept: list[int] = []
    for label in sorted(groups):
        order = np.array(groups[label])
        rng.shuffle(order)
        kept += order[: wanted[label]].tolist()
    short = {label: len(groups[label]) for label in by_size if len(groups[label]) < wanted[label]}
    return replace(
        official or Split(EMPTY),
        train=pool[np.isin(pool, kept)],
        seed=seed,
        description=f"long tail, imbalance {imbalance:g}",
        notes=(*(official.notes if official else ()), *_off_the_curve(short, wanted, names)),
    )


def _off_the_curve(short: dict[int, int], wanted: dict[int, int], names: Sequence[str]) -> tuple[str, ...]:
    """A note on classes that have fewer images than their place in the long tail gives them."""
    if not short:
        return ()
    details = [f"{count} of {wanted[label]}" for label, count in short.items()]
    listed = quoted([names[label] if names else str(label) for label in short], details=details)
    subject = "1 class has" if len(short) == 1 else f"{len(short)} classes have"
    return (f"{subject} fewer images than the long tail gives them: {listed}",)
