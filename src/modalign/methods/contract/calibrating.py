"""Temperature of methods without held-out images, from refits without some of the labeled images."""

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
MANY = 2**16  # number of held-out labeled images that is sufficient for a temperature
_WANTED: ContextVar[bool] = ContextVar("calibration wanted", default=True)


@contextmanager
def without_calibration() -> Iterator[None]:
    """Context in which fits leave their temperature at 1 if it would need refits, since the caller fits its own."""
    token = _WANTED.set(False)
    try:
        yield
    finally:
        _WANTED.reset(token)


def refits(method: VectorMethod, problem: Problem) -> bool:
    """Return whether fitting ``method`` to ``problem`` includes refits for its temperature."""
    return method.refits_to_calibrate and problem.validation is None and _WANTED.get()


def own_temperature(method: VectorMethod, problem: Problem) -> float:
    r"""The temperature of a fitted method that had no validation images.

    Up to five folds of the labeled images are used, until 250 images were held out. For each fold, the method is fitted
    to the others with the same hyper-parameters and scores the fold. The temperature with the lowest log-loss of all
    scores is corrected for the larger number of labels of the final model. If no image can be held out, it is
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
        models = _refitted(method, problem, parts)
        scores = torch.cat([model._scores(part[2]) for model, part in zip(models, parts, strict=True)])
        truth = torch.cat([part[3] for part in parts])
        return 1 / sharpened(scores.double(), 1 / fit_temperature(scores, truth), growth(parts, y))
    if not method.takes_text:
        problem = replace(problem, text=None)
    return lone_labels_temperature(problem, method._scores(X), getattr(method, "logit_scale_", 1.0))


def lone_labels_temperature(problem: Problem, scores: Tensor, logit_scale: float) -> float:
    r"""The temperature of a model of classes with one label each, none of which can be held out.

    With text, it is that of the zero-shot scores of the labeled images, which do not depend on labels. Without text, it
    is derived from the cosines :math:`c_{ij}` of different labeled images, which measure the differences between
    classes; the variation within a class is unknown:

    .. math:: T = \lambda\, \bar m\,
        \frac{\operatorname{std}_{i \ne j} c_{ij}}{1 - \operatorname{mean}_{i \ne j} c_{ij}}

    with the mean margin :math:`\bar m` of the scores of the labeled images, which for cosines is the denominator.

    Parameters
    ----------
    problem : Problem
        The problem that the model was fitted to.
    scores : Tensor of shape (n, C)
        Scores of the n labeled images.
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
    """Return the mean difference of the (n, C) scores between the true class and the mean of the others."""
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


def _refitted(
    method: VectorMethod, problem: Problem, parts: list[tuple[Tensor, Tensor, Tensor, Tensor]]
) -> list[VectorMethod]:
    """The method with the hyper-parameters that it has, fitted to the labeled images of each part."""
    other = copy.copy(method)
    for name, value in method.chosen().items():
        setattr(other, name, value)
    models = [copy.copy(other) for _ in parts]
    smaller = [replace(problem, X=X, y=y, clip_features=None, parts=None, ids=None) for X, y, _, _ in parts]
    method._refit(models, smaller)
    return models


__all__ = ["lone_labels_temperature", "mean_margin", "own_temperature", "refits", "without_calibration"]
