"""CLAP: a linear probe that starts at the class texts and is held near them, class by class."""

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
    r"""A linear probe of unit class weights, with a penalty toward the class texts whose weight depends on the class.

    With n labeled unit images, unit class texts :math:`t_k`, :math:`w_k` starting at :math:`t_k`, and the zero-shot
    softmax :math:`\hat y`,

    .. math::
        s_k(x) = s\, \frac{x^\top w_k}{\lVert w_k \rVert}, \qquad
        \min_w \frac1n \sum_i \operatorname{CE}\bigl(s(x_i), y_i\bigr)
            + \frac1C \sum_k \lambda_k \lVert w_k - t_k \rVert^2, \qquad
        \lambda_k = \frac{1}{n_k} \sum_{y_i = k} \hat y_{ik}

    A class that zero-shot answers well is held near its text, one that it misses may move. These λ are the first
    multipliers of an augmented Lagrangian, so that no validation images are needed. A class without a
    labeled image has λ = 1.

    Trained by AdamW with all labeled images in every step and a learning rate that falls along half a cosine. The
    paper trains by stochastic gradient descent on augmented views. Without text, class means take its place.

    Compared with the published code (github.com/jusiro/CLAP, ``trainers/adapters.py``), not with the text of the paper:
    scores, penalty and λ are the same. There class texts keep their length; the λ may also be updated in training, the
    penalty be one minus the cosine, and λ be scaled to a mean of 1, which is not here.

    Cost: O(n C d) a step.

    Parameters
    ----------
    penalty : factor of all λ; 0 is a plain probe that starts at zero-shot.
    weighting : ``"class"`` for λ as above, ``"constant"`` for the mean of them for all classes.
    steps : length of the training.
    learning_rate : where the cosine starts.
    logit_scale : s, inverse temperature; None is that of the encoder.
    random_state : not used, since nothing is drawn; accepted so that all methods are called alike.

    Attributes
    ----------
    weights_ : (C, d) w.
    prototypes_ : (C, d) unit class texts.
    penalties_ : (C,) λ as used.
    losses_ : loss of every step.
    diagnosis_ : the least, mean and greatest λ, ``moved`` (mean of 1 − cosine of a class weight with its text), and
        with validation images the accuracy there and that of zero-shot.

    References
    ----------
    Silva-Rodríguez et al., A closer look at the few-shot adaptation of large vision-language models, 2024,
    arXiv:2312.12730.
    """

    title = "CLAP"
    paper = (
        "Silva-Rodríguez et al., A closer look at the few-shot adaptation of large vision-language models, 2024, "
        "arXiv:2312.12730"
    )
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
        X, y = problem.labelled()
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
