"""Criteria and folds for the selection on held-out images.

Accuracy on few held-out images is coarse, and its maximum over many candidates has a high variance; the log-loss is
continuous. It is computed at the best temperature, because candidates differ in scale and the temperature is fitted
afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.core.randomness import require_seed
from modalign.linalg.similarity import LOWEST, unit

FOLDS = 5
ENOUGH = 250  # number of held-out images from which the standard error is small enough without further folds

BLOCK = 2**17  # scores that are worked on at once: 512 KB stay in the cache of a core
STEP = 2**0.5
SCALES = tuple(STEP**k for k in range(2, 17))  # 2 … 256: inverse temperatures for scores of the size of cosines


class Merit(NamedTuple):
    """Criteria of scores; higher is better."""

    accuracy: float
    log_likelihood: float


class ScaledLikelihood:
    """The mean log-likelihood of labels at the best temperature.

    It is concave in the inverse temperature, so a local search finds the best of :data:`SCALES`. It starts at the last
    result; similar scores need four evaluations. The fourth is at the maximum of the parabola through the best grid
    point and its neighbors, so that the ranking of candidates does not depend on the grid. An evaluation is a
    log-sum-exp of n C numbers.
    """

    def __init__(self) -> None:
        self.at = len(SCALES) // 2

    def __call__(self, scores: Tensor, y: Tensor) -> float:
        """``scores`` (n, C), ``y`` (n,) class indices."""
        return self.rows(scores, y).mean().item()

    def rows(self, scores: Tensor, y: Tensor) -> Tensor:
        """(n,) log-likelihoods in float64, whose mean is the best."""
        behind = scores - scores.gather(1, y[:, None])
        parts = behind.split(max(1, BLOCK // scores.shape[1]))

        def evaluated(scale: float) -> tuple[float, Tensor]:
            sums = [torch.logsumexp((scale * part).clamp_min_(LOWEST), dim=1) for part in parts]
            found = -torch.cat(sums).double()
            return found.mean().item(), found

        known: dict[int, tuple[float, Tensor]] = {}

        def value(at: int) -> float:
            if at not in known:
                known[at] = evaluated(SCALES[at])
            return known[at][0]

        for direction in (1, -1):
            while 0 <= self.at + direction < len(SCALES) and value(self.at + direction) > value(self.at):
                self.at += direction
        center = min(max(self.at, 1), len(SCALES) - 2)
        below, here, above = (value(center + k) for k in (-1, 0, 1))
        bend = 2 * here - below - above
        top = min(max((above - below) / (2 * bend), -1), 1) if bend > 0 else 0.0
        return max(known[self.at], evaluated(SCALES[center] * STEP**top), key=lambda merit: merit[0])[1]


def share_correct(scores: Tensor, y: Tensor) -> float:
    """Share of the rows of ``scores`` (n, C) whose largest entry is at the true class."""
    return (scores.argmax(1) == y).double().mean().item()


def log_likelihood(logits: Tensor, y: Tensor) -> float:
    """Mean log-likelihood of ``y`` (n,) under the softmax of ``logits`` (n, C)."""
    return -F.cross_entropy(logits.double(), y).item()


def held_out(validation: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """The labeled rows of a validation set, None if there are none."""
    if validation is None:
        return None
    X, y = validation
    known = y != UNLABELED
    return (X[known], y[known]) if bool(known.any()) else None


def unit_held_out(validation: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """:func:`held_out` with unit vectors."""
    known = held_out(validation)
    return None if known is None else (unit(known[0]), known[1])


def folds(y: Tensor, count: int = FOLDS, *, groups: Tensor | None = None, random_state: int | None = None) -> Tensor:
    """Assign images to stratified folds of equal size; copies share a fold.

    The images of each class are assigned to the folds in turn, in random order, and the next class continues with the
    next fold. The classes follow each other as their images do in the random order, so that the folds do not depend on
    the numbers of the classes. The sizes of the folds differ by at most one image, in total and per class. A class with
    one image is missing in the training images of its fold.

    Parameters
    ----------
    y : Tensor of shape (n,)
        Class indices, −1 for unlabeled images.
    count : int, default=FOLDS
        Number of folds, at least 2 and at most the number of labeled images.
    groups : Tensor of shape (n,) or None, default=None
        Rows of one group (copies or views of one image) share a fold, as one image of the class of the first row. None
        is one group per row.
    random_state : int or None, default=None
        Seed of the order; None draws another one every time.

    Returns
    -------
    Tensor of shape (n,)
        Fold numbers from 0, −1 where ``y`` is −1; on the device of ``y``. Cost O(n log n).

    Raises
    ------
    InputError
        Fewer than two folds, or fewer than two labeled images or groups of them.
    """
    require_seed(random_state)
    labels = y.cpu().numpy()
    known = np.flatnonzero(labels != UNLABELED)
    members = known if groups is None else groups.cpu().numpy()[known]
    _, first, unit_of = np.unique(members, return_index=True, return_inverse=True)
    if min(count, len(first)) < 2:
        raise InputError(f"Expected at least 2 folds and 2 labeled images, got {count} and {len(first)}.")
    order = np.random.default_rng(random_state).permutation(len(first))
    _, place, of = np.unique(labels[known[first[order]]], return_index=True, return_inverse=True)
    order = order[np.argsort(place[of], kind="stable")]
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[order] = np.arange(len(first)) % min(count, len(first))
    found = np.full(len(labels), UNLABELED, dtype=np.int64)
    found[known] = dealt[unit_of]
    return torch.from_numpy(found).to(y.device)


def classes_in_order_of_rows(y: Tensor) -> Tensor:
    """The classes of ``y`` (n,), −1 for unlabeled rows, in the order of their first rows.

    What is drawn from them depends on the images alone and not on the numbers of the classes.
    """
    known = y[y != UNLABELED]
    _, first = np.unique(known.cpu().numpy(), return_index=True)
    return known[torch.from_numpy(np.sort(first)).to(y.device)]


def choosing_parts(
    X: Tensor, y: Tensor, validation: tuple[Tensor, Tensor] | None, random_state: int | None = None
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return training and held-out images: one part with validation images, else one per fold.

    Parameters
    ----------
    X, y : Tensor of shape (n, d)
        Unit images and (n,) class indices, −1 for unlabeled images, which are in every part.
    validation : tuple of (Tensor, Tensor) or None
        The labeled rows of a validation set, or None.
    random_state : int or None, default=None
        Seed of the folds.

    Returns
    -------
    list of tuple of (Tensor, Tensor, Tensor, Tensor)
        (images, labels, held-out unit images, their labels) per part. The only image of a class is not held out. Empty
        if most images are of this kind, or if all held-out images are of one class.
    """
    if validation is not None:
        return [(X, y, unit(validation[0]), validation[1])]
    known = y != UNLABELED
    if int(known.sum()) < 2:
        return []
    fold, parts = folds(y, random_state=random_state), []
    for k in range(int(fold.max()) + 1):
        inside = fold != k
        out = (fold == k) & torch.isin(y, y[inside & known])  # absent classes are ignored
        if bool(out.any()):
            parts.append((X[inside], y[inside], X[out], y[out]))
    judged = torch.cat([y[:0], *(part[3] for part in parts)])
    return parts if 2 * len(judged) >= int(known.sum()) and len(judged.unique()) > 1 else []


def growth(parts: list[tuple[Tensor, Tensor, Tensor, Tensor]], y: Tensor) -> float:
    """Labeled images per class among all of ``y`` (n,) for one in a part of :func:`choosing_parts`; geometric mean."""
    classes = int(y.max()) + 1
    total = torch.bincount(y[y != UNLABELED], minlength=classes)
    left = [torch.bincount(part[1][part[1] != UNLABELED], minlength=classes)[part[3]] for part in parts]
    return float((total[torch.cat([part[3] for part in parts])] / torch.cat(left)).log2().mean().exp2())
