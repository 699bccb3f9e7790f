"""What the trained baselines share: AdamW, and a memory for what held-out images liked best."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Literal, TypeVar

import torch
from scipy.stats import t
from torch import Tensor
from torch.optim.adamw import adamw

from modalign.methods.contract.selection import Merit, ScaledLikelihood, share_correct

Criterion = Literal["log-loss", "accuracy"]
T = TypeVar("T")
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW
BLOCK = 64  # steps whose batches are gathered at once
SURE = 0.95  # probability with which a gain shall be one


class Best(Generic[T]):
    """Remembers which of many candidates held-out images liked best; among equals the first.

    Parameters
    ----------
    criterion : what decides; the other breaks ties. The log-loss is that at the best temperature of each candidate.
    y : (n,) labels of the held-out images.

    Attributes
    ----------
    choice : what was offered with the best scores.
    empty : whether nothing was accepted so far; there is no ``choice`` then.
    """

    _last: tuple[Tensor, float]

    def __init__(self, criterion: Criterion, y: Tensor) -> None:
        self._choice: T | None = None
        self._criterion, self._y = criterion, y
        self._at: int | None = None
        self._likelihood = ScaledLikelihood()
        self._key: tuple[float, float] | None = None
        self._reference: tuple[Merit, Tensor] | None = None

    @property
    def merit(self) -> Merit:
        """How good the scores were that were offered last."""
        scores, likelihood = self._last
        return Merit(share_correct(scores, self._y), likelihood)

    @property
    def standing(self) -> tuple[float, float]:
        """How good the choice is, to be compared with another memory of the same images and criterion."""
        return self._key or (-math.inf, -math.inf)

    @property
    def empty(self) -> bool:
        return self._key is None

    @property
    def choice(self) -> T:
        assert self._choice is not None
        return self._choice

    def start(self, scores: Tensor, choice: T) -> None:
        """Take the (n, C) ``scores`` of not learning as the first candidate, which the others must surely improve on.

        From here on a candidate less accurate than this one is refused, and the log-loss is judged by the lower end of
        the one-sided 95 % interval of its gain over this one. On few images the mean gain of the best of many
        candidates is mostly luck.
        """
        likelihood, merit = self._judge(scores), self.merit
        self._reference = merit, likelihood
        self._key = self._ordered(merit.accuracy, 0.0)
        self._choice = choice

    def offer(self, scores: Tensor, choice: Callable[[], T], *, careful: bool = False) -> bool:
        """Compare (n, C) ``scores`` of the size of cosines; ``choice`` is called for what is better than all before.

        A ``careful`` candidate also takes the place of the start where it is not worse than that.

        Returns
        -------
        Whether it was better.
        """
        likelihood = self._judge(scores)
        if self._reference is None and self._criterion == "log-loss" and self._key and self._last[1] < self._key[0]:
            return False
        merit = self.merit
        value, allowed = merit.log_likelihood, True
        if self._reference is not None:
            (least, before), n = self._reference, len(likelihood)
            gain, allowed = likelihood - before, merit.accuracy >= least.accuracy
            value = gain.mean().item() - (t.ppf(SURE, n - 1) * gain.std().item() / math.sqrt(n) if n > 1 else math.inf)
            untouched = self._key == self._ordered(least.accuracy, 0.0)
            if careful and allowed and untouched and merit.log_likelihood >= least.log_likelihood:
                self._choice = choice()
        key = self._ordered(merit.accuracy, value)
        better = allowed and (self._key is None or key > self._key)
        if better:
            self._key, self._choice = key, choice()
        return better

    def offer_value(self, scores: Tensor, choice: T) -> bool:
        """:meth:`offer` of a choice that is there already."""
        return self.offer(scores, lambda: choice)

    def climb(self, weights: Sequence[float], scores: Callable[[float], Tensor], choice: Callable[[float], T]) -> None:
        """Offer scores a + w b, or (1 − w) a + w b, for all weights w ≥ 0, or by log-loss as many as it takes.

        The log-loss is convex in the factors of a and b. So the pairs of factors at which it is below a bound are a
        convex set, and the w that reach the bound at some temperature are an interval: climbing leads to the best w
        from anywhere. It starts where the last climb ended.

        Parameters
        ----------
        weights : increasing; of the same length in every call.
        scores, choice : weight → what :meth:`offer` takes.
        """
        known: dict[int, float] = {}

        def value(at: int) -> float:
            if at not in known:
                self.offer(scores(weights[at]), partial(choice, weights[at]))
                known[at] = self._last[1]
            return known[at]

        if self._criterion == "accuracy":
            for at in range(len(weights)):
                value(at)
            return
        at = len(weights) // 2 if self._at is None else self._at
        value(at)  # of a single weight
        for direction in (1, -1):
            while 0 <= at + direction < len(weights) and value(at + direction) >= value(at):
                at += direction
        self._at = at

    def _judge(self, scores: Tensor) -> Tensor:
        """(n,) log-likelihoods, with the scores remembered for ``merit``."""
        likelihood = self._likelihood.rows(scores, self._y)
        self._last = scores, likelihood.mean().item()
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


class AdamW:
    """AdamW on several tensors side by side, which are candidates for one another or parts of a whole.

    Tensors that share their learning rates take one call together: for small ones a call costs more than its work.

    Parameters
    ----------
    descents : the tensors, changed in place, all with as many steps.

    Attributes
    ----------
    steps : the number of steps done.
    """

    def __init__(self, descents: Sequence[Descent]) -> None:
        self.steps = 0
        self._descents = list(descents)
        self._moments = [[torch.zeros_like(d.parameter) for _ in range(2)] for d in descents]
        self._counts = [torch.zeros((), device=d.parameter.device) for d in descents]
        self._group()

    def step(self, slopes: Sequence[Tensor] | Tensor) -> None:
        """One step against the gradients ``slopes``, one per tensor."""
        for numbers, parameters, first, second, counts in self._groups:
            rate = self._descents[numbers[0]].rates[self.steps]
            for number, parameter in zip(numbers, parameters, strict=True):
                if decay := self._descents[number].weight_decay:
                    parameter.mul_(1 - rate * decay)
            adamw(
                parameters, [slopes[number] for number in numbers], first, second, [], counts,
                fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate,
                weight_decay=0.0, eps=EPSILON, maximize=False,
            )  # fmt: skip
        self.steps += 1

    def keep(self, numbers: Sequence[int], parameters: Sequence[Tensor]) -> None:
        """Go on with some of the tensors alone, whose values are now in ``parameters``."""
        self._descents = [
            replace(self._descents[number], parameter=parameter)
            for number, parameter in zip(numbers, parameters, strict=True)
        ]
        self._moments = [self._moments[number] for number in numbers]
        self._counts = [self._counts[number] for number in numbers]
        self._group()

    def _group(self) -> None:
        """The tensors with equal rates: their numbers, and what a call needs of them."""
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
    """All steps of :class:`AdamW`.

    Parameters
    ----------
    descents : all with as many steps.
    gradients : step → losses, one a tensor, and their gradients at the tensors as they are then.
    observe : called with the number of steps done, whenever that is in ``observe_after``; True ends the descent.

    Returns
    -------
    (steps done, tensors) losses, each before its step.
    """
    optimizer, wanted = AdamW(descents), frozenset(observe_after)
    losses = torch.empty(len(descents[0].rates), len(descents), device=descents[0].parameter.device)
    for step in range(len(losses)):
        losses[step], slopes = gradients(step)
        optimizer.step(slopes)
        if observe is not None and step + 1 in wanted and observe(step + 1):
            return losses[: step + 1]
    return losses


def batch_order(n: int, batch_size: int, steps: int, generator: torch.Generator) -> Tensor:
    """(steps, batch_size) row indices: one random permutation of the n rows after the other, cut into batches."""
    wanted = steps * batch_size
    epochs = [torch.randperm(n, generator=generator) for _ in range(-(-wanted // n))]
    return torch.cat([torch.empty(0, dtype=torch.int64), *epochs])[:wanted].view(steps, batch_size)
