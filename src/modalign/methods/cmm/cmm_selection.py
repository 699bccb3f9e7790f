"""Selection of the number of steps and the fusion weight of CMM on held-out images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from modalign.core.progress import track
from modalign.linalg.similarity import unit
from modalign.methods.cmm.cmm_training import CMMRun, map_rows
from modalign.methods.contract.best_candidate import Best, Criterion
from modalign.methods.contract.selection import Merit

FIRST = 16  # steps before the first evaluation
CAREFUL = 45, 2.0
"""Steps and β without held-out images: little training, double weight for zero-shot."""


def moments(most: int) -> list[int]:
    """Numbers of steps to evaluate: 16, 23, 32, 45, … by factors of √2, and ``most``."""
    count = max(0, math.ceil(2 * math.log2(most / FIRST))) if most else 0
    return [round(FIRST * 2 ** (i / 2)) for i in range(count)] + [most]


@dataclass(frozen=True)
class Training:
    """Training run and the classes that it trains.

    Attributes
    ----------
    run : CMMRun
        Run that trains the texts of ``classes`` only.
    text : Tensor of shape (C, d)
        Unit class texts.
    classes : Tensor of shape (C',)
        Indices of the trained classes; the text of other classes is unchanged.
    """

    run: CMMRun
    text: Tensor
    classes: Tensor

    def prototypes(self) -> Tensor:
        """(C, d) unit rows of the learned T."""
        return self.text.index_copy(0, self.classes, unit(self.run.learner.text))


@dataclass(frozen=True)
class Trial:
    """Training run with held-out images.

    Attributes
    ----------
    training : Training
        A run and its classes.
    X : Tensor of shape (h, d)
        Unit vectors of the held-out images.
    """

    training: Training
    X: Tensor

    def own(self) -> Tensor:
        """(h, C) s_CMM of the held-out images, at the steps that are done."""
        return unit(map_rows(self.training.run.learner.weights, self.X)) @ self.training.prototypes().T

    def clip(self) -> Tensor:
        """(h, C) s_CLIP of the held-out images with the class texts of this training."""
        return self.X @ self.training.text.T


@dataclass(frozen=True)
class SelectedStep:
    """A candidate: ``steps``, 0 for no training at all, ``zero_shot_weight`` β, and ``scores``, s of the held-out
    images."""

    steps: int
    zero_shot_weight: float
    scores: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes
    ----------
    choice : SelectedStep
        The best candidate.
    step_curve : dict of str to list of float
        Lists of evaluated ``steps`` and, for each, the ``zero_shot_weight`` of minimal log-loss with its ``accuracy``
        and ``log_likelihood`` on the held-out images; empty if nothing was searched.
    fusion_curve : dict of str to list of float
        Lists of the ``zero_shot_weight`` values of the grid, and for each ``accuracy`` and ``log_likelihood`` after the
        chosen number of steps.
    """

    choice: SelectedStep
    step_curve: dict[str, list[float]] = field(default_factory=dict)
    fusion_curve: dict[str, list[float]] = field(default_factory=dict)


def search(
    trials: Sequence[Trial],
    y: Tensor,
    steps: Sequence[int],
    grid: Sequence[float],
    criterion: Criterion,
    *,
    patience: int,
    earliest: int,
    no_step: float | None,
) -> Found:
    """Train all trials in parallel, evaluate every β after the given numbers of steps, and stop without gain.

    The scores of a trial are computed once for all β. Cost: O(h d (d + C)) per evaluation, in addition to the training.

    Parameters
    ----------
    trials : sequence of Trial
        The runs, with their held-out images.
    y : Tensor of shape (h,)
        Labels of all held-out images, trial by trial.
    steps : sequence of int
        Numbers of steps after which to evaluate, increasing.
    grid : sequence of float
        Values of β, increasing.
    criterion : {"log-loss", "accuracy"}
        Criterion of :class:`~modalign.methods.contract.best_candidate.Best`.
    patience : int
        Evaluations without a gain after which the search stops.
    earliest : int
        Minimum number of steps before stopping.
    no_step : float or None
        β of the candidate without training, or None. Other candidates must improve significantly on it, see
        :meth:`~modalign.methods.contract.best_candidate.Best.start`; :data:`CAREFUL` must only not be worse.
    """
    clip, best = torch.cat([trial.clip() for trial in trials]), Best[SelectedStep](criterion, y)
    curves: dict[int, list[Merit]] = {}
    if no_step is not None:
        best.start(clip, SelectedStep(0, no_step, (1 + no_step) * clip))
        curves[0] = [best.merit] * len(grid)
    misses = 0
    for step in track(steps, "choosing CMM's steps", unit="steps"):
        for trial in trials:
            trial.training.run.advance(step)
        own = torch.cat([trial.own() for trial in trials])
        curves[step], better = [], False
        for fusion in grid:
            scores = own + fusion * clip
            better |= best.offer(scores, partial(SelectedStep, step, fusion, scores), careful=(step, fusion) == CAREFUL)
            curves[step].append(best.merit)
        misses = 0 if better else misses + 1
        if misses >= patience and step >= earliest:
            break
    tops = {step: max(zip(merits, grid, strict=True), key=lambda top: top[0][::-1]) for step, merits in curves.items()}
    by_step = _curve("steps", list(tops), [merit for merit, _ in tops.values()])
    return Found(
        best.choice,
        by_step | {"zero_shot_weight": [fusion for _, fusion in tops.values()]},
        _curve("zero_shot_weight", grid, curves[best.choice.steps]),
    )


def _curve(name: str, values: Sequence[float], merits: Sequence[Merit]) -> dict[str, list[float]]:
    return {
        name: list(values),
        "accuracy": [merit.accuracy for merit in merits],
        "log_likelihood": [merit.log_likelihood for merit in merits],
    }
