"""What the trained baselines share: AdamW, and a memory for what held-out images liked best."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from scipy.stats import t
from torch import Tensor
from torch.optim.adamw import adamw

from modalign.methods.contract.selection import Merit, ScaledLikelihood, share_correct

Criterion = Literal["log-loss", "accuracy"]
T = TypeVar("T")
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW
SURE = 0.95  # probability with which a gain shall be one


class Best(Generic[T]):
    """Remembers which of many candidates held-out images liked best; among equals the first.

    Parameters
    ----------
    criterion : what decides; the other breaks ties. The log-loss is that at the best temperature of each candidate.
    y : (n,) labels of the held-out images.

    Attributes
    ----------
    choice : what was offered with the best scores; None before the first offer.
    merit : how good the scores were that were offered last.
    """

    def __init__(self, criterion: Criterion, y: Tensor) -> None:
        self.choice: T | None = None
        self.merit: Merit | None = None
        self._criterion, self._y = criterion, y
        self._likelihood = ScaledLikelihood()
        self._key: tuple[float, float] | None = None
        self._reference: tuple[Merit, Tensor] | None = None

    def start(self, scores: Tensor, choice: T) -> None:
        """Take the (n, C) ``scores`` of not learning as the first candidate, which the others must surely improve on.

        From here on a candidate less accurate than this one is refused, and the log-loss is judged by the lower end of
        the one-sided 95 % interval of its gain over this one. On few images the mean gain of the best of many
        candidates is mostly luck.
        """
        likelihood = self._judge(scores)
        self._reference = self.merit, likelihood
        self._key = self._ordered(self.merit.accuracy, 0.0)
        self.choice = choice

    def offer(self, scores: Tensor, choice: Callable[[], T], *, careful: bool = False) -> bool:
        """Compare (n, C) ``scores`` of the size of cosines; ``choice`` is called for what is better than all before.

        A ``careful`` candidate also takes the place of the start where it is not worse than that.

        Returns
        -------
        Whether it was better.
        """
        likelihood, merit = self._judge(scores), self.merit
        value, allowed = merit.log_likelihood, True
        if self._reference is not None:
            (least, before), n = self._reference, len(likelihood)
            gain, allowed = likelihood - before, merit.accuracy >= least.accuracy
            value = gain.mean().item() - (t.ppf(SURE, n - 1) * gain.std().item() / math.sqrt(n) if n > 1 else math.inf)
            untouched = self._key == self._ordered(least.accuracy, 0.0)
            if careful and allowed and untouched and merit.log_likelihood >= least.log_likelihood:
                self.choice = choice()
        key = self._ordered(merit.accuracy, value)
        better = allowed and (self._key is None or key > self._key)
        if better:
            self._key, self.choice = key, choice()
        return better

    def _judge(self, scores: Tensor) -> Tensor:
        """(n,) log-likelihoods; sets ``merit``."""
        likelihood = self._likelihood.rows(scores, self._y)
        self.merit = Merit(share_correct(scores, self._y), likelihood.mean().item())
        return likelihood

    def _ordered(self, right: float, value: float) -> tuple[float, float]:
        return (right, value) if self._criterion == "accuracy" else (value, right)


def seeded(random_state: int | None) -> torch.Generator:
    """A generator on the CPU, so that one seed gives one draw on every device; None draws the seed."""
    seed = secrets.randbits(32) if random_state is None else int(random_state)
    return torch.Generator().manual_seed(seed)


def cosine_rates(steps: int, highest: float, *, warmup: int = 0, lowest: float = 0.0) -> list[float]:
    """The learning rate of every step: a line up over ``warmup`` steps, then half a cosine from highest to lowest."""
    rest = max(1, steps - warmup)
    line = [highest * (step + 1) / warmup for step in range(min(warmup, steps))]
    return line + [
        lowest + (highest - lowest) * (1 + math.cos(math.pi * step / rest)) / 2 for step in range(steps - len(line))
    ]


def checkpoints(steps: int, count: int) -> set[int]:
    """About ``count`` steps to look at, geometric from the first to the last: early on more changes in a step."""
    if steps < 1:
        return set()
    return {round(steps ** (i / max(1, count - 1))) for i in range(count)} | {steps}


@dataclass(frozen=True)
class Descent:
    """One tensor on its way down, changed in place: the learning rate of every step, and the decoupled decay."""

    parameter: Tensor
    rates: Sequence[float]
    weight_decay: float


@torch.no_grad()
def descend(
    descents: Sequence[Descent],
    gradients: Callable[[int], tuple[Tensor, Sequence[Tensor]]],
    observe: Callable[[int], bool | None] | None = None,
    observe_after: Collection[int] = (),
) -> Tensor:
    """AdamW on several tensors in step, which are candidates for one another or parts of a whole.

    Parameters
    ----------
    descents : all with as many steps.
    gradients : step → losses, one a tensor, and their gradients at the tensors as they are then.
    observe : called with the number of steps done, whenever that is in ``observe_after``; True ends the descent.

    Returns
    -------
    (steps done, tensors) losses, each before its step.
    """
    device = descents[0].parameter.device
    states = [
        ([d.parameter], *([torch.zeros_like(d.parameter)] for _ in range(2)), [torch.zeros((), device=device)])
        for d in descents
    ]
    losses = torch.empty(len(descents[0].rates), len(descents), device=device)
    wanted = frozenset(observe_after)
    for step in range(len(losses)):
        losses[step], slopes = gradients(step)
        for descent, (parameter, first, second, count), slope in zip(descents, states, slopes, strict=True):
            adamw(
                parameter, [slope], first, second, [], count,
                fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=descent.rates[step],
                weight_decay=descent.weight_decay, eps=EPSILON, maximize=False,
            )  # fmt: skip
        if observe is not None and step + 1 in wanted and observe(step + 1):
            return losses[: step + 1]
    return losses


def batch_order(n: int, batch_size: int, steps: int, generator: torch.Generator) -> Tensor:
    """(steps, batch_size) row indices: one random permutation of the n rows after the other, cut into batches."""
    wanted = steps * batch_size
    epochs = [torch.randperm(n, generator=generator) for _ in range(-(-wanted // n))]
    return torch.cat([torch.empty(0, dtype=torch.int64), *epochs])[:wanted].view(steps, batch_size)
