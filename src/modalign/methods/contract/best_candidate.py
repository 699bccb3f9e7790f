"""Selection of the best of several candidates on held-out images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Literal, TypeVar

from torch import Tensor

from modalign.linalg.student import student_quantile
from modalign.methods.contract.selection import Merit, ScaledLikelihood, share_correct

Criterion = Literal["log-loss", "accuracy"]
T = TypeVar("T")
SURE = 0.95  # confidence level of a gain


class Best(Generic[T]):
    """Keeps the candidate with the best score on held-out images; the first one among equals.

    Parameters
    ----------
    criterion : {"log-loss", "accuracy"}
        Criterion; the other one breaks ties. The log-loss is that at the best temperature of each candidate.
    y : Tensor of shape (n,)
        Labels of the held-out images.

    Attributes
    ----------
    choice : T
        The candidate with the best scores.
    empty : bool
        Whether nothing was accepted so far; there is no ``choice`` then.
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
        """Merit of the scores that were offered last."""
        scores, likelihood = self._last
        return Merit(share_correct(scores, self._y), likelihood)

    @property
    def standing(self) -> tuple[float, float]:
        """Merit of the choice, comparable with that of another object with the same images and criterion."""
        return self._key or (-math.inf, -math.inf)

    @property
    def empty(self) -> bool:
        return self._key is None

    @property
    def choice(self) -> T:
        assert self._choice is not None
        return self._choice

    def start(self, scores: Tensor, choice: T) -> None:
        """Offer the (n, C) ``scores`` without training as the first candidate, which others must improve significantly.

        Afterwards, a candidate with a lower accuracy is refused, and the log-loss is compared by the lower end of the
        one-sided 95 % interval of its gain over this one. On few images, the mean gain of the best of many candidates
        is mostly due to chance.
        """
        likelihood, merit = self._judge(scores), self.merit
        self._reference = merit, likelihood
        self._key = self._ordered(merit.accuracy, 0.0)
        self._choice = choice

    def offer(self, scores: Tensor, choice: Callable[[], T], *, careful: bool = False) -> bool:
        """Compare (n, C) ``scores`` of the size of cosines; ``choice`` is called for what is better than all before.

        A ``careful`` candidate also replaces the start if it is not worse.

        Returns
        -------
        bool
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
            value = gain.mean().item() - (
                student_quantile(SURE, n - 1) * gain.std().item() / math.sqrt(n) if n > 1 else math.inf
            )
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
        weights : sequence of float
            Increasing; of the same length in every call.
        scores, choice : callable
            Weight → what :meth:`offer` takes.
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
        for direction in (1, -1) if value(at) < 0 else (-1,):  # nothing is above 0; of equals the first is wanted
            while 0 <= at + direction < len(weights) and value(at + direction) >= value(at):
                at += direction
                if direction > 0 and value(at) == 0:
                    break
        self._at = at

    def _judge(self, scores: Tensor) -> Tensor:
        """(n,) log-likelihoods; stores the scores for ``merit``."""
        likelihood = self._likelihood.rows(scores, self._y)
        self._last = scores, likelihood.mean().item()
        return likelihood

    def _ordered(self, right: float, value: float) -> tuple[float, float]:
        return (right, value) if self._criterion == "accuracy" else (value, right)
