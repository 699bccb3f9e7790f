"""TaskRes: learned residuals of the class texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.parameters import NonNegative, Positive
from modalign.methods.contract.selection import share_correct
from modalign.methods.contract.stopping import StoppedMethod
from modalign.methods.contract.vectors import Problem


@dataclass(kw_only=True, eq=False, repr=False)
class TaskRes(StoppedMethod):
    r"""Classifier with class texts plus trained residuals.

    With unit images x, unit class texts :math:`t_k` and the residuals :math:`r_k`, which start at zero,

    .. math:: s_k(x) = s\, x^\top \frac{t_k + \alpha r_k}{\lVert t_k + \alpha r_k \rVert}, \qquad
              \min_r \operatorname{CE}\bigl(s(x), y\bigr)

    by AdamW with cosine decay and all labeled images in every step. Training starts exactly at zero-shot. The stopping
    step, which may be 0, is selected on ``validation``; without validation images it is the last. A class without
    labeled images is only repelled by images of other classes.

    Without text, class means replace it. The paper trains in batches; its "enhanced" base, text trained in advance, is
    not implemented.

    Compared with the published code (github.com/geekyutao/TaskRes, ``trainers/taskres.py``), not with the text of the
    paper: scores, start and loss are the same. There class texts keep their length, in proportion to which the
    residuals are smaller.

    Cost: O(n C d) per step.

    Parameters
    ----------
    scale : float, default=0.5
        α.
    learning_rate : float, default=0.002
        Initial learning rate of the cosine.
    weight_decay : float, default=0.0005
        Decoupled weight decay of the residuals.

    Attributes
    ----------
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    residuals_ : Tensor of shape (C, d)
        r.
    losses_ : Tensor
        Loss of every step.
    diagnosis_ : dict
        The ``stop``, what it was ``chosen_on``, ``moved`` (mean of 1 − cosine of a class vector with its text), and
        with validation images the accuracy there and that ``without_residuals``.

    References
    ----------
    Yu et al., Task residual for tuning vision-language models, 2023, arXiv:2211.10277.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.TaskRes(steps=5).fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "TaskRes"
    streams = True
    paper = "Yu et al., Task residual for tuning vision-language models, 2023, arXiv:2211.10277"
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("stop",)
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no residuals": {"stop": 0}}

    scale: Positive = 0.5
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 5e-4

    def _fit(self, problem: Problem) -> None:
        X, y, validation = self._training_data(problem)
        truth = F.one_hot(y, problem.n_classes).float()
        self.prototypes_ = problem.prototypes()
        self.residuals_ = torch.zeros_like(self.prototypes_)
        best = None
        if validation is not None and self.stop is None:
            best = Best[tuple[int, Tensor]](self.criterion, validation[1])

        def gradients(_: int) -> tuple[Tensor, list[Tensor]]:
            raw = self.prototypes_ + self.scale * self.residuals_
            vectors, lengths = unit(raw), torch.linalg.vector_norm(raw, dim=1, keepdim=True)
            likelihood = torch.log_softmax(self.logit_scale_ * (X @ vectors.T), dim=1)
            slope = (likelihood.exp() - truth).T @ X * (self.logit_scale_ / len(X))
            slope -= (slope * vectors).sum(dim=1, keepdim=True) * vectors  # through the scaling to unit length
            return -(likelihood * truth).sum() / len(X), [slope * (self.scale / lengths.clamp_min(1e-12))]

        def judge(step: int) -> None:
            assert best is not None
            assert validation is not None
            scores = self._logits(validation[0]) / self.logit_scale_
            best.offer(scores, lambda: (step, self.residuals_.clone()))

        if best is not None:
            judge(0)
        rates = cosine_rates(self.steps, self.learning_rate)[: self.stop]
        descent = [Descent(self.residuals_, rates, self.weight_decay)]
        evaluation_steps = () if best is None else self._evaluation_steps()
        self.losses_ = descend(descent, gradients, judge, evaluation_steps)[:, 0] if rates else torch.empty(0)
        self.stop_ = self._last_step()
        if best is not None:
            self.stop_, self.residuals_ = best.choice
        self._diagnose(validation, "nothing" if best is None else "validation")

    def _diagnose(self, validation: tuple[Tensor, Tensor] | None, chosen_on: str) -> None:
        cosines = (self._vectors() * self.prototypes_).sum(dim=1)
        self.diagnosis_ = {"stop": self.stop_, "chosen_on": chosen_on, "moved": 1 - cosines.mean().item()}
        if validation is not None:
            X, y = validation
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(self._logits(X), y),
                "validation_accuracy_without_residuals": share_correct(X @ self.prototypes_.T, y),
            }

    def _vectors(self) -> Tensor:
        """(C, d) unit class vectors."""
        return unit(self.prototypes_ + self.scale * self.residuals_)

    def _scores(self, X: Tensor) -> Tensor:
        return self._logits(unit(X))

    def _logits(self, X: Tensor) -> Tensor:
        """(n, C) scores of unit rows."""
        return self.logit_scale_ * (X @ self._vectors().to(X.device).T)
