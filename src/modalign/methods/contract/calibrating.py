"""The temperature of methods that hold no image out: from refits that were made without some of the labeled images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modalign.linalg.calibration import expected_temperature, fit_temperature, sharpened
from modalign.linalg.similarity import unit
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.selection import ENOUGH, choosing_parts, growth

if TYPE_CHECKING:
    from modalign.methods.contract.vectors import VectorMethod

SPREADS = 0.28
"""Temperature of cosines with classes that are one image each, where nothing can be held out, in standard deviations of
the cosines between these images. The best is 0.29 on validation images of Caltech101, 0.26 on Oxford Flowers and 0.46
on the digits with ``tiny``, mean of 4 draws each."""
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
    X, y = problem.labelled()
    scale = getattr(method, "logit_scale_", 100.0)
    if not len(y):
        return 1.0
    if problem.text is not None and not method.takes_labels:
        return expected_temperature(method._scores(X), y)
    parts = _enough(choosing_parts(X, y, None, getattr(method, "random_state_", 0)))
    if parts:
        scores = torch.cat([_refitted(method, problem, *part[:2])._scores(part[2]) for part in parts])
        truth = torch.cat([part[3] for part in parts])
        return 1 / sharpened(scores.double(), 1 / fit_temperature(scores, truth).value, growth(parts, y))
    return lone_labels_temperature(problem, scale)


def lone_labels_temperature(problem: Problem, scale: float) -> float:
    """The temperature of ``scale`` times cosines with classes that have one label each, none of which can be held out.

    That of the zero-shot scores of the labeled images, which no label had a part in; without text
    :func:`lone_temperature`.
    """
    X, y = problem.labelled()
    if problem.text is None:
        return scale * lone_temperature(X)
    return expected_temperature(scale * (unit(X) @ problem.prototypes().T), y)


def lone_temperature(X: Tensor) -> float:
    """The temperature of the cosines of images with classes that are one labeled image each, the (n, d) rows of ``X``.

    They say nothing about how much the images of one class differ. How much those of different classes do is the only
    measure there is; That of CLIP's own scale for a single row, or equal ones. Cost: O(n² d).
    """
    cosines = unit(X) @ unit(X).T
    between = cosines[~torch.eye(len(X), dtype=torch.bool, device=X.device)]
    spread = float(between.std(correction=0)) if len(between) else 0.0
    return SPREADS * spread if spread > 1e-6 else 0.01


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


__all__ = ["lone_labels_temperature", "lone_temperature", "own_temperature", "refits", "without_calibration"]
