"""LP++: a linear probe whose class weights are combined with the class texts by learned multipliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.selection import share_correct
from modalign.methods.contract.stopping import StoppedMethod
from modalign.methods.contract.vectors import Problem


@dataclass(kw_only=True, eq=False, repr=False)
class LPPlusPlus(StoppedMethod):
    r"""Linear probe with class weights plus class texts times learned multipliers.

    With n labeled unit images :math:`f_i` (rows of F) and unit class texts :math:`t_k`,

    .. math:: s_k(x) = x^\top (w_k + \alpha_k t_k), \qquad
              \min_{w, \alpha} \; E = \frac1n \sum_i \operatorname{CE}\bigl(s(f_i), y_i\bigr)

    by block-coordinate descent: a gradient step in w, then one in α. The step sizes are the inverse Lipschitz constants
    of the gradients, so that no step increases E:

    .. math:: w \leftarrow w - \frac{1}{L_w} \nabla_w E, \quad L_w = \frac{1}{2n} \lambda_{\max}(F^\top F), \qquad
              \alpha_k \leftarrow \alpha_k - \frac{1}{L_k} \frac{\partial E}{\partial \alpha_k}, \quad
              L_k = \frac{1}{2n} \sum_i (f_i^\top t_k)^2

    w starts at zero and α at the logit scale, which is exactly zero-shot. Without text, class means replace it.
    Cost: O(n C d) per step.

    Parameters
    ----------
    steps : int, default=300
        Number of updates of both blocks.
    stop : int or None, default=None
        Step after which training ends; None is the best one on validation images, or the last.
    logit_scale : float or None, default=None
        Initial α; None is the logit scale of the encoder.

    Attributes
    ----------
    weights_ : Tensor
        w.
    multipliers_ : Tensor of shape (C,)
        α.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    stop_ : int
        Values used.
    losses_ : Tensor
        E before every step.
    diagnosis_ : dict
        The ``stop``, what it was ``chosen_on``, the least and the greatest multiplier, and with validation images the
        accuracy there, with the text switched off and of zero-shot.

    References
    ----------
    Huang et al., LP++: a surprisingly strong linear probe for few-shot CLIP, 2024, arXiv:2404.02285.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.LPPlusPlus().fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "LP++"
    streams = True
    paper = "Huang et al., LP++: a surprisingly strong linear probe for few-shot CLIP, 2024, arXiv:2404.02285"
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("stop",)
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no training": {"stop": 0}}

    steps: Count = 300

    def _fit(self, problem: Problem) -> None:
        X, y, validation = self._training_data(problem)
        self.prototypes_ = problem.prototypes()
        self.weights_ = torch.zeros_like(self.prototypes_)
        self.multipliers_ = self.prototypes_.new_full((problem.n_classes,), self.logit_scale_)
        chosen_on = "nothing"
        self.stop_ = self._last_step()
        if validation is None or self.stop is not None:
            self.losses_ = self._descend(X, y, self.stop_)
        else:
            best = Best[tuple[int, Tensor, Tensor]](self.criterion, validation[1])
            self.losses_ = self._descend(X, y, self.steps, best, validation[0])
            self.stop_, self.weights_, self.multipliers_ = best.choice
            chosen_on = "validation"
        self.diagnosis_ = {
            "stop": self.stop_,
            "chosen_on": chosen_on,
            "least_multiplier": self.multipliers_.min().item(),
            "greatest_multiplier": self.multipliers_.max().item(),
        }
        if validation is not None:
            Xv, yv = validation
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(self._logits(Xv), yv),
                "validation_accuracy_without_text": share_correct(Xv @ self.weights_.T, yv),
                "validation_accuracy_zero_shot": share_correct(Xv @ self.prototypes_.T, yv),
            }

    def _scores(self, X: Tensor) -> Tensor:
        return self._logits(unit(X))

    def _logits(self, X: Tensor) -> Tensor:
        """(n, C) scores of unit rows."""
        weights = self.weights_ + self.multipliers_[:, None] * self.prototypes_
        return X @ weights.to(X.device).T

    def _descend(
        self,
        X: Tensor,
        y: Tensor,
        steps: int,
        best: Best[tuple[int, Tensor, Tensor]] | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """Update weights and multipliers in place; the losses. ``best`` is offered some steps, judged on ``held``."""
        truth, n = F.one_hot(y, len(self.prototypes_)).to(X.dtype), len(X)
        similarity = X @ self.prototypes_.T
        rate = 2 * n / torch.linalg.matrix_norm(X, ord=2).square().clamp_min(1e-12)
        rates = 2 * n / similarity.square().sum(dim=0).clamp_min(1e-6 * n)
        evaluation_steps = () if best is None else self._evaluation_steps()

        def likelihood() -> Tensor:
            return torch.log_softmax(X @ self.weights_.T + self.multipliers_ * similarity, dim=1)

        def judge(step: int) -> None:
            assert best is not None
            assert held is not None
            choice = (step, self.weights_.clone(), self.multipliers_.clone())
            best.offer(self._logits(held) / self.logit_scale_, lambda: choice)

        if best is not None:
            judge(0)
        losses = torch.empty(steps, device=X.device)
        for step in range(steps):
            now = likelihood()
            losses[step] = -(now * truth).sum() / n
            self.weights_ -= rate * ((now.exp() - truth).T @ X) / n
            self.multipliers_ -= rates * ((likelihood().exp() - truth) * similarity).sum(dim=0) / n
            if step + 1 in evaluation_steps:
                judge(step + 1)
        return losses
