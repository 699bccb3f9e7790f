"""AdamW on several tensors at once with given gradients, and cosine learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW


def half_cosine(done: float, length: float, highest: float, lowest: float = 0.0) -> float:
    """Cosine decay from ``highest`` to ``lowest`` over ``length``, evaluated at ``done``."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * done / length)) / 2


def cosine_rates(steps: int, highest: float, *, warmup: int = 0, lowest: float = 0.0) -> list[float]:
    """Learning rate of every step: linear warmup over ``warmup`` steps, then cosine decay from highest to lowest."""
    rest = max(1, steps - warmup)
    line = [highest * (step + 1) / warmup for step in range(min(warmup, steps))]
    return line + [half_cosine(step, rest, highest, lowest) for step in range(steps - len(line))]


@dataclass(frozen=True)
class Descent:
    """Tensor to optimize in place, with the learning rate of every step and the decoupled weight decay."""

    parameter: Tensor
    rates: Sequence[float]
    weight_decay: float


class AdamW:
    """AdamW with decoupled weight decay on several tensors.

    Tensors with equal learning rates are updated in one call, which is faster for small tensors.

    Parameters
    ----------
    descents : sequence of Descent
        Tensors, changed in place, with equal numbers of steps.

    Attributes
    ----------
    steps : int
        Number of steps done.
    """

    def __init__(self, descents: Sequence[Descent]) -> None:
        self.steps = 0
        self._descents = list(descents)
        self._moments = [[torch.zeros_like(d.parameter) for _ in range(2)] for d in descents]
        self._counts = [torch.zeros((), device=d.parameter.device) for d in descents]
        self._group()

    def step(self, slopes: Sequence[Tensor] | Tensor) -> None:
        """Take one step with the gradients ``slopes``, one per tensor."""
        for numbers, parameters, first, second, counts in self._groups:
            rate = self._descents[numbers[0]].rates[self.steps]
            decays = [self._descents[number].weight_decay for number in numbers]
            shared = decays[0] if len(set(decays)) == 1 else 0.0  # one pass over the numbers does both, with equal bits
            for decay, parameter in zip(decays, parameters, strict=True):
                if decay != shared:
                    parameter.mul_(1 - rate * decay)
            # The kernel under torch.optim.adamw: its checks cost several times as much as the step of a small tensor.
            torch._foreach_add_(counts, 1)
            torch._fused_adamw_(
                parameters, [slopes[number] for number in numbers], first, second, [], counts,
                amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate,
                weight_decay=shared, eps=EPSILON, maximize=False,
            )  # fmt: skip
        self.steps += 1

    def keep(self, numbers: Sequence[int], parameters: Sequence[Tensor]) -> None:
        """Continue with some of the tensors only, whose values are now in ``parameters``."""
        self._descents = [
            replace(self._descents[number], parameter=parameter)
            for number, parameter in zip(numbers, parameters, strict=True)
        ]
        self._moments = [self._moments[number] for number in numbers]
        self._counts = [self._counts[number] for number in numbers]
        self._group()

    def _group(self) -> None:
        """Group tensors with equal rates."""
        by_rates: dict[tuple[float, ...], list[int]] = {}
        for number, descent in enumerate(self._descents):
            by_rates.setdefault(tuple(descent.rates), []).append(number)
        self._groups = [
            (
                numbers,
                [self._descents[number].parameter for number in numbers],
                [self._moments[number][0] for number in numbers],
                [self._moments[number][1] for number in numbers],
                [self._counts[number] for number in numbers],
            )
            for numbers in by_rates.values()
        ]


@torch.no_grad()
def descend(
    descents: Sequence[Descent],
    gradients: Callable[[int], tuple[Tensor, Sequence[Tensor] | Tensor]],
    observe: Callable[[int], bool | None] | None = None,
    observe_after: Collection[int] = (),
) -> Tensor:
    """Run all steps of :class:`AdamW`.

    Parameters
    ----------
    descents : sequence of Descent
        Tensors, with equal numbers of steps.
    gradients : callable
        Function of the step that returns the losses, one per tensor, and their gradients at the current values.
    observe : callable or None, default=None
        Called after each number of steps in ``observe_after``; returning True stops the optimization.

    Returns
    -------
    Tensor of shape (steps done, tensors)
        Losses before each step.
    """
    optimizer, wanted = AdamW(descents), frozenset(observe_after)
    losses = torch.empty(len(descents[0].rates), len(descents), device=descents[0].parameter.device)
    for step in range(len(losses)):
        losses[step], slopes = gradients(step)
        optimizer.step(slopes)
        if observe is not None and step + 1 in wanted and observe(step + 1):
            return losses[: step + 1]
    return losses
