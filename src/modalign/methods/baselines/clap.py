"""CLAP: a linear probe initialized with the class texts, with a class-wise penalty toward them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Seed
from modalign.methods.contract.selection import held_out, share_correct
from modalign.methods.contract.vectors import Problem, VectorMethod


@dataclass(kw_only=True, eq=False, repr=False)
class CLAP(VectorMethod):
    r"""Linear probe with a penalty toward the class texts that is larger for classes that zero-shot predicts well.

    With n labeled unit images, unit class texts :math:`t_k`, :math:`w_k` starting at :math:`t_k`, and the zero-shot
    softmax :math:`\hat y`,

    .. math::
        s_k(x) = s\, \frac{x^\top w_k}{\lVert w_k \rVert}, \qquad
        \min_w \frac1n \sum_i \operatorname{CE}\bigl(s(x_i), y_i\bigr)
            + \frac1C \sum_k \lambda_k \lVert w_k - t_k \rVert^2, \qquad
        \lambda_k = \frac{1}{n_k} \sum_{y_i = k} \hat y_{ik}

    No validation images are needed. A class without a labeled image has λ = 1. Trained by AdamW along a half cosine.
    Without text, class means replace it. Cost: O(n C d) per step.

    Parameters
    ----------
    penalty : float, default=1.0
        Factor of all λ; 0 is a plain probe that starts at zero-shot.
    weighting : {"class", "constant"}, default="class"
        ``"class"`` for λ as above, ``"constant"`` for their mean for all classes.
    steps : int, default=300
        Optimizer steps.
    learning_rate : float, default=0.001
        Initial learning rate of the cosine.
    logit_scale : float or None, default=None
        s, inverse temperature; None is that of the encoder.
    random_state : int or None, default=None
        Ignored; present for API consistency.

    Attributes
    ----------
    weights_ : Tensor
        w.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    penalties_ : Tensor of shape (C,)
        λ as used.
    losses_ : Tensor
        Loss of every step.
    diagnosis_ : dict
        The least, mean and greatest λ, ``moved`` (mean of 1 − cosine of a class weight with its text), and with
        validation images the accuracy there and that of zero-shot.

    References
    ----------
    Silva-Rodríguez et al., A closer look at the few-shot adaptation of large vision-language models, 2024,
    arXiv:2312.12730.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.CLAP(steps=5).fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "CLAP"
    streams = True
    paper = (
        "Silva-Rodríguez et al., A closer look at the few-shot adaptation of large vision-language models, 2024, "
        "arXiv:2312.12730"
    )
    refits_to_calibrate: ClassVar[bool] = True
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "no penalty": {"penalty": 0.0},
        "one weight for all classes": {"weighting": "constant"},
    }

    penalty: NonNegative = 1.0
    weighting: Literal["class", "constant"] = "class"
    steps: Count = 300
    learning_rate: Positive = 1e-3
    logit_scale: Positive | None = None
    random_state: Seed = None

    def _fit(self, problem: Problem) -> None:
        X, y = problem.labeled()
        X, truth = unit(X), F.one_hot(y, problem.n_classes).float()
        self.prototypes_ = problem.prototypes()
        self.weights_ = self.prototypes_.clone()
        self.penalties_ = self._penalties(X, truth)

        def gradients(_: int) -> tuple[Tensor, list[Tensor]]:
            vectors, lengths = unit(self.weights_), torch.linalg.vector_norm(self.weights_, dim=1, keepdim=True)
            likelihood = torch.log_softmax(self.logit_scale_ * (X @ vectors.T), dim=1)
            slope = (likelihood.exp() - truth).T @ X * (self.logit_scale_ / len(X))
            slope -= (slope * vectors).sum(dim=1, keepdim=True) * vectors  # through the scaling to unit length
            away = self.weights_ - self.prototypes_
            loss = -(likelihood * truth).sum() / len(X) + self.penalties_ @ away.square().sum(dim=1) / len(away)
            pull = away * (2 * self.penalties_[:, None] / len(away))
            return loss, [slope / lengths.clamp_min(1e-12) + pull]

        descent = [Descent(self.weights_, cosine_rates(self.steps, self.learning_rate), 0.0)]
        self.losses_ = descend(descent, gradients)[:, 0]
        self.diagnosis_ = {
            "least_penalty": self.penalties_.min().item(),
            "mean_penalty": self.penalties_.mean().item(),
            "greatest_penalty": self.penalties_.max().item(),
            "moved": 1 - (unit(self.weights_) * self.prototypes_).sum(dim=1).mean().item(),
        }
        validation = held_out(problem.validation)
        if validation is not None:
            Xv, yv = validation
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(self._scores(Xv), yv),
                "validation_accuracy_zero_shot": share_correct(unit(Xv) @ self.prototypes_.T, yv),
            }

    def _scores(self, X: Tensor) -> Tensor:
        return self.logit_scale_ * (unit(X) @ unit(self.weights_).to(X.device).T)

    def _penalties(self, X: Tensor, truth: Tensor) -> Tensor:
        """(C,) λ times the factor."""
        right = (self.logit_scale_ * (X @ self.prototypes_.T)).softmax(dim=1) * truth
        counts = truth.sum(dim=0)
        weights = torch.where(counts > 0, right.sum(dim=0) / counts.clamp_min(1), 1.0)
        return self.penalty * (weights if self.weighting == "class" else weights.mean().expand_as(weights).clone())
