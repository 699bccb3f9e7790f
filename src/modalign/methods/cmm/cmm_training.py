"""CPU-optimized training loop of CMM: analytic gradients, one flat buffer, one fused optimizer call per step.

With 8 images per step, a loop with autograd and the default AdamW is dominated by overhead. Here the gradient is
analytic (see :mod:`modalign.methods.cmm.cmm_parameters`), AdamW is one fused update, and the constant zero-shot scores
are one matrix product per block of steps. The results are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modalign.linalg.optimizers import AdamW, Descent, cosine_rates
from modalign.methods.cmm.cmm_parameters import CMMParameters, CMMStack
from modalign.methods.contract.training_steps import BLOCK


@dataclass(frozen=True)
class Schedule:
    """AdamW with decoupled weight decay, linear warmup and cosine decay to ``min_learning_rate``."""

    steps: int = 16_000
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-5
    warmup_steps: int = 50
    weight_decay: float = 0.01

    def rates(self) -> list[float]:
        """The learning rate of every step."""
        low = self.min_learning_rate
        return cosine_rates(self.steps, self.learning_rate, warmup=self.warmup_steps, lowest=low)


@dataclass(frozen=True)
class Record:
    """Training curves.

    Attributes
    ----------
    losses : Tensor of shape (steps,)
        Mean loss of the batch, before the step.
    triplet_active : Tensor of shape (steps,)
        Share of the batch whose triplet loss was not zero.
    """

    losses: Tensor
    triplet_active: Tensor


def map_rows(weights: Iterable[Tensor], X: Tensor) -> Tensor:
    """X(W + I), layer by layer with ReLU between the layers; not normalized. One layer is the paper's linear map.

    No layer at all is the identity.
    """
    for layer, W in enumerate(weights):
        X = X.relu() if layer else X
        X = torch.addmm(X, X, W)
    return X


class CMMRun:
    """Training run that can be paused after any step; ``learner`` has the current parameters.

    Parameters
    ----------
    learner : CMMParameters
        Initial parameters. Its text is also the frozen text of s_CLIP.
    X : Tensor of shape (n, d)
        Unit image vectors.
    y : Tensor of shape (n,)
        Class indices.
    order : Tensor
        (at least ``schedule.steps``, B) rows of each batch, from :func:`batch_order`.
    schedule : Schedule
        The optimizer.
    """

    def __init__(self, learner: CMMParameters, X: Tensor, y: Tensor, order: Tensor, schedule: Schedule) -> None:
        self.learner, self.schedule = learner, schedule
        self.X, self.y, self.order = X, y, order.to(X.device)
        self.frozen = learner.text.clone()
        self._team, self._row = CMMTeam([self]), 0

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return self._team.steps

    def advance(self, steps: int) -> None:
        """Train until ``steps`` steps are done in total, including runs that were joined by :func:`together`."""
        self._team.advance(steps)

    def record(self) -> Record:
        """The steps that were done."""
        return self._team.record(self._row)

    @staticmethod
    def together(runs: Sequence[CMMRun]) -> None:
        """Batch the steps of runs of equal shape that have not begun."""
        alike: dict[Any, list[CMMRun]] = {}
        for run in runs:
            kind = run.learner.shape, run.order.shape[1], run.learner.objective, run.schedule
            alike.setdefault(kind, []).append(run)
        for members in alike.values():
            team = CMMTeam(members)
            for row, run in enumerate(members):
                run._team, run._row = team, row


class CMMTeam:
    """Runs of one shape and schedule with batched steps."""

    def __init__(self, runs: Sequence[CMMRun]) -> None:
        self._runs = list(runs)
        self._stack = CMMStack([run.learner for run in runs])
        self._frozen = torch.stack([run.frozen for run in runs])
        schedule, flat = runs[0].schedule, self._stack.flat
        rates = schedule.rates()
        self._optimizer = AdamW([Descent(flat, rates, schedule.weight_decay)])
        shape = (len(rates), len(runs), runs[0].order.shape[1], 1)
        self._truths, self._hinges = flat.new_empty(shape), flat.new_empty(shape)
        self._block: Iterator[tuple[Tensor, ...]] = iter(())

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return self._optimizer.steps

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        """Train until ``steps`` steps are done in all."""
        stack = self._stack
        for step in range(self.steps, steps):
            if step % BLOCK == 0:
                self._block = self._gather(step)
            self._truths[step], self._hinges[step] = stack.differentiate(*next(self._block))
            self._optimizer.step([stack.gradient])

    def record(self, row: int) -> Record:
        """The steps that one of the runs has done."""
        truths, hinges = self._truths[: self.steps, row], self._hinges[: self.steps, row]
        losses = (hinges.clamp_min(0) * self._stack.objective.triplet_weight - truths).mean(dim=(1, 2))
        return Record(losses, (hinges > 0).float().mean(dim=(1, 2)))

    def _gather(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        """Return the inputs of :meth:`CMMStack.differentiate` for each of the next ``BLOCK`` steps."""
        aim, blocks = self._stack.objective, [run.order[step : step + BLOCK] for run in self._runs]
        batches = torch.stack([run.X[rows] for run, rows in zip(self._runs, blocks, strict=True)], dim=1)
        labels = torch.stack([run.y[rows] for run, rows in zip(self._runs, blocks, strict=True)], dim=1)[..., None]
        clip = (batches @ self._frozen.mT).mul_(aim.logit_scale * aim.zero_shot_weight)
        targets = torch.zeros_like(clip).scatter_(3, labels, 1.0)
        return zip(batches.unbind(), clip.unbind(), targets.unbind(), labels.unbind(), strict=True)
