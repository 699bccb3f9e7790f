"""The temperature of methods that hold no image out: from refits that were made without some of the labeled images."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modalign.core.labels import UNLABELED
from modalign.linalg.calibration import expected_temperature, fit_temperature, sharpened
from modalign.linalg.inputs import single
from modalign.linalg.similarity import unit
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.selection import ENOUGH, choosing_parts, growth

if TYPE_CHECKING:
    from modalign.methods.contract.vectors import VectorMethod

SPREADS = 0.28
"""Temperature of cosines with classes that are one image each, in standard deviations of the cosines between these
images: the best is 0.30 on validation images of Caltech101, 0.26 on Oxford Flowers and 0.49 on the digits with
``tiny``, mean of 4 draws each."""
MANY = 2**16  # labeled images from which a temperature is known well enough; more would be copied from a map for it
_WANTED: ContextVar[bool] = ContextVar("calibration wanted", default=True)


@contextmanager
def without_calibration() -> Iterator[None]:
    """Fits inside leave their temperature at 1 where it would cost refits: the caller fits one of its own."""
    token = _WANTED.set(False)
    try:
        yield
    finally:
        _WANTED.reset(token)


def refits(method: VectorMethod, problem: Problem) -> bool:
    """Whether fitting ``method`` to ``problem`` includes refits for its temperature."""
    return method.refits_to_calibrate and problem.validation is None and _WANTED.get()


def own_temperature(method: VectorMethod, problem: Problem) -> float:
    r"""The temperature of a fitted method that had no validation images.

    With up to five folds of the labeled images, as many as hold out 250, the method is fitted to the others with the
    same hyper-parameters and scores the fold; the temperature of least log-loss of all these scores is sharpened for
    the images that the final model has more. Where no image can be held out, it is
    :func:`lone_labels_temperature`.

    Cost: one to five fits.
    """
    known = (problem.y != UNLABELED).nonzero()[:, 0]
    if not len(known):
        return 1.0
    if problem.text is not None and not method.takes_labels:
        few = known[:: max(1, math.ceil(len(known) / MANY))]
        return expected_temperature(method._scores(single(problem.X[few])), problem.y[few])
    X, y = problem.labeled()
    parts = _enough(choosing_parts(X, y, None, getattr(method, "random_state_", 0)))
    if parts:
        scores = torch.cat([_refitted(method, problem, *part[:2])._scores(part[2]) for part in parts])
        truth = torch.cat([part[3] for part in parts])
        return 1 / sharpened(scores.double(), 1 / fit_temperature(scores, truth).value, growth(parts, y))
    if not method.takes_text:
        problem = replace(problem, text=None)
    return lone_labels_temperature(problem, method._scores(X), getattr(method, "logit_scale_", 1.0))


def lone_labels_temperature(problem: Problem, scores: Tensor, logit_scale: float) -> float:
    r"""The temperature of a model of classes with one label each, none of which can be held out.

    With text that of the zero-shot scores of the labeled images, in which no label had a part. Without, from what it
    would be for cosines with the labeled images themselves, where the cosines :math:`c_{ij}` of different images tell
    how different classes are, though nothing tells how different the images of one class are:

    .. math:: T = \lambda\, \bar m\,
        \frac{\operatorname{std}_{i \ne j} c_{ij}}{1 - \operatorname{mean}_{i \ne j} c_{ij}}

    with the mean margin :math:`\bar m` of the scores of the labeled images, which for cosines is the denominator.

    Parameters
    ----------
    problem : Problem
        What the model was fitted to.
    scores : Tensor of shape (n, C)
        Those of the n labeled images.
    logit_scale : float
        Of the zero-shot scores.

    Returns
    -------
    float
        T; 1 where the images are all alike. Cost O(n² d).
    """
    X, y = problem.labeled()
    if problem.text is not None:
        return expected_temperature(logit_scale * (unit(X) @ problem.prototypes().T), y)
    cosines = unit(X) @ unit(X).T
    between = cosines[~torch.eye(len(X), dtype=torch.bool, device=X.device)]
    if not len(between) or float(between.std(correction=0)) < 1e-6:
        return 1.0
    return SPREADS * mean_margin(scores, y) * float(between.std(correction=0) / (1 - between.mean()))


def mean_margin(scores: Tensor, y: Tensor) -> float:
    """How far the (n, C) scores of the right class are above the mean of the others, mean over the images."""
    right = scores.gather(1, y[:, None])
    return float((right - (scores.sum(dim=1, keepdim=True) - right) / (scores.shape[1] - 1)).mean())


def _enough(parts: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The first parts that hold out :data:`ENOUGH` images together, or all."""
    held = 0
    for number, part in enumerate(parts, 1):
        held += len(part[3])
        if held >= ENOUGH:
            return parts[:number]
    return parts


def _refitted(method: VectorMethod, problem: Problem, X: Tensor, y: Tensor) -> VectorMethod:
    """The method with the hyper-parameters that it has, fitted to some of the labeled images of its problem."""
    other = copy.copy(method)
    for name, value in method.chosen().items():
        setattr(other, name, value)
    other._fit(replace(problem, X=X, y=y, clip_features=None, parts=None, ids=None))
    return other


__all__ = ["lone_labels_temperature", "mean_margin", "own_temperature", "refits", "without_calibration"]
