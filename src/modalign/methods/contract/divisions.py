"""Images for the selection of hyper-parameters inside ``fit``: validation images and held-out labeled images.

Selection on labeled images uses cross-validation: the images are divided into stratified folds, every candidate is
evaluated on each fold after training on the others, and the selected candidate is fitted to all labeled images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import UNLABELED
from modalign.linalg.similarity import linked_groups
from modalign.methods.contract.selection import ENOUGH, FOLDS, classes_in_order_of_rows, folds, held_out
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.vectors import Problem


@dataclass(frozen=True)
class SelectionSplit:
    """Labeled training images and held-out images.

    Attributes
    ----------
    rows : Tensor of shape (m,)
        Positions among the labeled images of the problem.
    X : Tensor of shape (h, d)
        Vectors of the held-out images.
    y : Tensor of shape (h,)
        Their class indices.
    whole : bool, default=False
        Whether all labeled images are learned from.
    """

    rows: Tensor
    X: Tensor
    y: Tensor
    whole: bool = False


@dataclass(frozen=True)
class SelectionSplits:
    """All divisions used for a selection.

    Attributes
    ----------
    parts : tuple of SelectionSplit
        Divisions; empty if there are no images to select on.
    source : str
        ``"validation"``, ``"cross-validation"``, ``"validation and cross-validation"`` or ``"nothing"``.
    """

    parts: tuple[SelectionSplit, ...]
    source: str

    @property
    def y(self) -> Tensor:
        """The labels of all held-out images, division by division."""
        return torch.cat([part.y for part in self.parts])

    def growth(self, y: Tensor) -> float:
        """Labeled images per class among all of ``y`` (n,) for one in a division; geometric mean over the held-out.

        Held-out images of a class that is absent from their division are ignored.
        """
        ratios = []
        for part in self.parts:
            left = torch.bincount(y[part.rows], minlength=int(max(y.max(), part.y.max())) + 1)
            total = torch.bincount(y, minlength=len(left))
            known = part.y[left[part.y] > 0]
            ratios.append((total[known] / left[known]).log2())
        return float(torch.cat(ratios).mean().exp2()) if any(map(len, ratios)) else 1.0


def selection_splits(problem: Problem, random_state: int | None, *, cross_validate: bool = True) -> SelectionSplits:
    """Return the validation images, if any, and folds of the labeled images if there are fewer than :data:`ENOUGH`.

    The number of folds is the typical number of images per class, between two and five. The only image of a class is
    never held out. If classes have text but no image, an additional division holds out an equal share of the labeled
    classes completely, so that the effect of training on such classes is evaluated as well.

    Parameters
    ----------
    problem : Problem
        Its labeled and validation images.
    random_state : int or None
        Seed of the folds.
    cross_validate : bool, default=True
        False uses the validation images alone.

    Returns
    -------
    SelectionSplits
        Divisions. Cost O(n d), for finding copies.
    """
    X, y = problem.labeled()
    known = held_out(problem.validation)
    given = [] if known is None else [SelectionSplit(torch.arange(len(y), device=y.device), *known, whole=True)]
    made, count = [], sum(len(part.y) for part in given)
    if cross_validate and len(y):
        names = None if problem.ids is None else [problem.ids[i] for i in (problem.y != UNLABELED).nonzero()[:, 0]]
        groups = copies(X, y, names)
        first = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        first[torch.from_numpy(np.unique(groups.numpy(), return_index=True)[1])] = True
        fold = _folds(y, groups, first, random_state)
        for number in range(int(fold.max()) + 1):
            if count < ENOUGH:
                held = (fold == number) & first
                made.append(SelectionSplit((fold != number).nonzero()[:, 0], X[held], y[held]))
                count += len(made[-1].y)
        if count:
            made += _classes(X, y, first, problem.n_classes, count, random_state)
    sources = ["validation"] * bool(given) + ["cross-validation"] * bool(made)
    return SelectionSplits((*given, *made), " and ".join(sources) or "nothing")


def _classes(
    X: Tensor, y: Tensor, first: Tensor, n_classes: int, count: int, random_state: int | None
) -> list[SelectionSplit]:
    """A division between classes, in proportion to the share of classes without an image; ``count`` others are held."""
    present = classes_in_order_of_rows(y)
    share = 1 - len(present) / n_classes
    held_classes = min(max(1, round(share * len(present))), len(present) - 2)
    if share == 0 or held_classes < 1:
        return []
    generator = seeded(random_state)
    chosen = present[torch.randperm(len(present), generator=generator)[:held_classes].to(y.device)]
    out = torch.isin(y, chosen)
    rows = (out & first).nonzero()[:, 0]
    wanted = max(1, round(count * share / (1 - share)))
    rows = rows[torch.randperm(len(rows), generator=generator)[:wanted].to(y.device)]
    return [SelectionSplit((~out).nonzero()[:, 0], X[rows], y[rows])]


def _folds(y: Tensor, groups: Tensor, first: Tensor, random_state: int | None) -> Tensor:
    """The fold of every labeled image, −1 for the only image of a class."""
    sizes = torch.bincount(y[first])
    several = sizes[sizes > 1]
    if not len(several):
        return torch.full_like(y, UNLABELED)
    divided = torch.where(sizes[y] > 1, y, UNLABELED)
    typical = max(2, int(several.double().median()))
    return folds(divided, min(typical, FOLDS), groups=groups, random_state=random_state)


def copies(X: Tensor, y: Tensor, ids: Sequence[str] | None = None) -> Tensor:
    """(n,) group numbers: rows of one label that have equal vectors or one id are views of one image.

    Parameters
    ----------
    X : Tensor
        vectors.
    y : Tensor of shape (n,)
        Class indices.
    ids : sequence of str or None, default=None
        n names; a mirrored image has the name of its original.
    """
    found: dict[tuple[object, int], int] = {}
    labels = y.tolist()

    def numbers(keys: Sequence[object]) -> list[int]:
        return [found.setdefault(key, len(found)) for key in zip(keys, labels, strict=True)]

    by_vector = numbers([row.tobytes() for row in X.cpu().numpy()])
    if ids is None:
        return torch.tensor(by_vector)
    by_name = numbers(ids)
    group = linked_groups(np.column_stack([by_vector, by_name]), len(found))
    return torch.from_numpy(group[by_vector].astype(np.int64))


__all__ = ["ENOUGH", "SelectionSplit", "SelectionSplits", "copies", "selection_splits"]
