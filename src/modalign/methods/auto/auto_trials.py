"""Trials of the automatic choice: folds of the labeled images, and classes that are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modalign.core.features import UNLABELED
from modalign.linalg.similarity import groups_of_copies
from modalign.methods.contract.selection import classes_in_order_of_rows, folds, held_out
from modalign.methods.contract.vectors import Problem

MOST_COMPARED = 10_000  # largest number of labeled images whose pairs are compared to find copies
LEFT_OUT = 2  # trials that leave classes out


@dataclass(frozen=True)
class Trials:
    """Divisions of the labeled images into training and held-out images.

    Attributes
    ----------
    parts : tuple of tuple of (Tensor of shape (n,), Tensor)
        Mask of the training images, and indices of the held-out images, for each trial.
    folded : int
        Number of images that are held out in the folds, each once; they come first.
    growth : float
        Labeled images per class that a fit to all images has for one of the fits of the trials; geometric mean.
    """

    parts: tuple[tuple[Tensor, Tensor], ...]
    folded: int
    growth: float

    @property
    def rows(self) -> Tensor:
        """(m,) indices of the held-out images, trial by trial."""
        return torch.cat([held for _, held in self.parts]) if self.parts else torch.empty(0, dtype=torch.long)


def trials(problem: Problem, groups: Tensor | None, seed: int) -> Trials | None:
    """Stratified folds; where some classes have text and no labeled image, also trials that leave labeled classes out.

    Validation images take the place of the folds.

    Each of these trials leaves out a share of the labeled classes equal to the share of classes without an image, so
    that the effect of training on such classes is evaluated too. An image whose class is absent from the other folds is
    not evaluated.

    Parameters
    ----------
    problem : Problem
        The images and labels; unlabeled images are training images in every trial.
    groups : Tensor or None
        Images of one group are held out together, see :func:`groups_of_views`; None is one group per image.
    seed : int
        Seed of the division.

    Returns
    -------
    Trials or None
        Trials; None if there are no validation images, and most labeled classes have a single image or too few classes
        have labels to leave some out. Cost O(n log n).
    """
    y, sizes = problem.y, images_per_class(problem, groups)
    present = (sizes > 0).nonzero().flatten()
    left_out = max(0, min(round((1 - len(present) / len(sizes)) * len(present)), len(present) // 2, len(present) - 2))
    parts: list[tuple[Tensor, Tensor]] = []
    doublings = [torch.zeros(0, device=y.device)]
    if held_out(problem.validation) is None:
        if not len(present) or int(sizes[present].median()) < 2 or (len(present) < len(sizes) and not left_out):
            return None
        parts, doublings = _folds(problem, folds(y, groups=groups, random_state=seed))
    folded = sum(len(held) for _, held in parts)
    if left_out:
        labeled = classes_in_order_of_rows(y)
        order = labeled[torch.from_numpy(np.random.default_rng(seed).permutation(len(labeled))).to(y.device)]
        for chosen in order[: LEFT_OUT * left_out].split(left_out):
            out = torch.isin(y, chosen)
            parts.append((~out, out.nonzero().flatten()))
            doublings.append(torch.zeros(len(parts[-1][1]), device=y.device))
    growth = torch.cat(doublings).mean().exp2() if folded else 1.0
    return Trials(tuple(parts), folded, float(growth))


def _folds(problem: Problem, fold: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Training and held-out images, fold by fold, and the logarithm to base 2 of the growth of labels to all images."""
    y, parts, doublings = problem.y, [], []
    total = torch.bincount(y[y != UNLABELED], minlength=problem.n_classes)
    for k in range(int(fold.max()) + 1):
        held = (fold == k).nonzero().flatten()
        left = total - torch.bincount(y[held], minlength=problem.n_classes)
        held = held[left[y[held]] > 0]
        parts.append((fold != k, held))
        doublings.append((total[y[held]] / left[y[held]]).log2())
    return parts, doublings


def groups_of_views(problem: Problem) -> Tensor | None:
    """(n,) group numbers of labeled images: copies and views of an image share one.

    None if no image has a label, or too many have one to compare all pairs.
    """
    known = (problem.y != UNLABELED).nonzero().flatten()
    if not 0 < len(known) <= MOST_COMPARED:
        return None
    groups = torch.arange(len(problem.X))
    groups[known.cpu()] = groups_of_copies(problem.X[known])
    if problem.ids is not None:  # views of one image share a name
        first: dict[str, int] = {}
        groups = groups[[first.setdefault(name, i) for i, name in enumerate(problem.ids)]]
    return groups


def images_per_class(problem: Problem, groups: Tensor | None) -> Tensor:
    """(C,) labeled images of each class, views of one image counted once."""
    known = problem.y != UNLABELED
    labels = problem.y[known].cpu()
    if groups is not None:
        labels = labels[torch.from_numpy(np.unique(groups[known.cpu()].numpy(), return_index=True)[1])]
    return torch.bincount(labels, minlength=problem.n_classes)


__all__ = ["Trials", "groups_of_views", "images_per_class", "trials"]
