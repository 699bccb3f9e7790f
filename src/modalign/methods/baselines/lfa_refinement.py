"""LFA's refinement: gradient steps of several maps at once on the adaptive re-ranking loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.linalg.optimizers import Descent, descend
from modalign.linalg.ranking import MapRanking
from modalign.linalg.similarity import unit
from modalign.methods.contract.training_steps import seeded


@dataclass(frozen=True)
class RefinementSettings:
    """Settings of the refinement; the fields are those of :class:`~modalign.methods.baselines.lfa.LFA`."""

    rates: Sequence[float]
    batch_size: int
    weight_decay: float
    n_hard_negatives: int
    margin_scale: float
    noise: float
    dropout: float
    random_state: int


class Refinement:
    """Refinement of one map.

    Parameters
    ----------
    start : Tensor of shape (d, d)
        W, copied.
    X : Tensor of shape (n, d)
        Unit images.
    y : Tensor of shape (n,)
        Class indices.
    T : Tensor of shape (C, d)
        Unit class texts.
    recipe : RefinementSettings
        The settings.

    Attributes
    ----------
    weight : Tensor of shape (d, d)
        Current W.
    """

    def __init__(self, start: Tensor, X: Tensor, y: Tensor, T: Tensor, recipe: RefinementSettings) -> None:
        self.weight, self._X, self._y, self._recipe = start.clone(), X, y, recipe
        self._ranking = MapRanking(T, recipe.n_hard_negatives, recipe.margin_scale)
        self._generator = seeded(recipe.random_state)
        self._batches: list[Tensor] = []

    def descent(self) -> Descent:
        """Return the tensor for :func:`~modalign.linalg.optimizers.descend`."""
        return Descent(self.weight, self._recipe.rates, self._recipe.weight_decay)

    def differentiate(self) -> tuple[Tensor, Tensor]:
        """Loss of the next batch, and its gradient at ``weight``."""
        recipe, draw, device = self._recipe, self._generator, self._X.device
        if not self._batches:
            order = torch.randperm(len(self._X), generator=draw)
            self._batches.extend(order.split(min(recipe.batch_size, len(order))))
        batch = self._batches.pop().to(device)
        x = self._X[batch]
        if recipe.noise:
            x = x + recipe.noise * torch.randn(x.shape, generator=draw).to(device)
        if recipe.dropout:
            kept = torch.rand(x.shape, generator=draw).to(device) >= recipe.dropout
            x = x * kept / (1 - recipe.dropout)
        loss, slope = self._ranking.differentiate(x @ self.weight, self._y[batch])
        return loss, x.T @ slope


def refine_maps(
    maps: Sequence[Refinement],
    observe: Callable[[int], bool | None] | None = None,
    observe_after: Collection[int] = (),
) -> Tensor:
    """Refine all maps until the last step or until ``observe`` returns True.

    Returns
    -------
    Tensor of shape (steps done, maps)
        losses.
    """

    def gradients(step: int) -> tuple[Tensor, list[Tensor]]:
        losses, slopes = zip(*(one.differentiate() for one in maps), strict=True)
        return torch.stack(losses), list(slopes)

    return descend([one.descent() for one in maps], gradients, observe, observe_after)


@dataclass(frozen=True)
class SelectedMap:
    """Weight β of the identity, number of steps, and cosines of the held-out images."""

    identity_weight: float
    steps: int
    scores: Tensor | None = None


@dataclass(frozen=True)
class AlignmentData:
    """Unit images X (n, d), their classes y (n,), the unit class texts T (C, d), and the isometry between them."""

    X: Tensor
    y: Tensor
    T: Tensor
    isometry: Tensor

    def start(self, beta: float) -> Tensor:
        """(d, d) the isometry, shrunk toward the identity."""
        return torch.lerp(self.isometry, torch.eye(len(self.isometry), device=self.X.device), beta)

    def cosines(self, X: Tensor, weight: Tensor) -> Tensor:
        """(n, C) cosines of the mapped unit images ``X`` with the class texts."""
        return unit(X @ weight) @ self.T.T
