"""Batches of the cross-modal probe, half images and half sentences, and the gradient of its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import LOWEST, unit
from modalign.methods.contract.training_steps import BLOCK, batch_order, seeded
from modalign.methods.contract.vectors import Problem


@dataclass(frozen=True)
class Samples:
    """Images and sentences, and the rows of each batch.

    Attributes
    ----------
    rows : Tensor of shape (n + s, d)
        Unit vectors, images first.
    targets : Tensor of shape (n + s, C)
        One-hot classes.
    batches : Tensor of shape (steps, b)
        Row numbers.
    weights : Tensor of shape (b, 1)
        Weight of each position of a batch in the loss: half for images, half for sentences.
    sentences : int
        s.
    """

    rows: Tensor
    targets: Tensor
    batches: Tensor
    weights: Tensor
    sentences: int

    @classmethod
    def of(cls, problem: Problem, batch_size: int, steps: int, seed: int | None, *, sentences: bool = True) -> Samples:
        """Collect all labeled images and optionally all sentences; the order of both is drawn from one generator."""
        X, y = problem.labeled()
        if problem.text is None or not sentences:
            text, classes = X[:0], y[:0]
        else:
            present = (problem.text != 0).any(dim=2)
            text, classes = problem.text[present], present.nonzero()[:, 0]
            order = torch.argsort(text[:, 0], stable=True)  # of the vectors, so that the order of the classes is free
            text, classes = text[order], classes[order]
        generator = seeded(seed)
        of_text = batch_size // 2 if len(text) else 0
        of_images, of_text = min(batch_size - of_text, len(X)), min(of_text, len(text))
        batches = batch_order(len(X), of_images, steps, generator)
        halves = [torch.full((of_images,), 1 / of_images)]
        if of_text:
            batches = torch.cat([batches, len(X) + batch_order(len(text), of_text, steps, generator)], dim=1)
            halves = [torch.full((of,), 1 / (2 * of)) for of in (of_images, of_text)]
        return cls(
            rows=unit(torch.cat([X, text])),
            targets=F.one_hot(torch.cat([y, classes]), problem.n_classes).float(),
            batches=batches.to(X.device),
            weights=torch.cat(halves)[:, None].to(X.device),
            sentences=len(text),
        )

    def gradients(self, W: Tensor, scale: float) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Step → log-likelihoods (b, candidates) of its batch and gradients at W (candidates, C, d) as it is then."""
        stacked = W.flatten(0, 1).T
        block: list[tuple[Tensor, ...]] = []

        def at(step: int) -> tuple[Tensor, Tensor]:
            if step % BLOCK == 0 or not block:
                block[:] = self._gather(step, scale, len(W))
            x, weighted, truth, labels = block[step % BLOCK]
            likelihood = torch.log_softmax(torch.mm(x, stacked).view(len(x), *W.shape[:2]), dim=2)
            own = likelihood.gather(2, labels)[:, :, 0]
            slope = likelihood.clamp_min_(LOWEST).exp_().sub_(truth)
            return own, torch.mm(slope.flatten(1).T, weighted).view(W.shape)

        return at

    def losses(self, likelihoods: Tensor) -> Tensor:
        """Losses (steps, candidates) from the log-likelihoods (steps, b, candidates) of all steps."""
        return -(self.weights * likelihoods).sum(dim=1)

    def _gather(self, step: int, scale: float, candidates: int) -> list[tuple[Tensor, ...]]:
        """What the steps of the block around ``step`` need: scaled rows, also weighted, and classes in two forms."""
        batches = self.batches[step - step % BLOCK :][:BLOCK]
        rows, truth = self.rows[batches] * scale, self.targets[batches][:, :, None]
        labels = truth.argmax(dim=3, keepdim=True).expand(-1, -1, candidates, 1)
        return list(zip(rows, rows * self.weights, truth, labels, strict=True))


def gradients_of_parts(parts: Sequence[Samples], W: Tensor, scale: float) -> Callable[[int], Tensor]:
    """Step → gradients at W (parts, C, d) as it is then, each of the batch of its own part; batches have one shape.

    With few classes, a step of all parts takes little longer than one of a single part.
    """
    rows, targets = torch.cat([part.rows for part in parts]) * scale, torch.cat([part.targets for part in parts])
    first = torch.tensor([0, *(len(part.rows) for part in parts[:-1])]).cumsum(0).to(rows.device)
    batches = torch.stack([part.batches for part in parts], dim=1) + first[:, None]
    weights = torch.stack([part.weights for part in parts])

    def at(step: int) -> Tensor:
        batch, shape = batches[step].flatten(), batches.shape[1:]
        x, truth = (table.index_select(0, batch).unflatten(0, shape) for table in (rows, targets))
        slope = torch.log_softmax(torch.bmm(x, W.mT), dim=2).clamp_min_(LOWEST).exp_().sub_(truth).mul_(weights)
        return torch.bmm(slope.mT, x)

    return at
