"""Base class of methods that train with full batches and select the stopping step on validation images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.best_candidate import Criterion
from modalign.methods.contract.parameters import Count, Positive, Range, Seed, require_stop
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.selection import unit_held_out
from modalign.methods.contract.training_steps import checkpoints
from modalign.methods.contract.vectors import VectorMethod

EVALUATIONS = 20  # how many steps of a training are compared on validation images


class TrainingData(NamedTuple):
    """Labeled unit images (n, d), their classes (n,), and the same of the validation set or None."""

    X: Tensor
    y: Tensor
    validation: tuple[Tensor, Tensor] | None


@dataclass(kw_only=True, eq=False, repr=False)
class StoppedMethod(VectorMethod):
    """Base class of methods that train on all labeled images in every step and stop at the best step.

    Parameters
    ----------
    steps : int, default=200
        Optimizer steps.
    stop : int or None, default=None
        The step after which training ends, on the schedule of ``steps``; None is the best one on validation images, or
        the last.
    criterion : {"log-loss", "accuracy"}, default="log-loss"
        Criterion on the validation images; the other one breaks ties.
    logit_scale : float or None, default=None
        s, inverse temperature; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    stop_ : int
        As used.
    """

    steps: Count = 200
    stop: Annotated[int, Range(0)] | None = None
    criterion: Criterion = "log-loss"
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _training_data(self, problem: Problem) -> TrainingData:
        """Return training and validation images; raise if ``stop`` is after the last step."""
        require_stop(self.stop, self.steps)
        X, y = problem.labeled()
        return TrainingData(unit(X), y, unit_held_out(problem.validation))

    def _last_step(self) -> int:
        """The step that training ends at, if no earlier one is better."""
        return self.steps if self.stop is None else self.stop

    def _evaluation_steps(self) -> Collection[int]:
        """The steps after which the validation images are scored, without the start."""
        return checkpoints(self.steps, EVALUATIONS) if self.stop is None else (self.stop,)
