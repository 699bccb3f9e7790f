"""Which moment of CMM's training, and which fusion weight, the validation images prefer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.cmm_training import Learner, map_rows
from modalign.methods.selection import ScaledLikelihood, accuracy


@dataclass(frozen=True)
class Choice:
    """A moment of training: ``parameters`` W_1…W_L and T, ``step`` and the ``fusion`` weight β to use with them."""

    step: int
    fusion: float
    parameters: tuple[Tensor, ...]


class Selection:
    """Judges a learner at some steps on validation images and remembers the best (step, β).

    The scores of a step are computed once; every β is an addition to them.

    Parameters
    ----------
    learner : the parameters in training.
    text : (C, d) frozen unit texts of s_CLIP.
    grid : fusion weights to choose from.
    validation : (n_v, d) vectors and (n_v,) labels, or None: then the end of training is taken, with the β of training
        unless the grid has a single one.
    criterion : what decides; the other breaks ties, then the earlier step and the smaller β.
    """

    def __init__(
        self,
        learner: Learner,
        text: Tensor,
        grid: list[float],
        validation: tuple[Tensor, Tensor] | None,
        criterion: Literal["log-loss", "accuracy"],
    ) -> None:
        self.learner, self.grid, self.criterion = learner, grid, criterion
        self.validation = None if validation is None else (unit(validation[0]), validation[1])
        self._clip = None if validation is None else self.validation[0] @ text.T
        self._likelihood = ScaledLikelihood()
        self._best: tuple[tuple[float, float], Choice] | None = None
        self._judged = -1

    def judge(self, step: int) -> None:
        """Compare the learner as it is now with the best so far."""
        X, y = self.validation
        own = unit(map_rows(self.learner.weights, X)) @ unit(self.learner.text).T
        for fusion in self.grid:
            scores = own + fusion * self._clip
            found = accuracy(scores, y), self._likelihood(scores, y)
            key = found if self.criterion == "accuracy" else found[::-1]
            if self._best is None or key > self._best[0]:
                self._best = key, self._choice(step, fusion)
        self._judged = step

    def finish(self, step: int) -> Choice:
        """The best choice after ``step`` steps, which are all."""
        if self.validation is None:
            return self._choice(step, self.grid[0] if len(self.grid) == 1 else self.learner.objective.fusion)
        if self._judged < step:
            self.judge(step)
        return self._best[1]

    def _choice(self, step: int, fusion: float) -> Choice:
        kept = (*self.learner.weights, self.learner.text)
        return Choice(step, fusion, tuple(part.clone() for part in kept))
