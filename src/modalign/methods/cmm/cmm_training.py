"""CMM's training loop, made for the CPU: gradients by hand, one flat buffer, one fused optimizer call a step.

With 8 images a step, the plain loop (module, autograd, default AdamW) spends its time on everything but the
mathematics. Here W and T lie in one buffer and their gradient in another, so that AdamW is one fused pass; the
gradient is five matrix products into that buffer; the zero-shot scores, which never change, are one matrix product
for a block of steps. It is the same computation, step by step, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from modalign.core.progress import track

BLOCK = 64  # steps whose rows and zero-shot scores are gathered at once
FEW = 2**20  # parameters; 4 MB stay in the cache of one core
TINY = 1e-12  # lengths are clamped here, as torch.nn.functional.normalize does
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Objective:
    """CE(logit_scale · (s_CMM + fusion · s_CLIP)) + triplet_weight · max(0, d⁺ − d⁻ + margin), mean of the batch."""

    logit_scale: float = 100.0
    fusion: float = 1.0
    margin: float = 1.0
    triplet_weight: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """AdamW with decoupled decay; linear warm-up, then half a cosine down to ``min_learning_rate``."""

    steps: int = 16_000
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-5
    warmup_steps: int = 50
    weight_decay: float = 0.01

    def rates(self) -> list[float]:
        """The learning rate of every step."""
        rest = max(1, self.steps - self.warmup_steps)
        swing = (self.learning_rate - self.min_learning_rate) / 2

        def rate(step: int) -> float:
            if step < self.warmup_steps:
                return self.learning_rate * (step + 1) / self.warmup_steps
            return self.min_learning_rate + swing * (1 + math.cos(math.pi * (step - self.warmup_steps) / rest))

        return [rate(step) for step in range(self.steps)]


@dataclass(frozen=True)
class Record:
    """What happened, step by step.

    Attributes
    ----------
    losses : (steps,) mean loss of the batch, before the step.
    triplet_active : (steps,) share of the batch whose triplet loss was not zero.
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


class CMMParameters:
    """The parameters W_1…W_L (d, d) and T (C, d) in one flat buffer, their gradient in another; L may be 0.

    Attributes
    ----------
    weights, text : views of ``flat``; ``weight_gradients``, ``text_gradient`` the same views of ``gradient``.
    """

    def __init__(self, weights: Collection[Tensor], text: Tensor, objective: Objective) -> None:
        self.objective = objective
        self.flat = torch.cat([W.reshape(-1) for W in (*weights, text)])
        self.gradient = torch.zeros_like(self.flat)
        self.weights, self.text = self._views(self.flat, len(weights), *text.shape)
        self.weight_gradients, self.text_gradient = self._views(self.gradient, len(weights), *text.shape)

    @staticmethod
    def _views(flat: Tensor, layers: int, C: int, d: int) -> tuple[list[Tensor], Tensor]:
        *weights, text = flat.split([d * d] * layers + [C * d])
        return [W.view(d, d) for W in weights], text.view(C, d)

    def differentiate(self, x: Tensor, clip: Tensor, target: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Fill ``gradient`` with that of the loss on one batch.

        Parameters
        ----------
        x : (B, d) unit image vectors.
        clip : (B, C) logit_scale · fusion · s_CLIP.
        target : (B, C) one-hot labels.
        labels : (B, 1) class indices.

        Returns
        -------
        (B, 1) log-likelihoods of the true classes and (B, 1) d⁺ − d⁻ + margin before the hinge.
        """
        scale, T, count = self.objective.logit_scale, self.text, len(x)
        inputs, mapped = [], x
        for W in self.weights:
            inputs.append(mapped.relu_() if inputs else mapped)
            mapped = torch.addmm(mapped, mapped, W)

        # s_CMM = cos(m, T_c) from the inner products and the two lengths: T is never normalized in memory
        length = torch.linalg.vector_norm(mapped, dim=1, keepdim=True).clamp_min_(TINY)
        text_length = torch.linalg.vector_norm(T, dim=1).clamp_min_(TINY)
        per_length = (length * text_length).reciprocal_()
        cosines = torch.mm(mapped, T.T).mul_(per_length)
        likelihood = torch.log_softmax(torch.add(clip, cosines, alpha=scale), dim=1)
        nearest, hardest = torch.sub(cosines, target, alpha=4).max(dim=1, keepdim=True)  # −4: the true class never wins
        hinge = nearest.sub_(cosines.gather(1, labels)).add_(self.objective.margin)
        truth = likelihood.gather(1, labels)

        # ∂loss/∂cos: softmax − one-hot, and ±1 at the true and the hardest class where the triplet loss is active
        slope = likelihood.exp_().sub_(target).mul_(scale / count)
        if self.objective.triplet_weight:
            active = (hinge > 0).to(slope.dtype).mul_(self.objective.triplet_weight / count)
            slope.scatter_add_(1, hardest, active).addcmul_(target, active, value=-1)

        # ∂cos/∂m = (T̂ − cos · m̂)/‖m‖ and the same with m and T exchanged
        weighted = slope * cosines
        slope.mul_(per_length)
        backward = torch.mul(mapped, weighted.sum(dim=1, keepdim=True).div_(length.square_()).neg_())
        backward.addmm_(slope, T)
        radial = weighted.sum(dim=0).div_(text_length.square_()).neg_()
        torch.mul(T, radial[:, None], out=self.text_gradient).addmm_(slope.T, mapped)

        for layer in range(len(inputs) - 1, -1, -1):
            torch.mm(inputs[layer].T, backward, out=self.weight_gradients[layer])
            if layer:
                backward = torch.addmm(backward, backward, self.weights[layer].T).mul_(inputs[layer] > 0)
        return truth, hinge


def single_thread_if_small(parameters: Tensor) -> int | None:
    """1 while few parameters are trained on the CPU: handing out work takes longer than a step of it.

    On a busy machine two threads that wait for each other 16,000 times were up to ten times slower than one.
    """
    return 1 if parameters.device.type == "cpu" and parameters.numel() < FEW else None


class CMMRun:
    """A run of the schedule that can be looked at, and stopped, after any step; ``learner`` holds where it is.

    Parameters
    ----------
    learner : initial parameters. Its text is also the frozen text of s_CLIP.
    X : (n, d) unit image vectors.
    y : (n,) class indices.
    order : (at least ``schedule.steps``, B) rows of each batch, from :func:`batch_order`.
    schedule : the optimizer.

    Attributes
    ----------
    steps : the number of steps done.
    """

    def __init__(self, learner: CMMParameters, X: Tensor, y: Tensor, order: Tensor, schedule: Schedule) -> None:
        self.learner, self.steps = learner, 0
        self._X, self._y, self._order = X, y, order.to(X.device)
        self._frozen = learner.text.clone()
        self._rates, self._weight_decay = schedule.rates(), schedule.weight_decay
        self._moments = [torch.zeros_like(learner.flat) for _ in range(2)]
        self._count = torch.zeros((), device=X.device)
        self._truths, self._hinges = (X.new_empty(len(self._rates), order.shape[1], 1) for _ in range(2))
        self._block: Iterator[tuple[Tensor, ...]] = iter(())

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        """Train until ``steps`` steps are done in all."""
        learner = self.learner
        for step in range(self.steps, steps):
            if step % BLOCK == 0:
                self._block = self._gather(step)
            self._truths[step], self._hinges[step] = learner.differentiate(*next(self._block))
            adamw(
                [learner.flat], [learner.gradient], [self._moments[0]], [self._moments[1]], [], [self._count],
                fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=self._rates[step],
                weight_decay=self._weight_decay, eps=EPSILON, maximize=False,
            )  # fmt: skip
            self.steps = step + 1

    def record(self) -> Record:
        """The steps that were done."""
        truths, hinges = self._truths[: self.steps], self._hinges[: self.steps]
        losses = (hinges.clamp_min(0) * self.learner.objective.triplet_weight - truths).mean(dim=(1, 2))
        return Record(losses, (hinges > 0).float().mean(dim=(1, 2)))

    def _gather(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        """What :meth:`CMMParameters.differentiate` needs of the next ``BLOCK`` steps."""
        aim, rows = self.learner.objective, self._order[step : step + BLOCK]
        batches, labels = self._X[rows], self._y[rows][:, :, None]
        clip = (batches @ self._frozen.T).mul_(aim.logit_scale * aim.fusion)
        targets = torch.zeros_like(clip).scatter_(2, labels, 1.0)
        return zip(batches.unbind(), clip.unbind(), targets.unbind(), labels.unbind(), strict=True)


def train_cmm(
    learner: CMMParameters,
    X: Tensor,
    y: Tensor,
    order: Tensor,
    schedule: Schedule,
    observe: Callable[[int], None] | None = None,
    observe_after: Collection[int] = (),
) -> Record:
    """Run as many steps as ``order`` has batches, but not more than the schedule; ``learner`` holds the result.

    Parameters
    ----------
    learner, X, y, order, schedule : as of :class:`CMMRun`.
    observe : called with the number of steps done, whenever that is in ``observe_after``.
    observe_after : numbers of steps.
    """
    run, steps = CMMRun(learner, X, y, order, schedule), min(len(order), schedule.steps)
    pauses = {*range(BLOCK, steps, BLOCK), steps, *(step for step in observe_after if 0 < step <= steps)}
    for pause in track(sorted(pauses), "training CMM", unit=f"× {BLOCK} steps"):
        run.advance(pause)
        if observe is not None and pause in observe_after:
            observe(pause)
    return run.record()
