"""LP++: a linear probe whose class weights are blended with the class texts by learned multipliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.similarity import unit
from modalign.methods.contract.descent import Best
from modalign.methods.contract.parameters import Count
from modalign.methods.contract.selection import share_correct
from modalign.methods.contract.stopping import StoppedMethod
from modalign.methods.contract.vectors import Problem


@dataclass(kw_only=True, eq=False, repr=False)
class LPPlusPlus(StoppedMethod):
    r"""Class weights are learned vectors plus the class texts times learned multipliers, one per class.

    With n labeled unit images :math:`f_i` (rows of F) and unit class texts :math:`t_k`,

    .. math:: s_k(x) = x^\top (w_k + \alpha_k t_k), \qquad
              \min_{w, \alpha} \; E = \frac1n \sum_i \operatorname{CE}\bigl(s(f_i), y_i\bigr)

    by block-coordinate descent: a gradient step in w, then one in α, with the step sizes of the Lipschitz constants of
    the two gradients, so that nothing has to be tuned and no step raises E. The Hessian of the cross-entropy in the
    logits is at most ½ I, hence

    .. math:: w \leftarrow w - \frac{1}{L_w} \nabla_w E, \quad L_w = \frac{1}{2n} \lambda_{\max}(F^\top F), \qquad
              \alpha_k \leftarrow \alpha_k - \frac{1}{L_k} \frac{\partial E}{\partial \alpha_k}, \quad
              L_k = \frac{1}{2n} \sum_i (f_i^\top t_k)^2

    Here w starts at zero and α at the logit scale, which is zero-shot exactly. The step to stop at, 0 included, is
    chosen on ``validation``; without validation images it is the last. A class without a labeled image is only pushed
    away from the images of others. Without text, class means take its place.

    Compared with the published code (github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline,
    ``methods/linear_probe_p2.py``), not with the text of the paper: scores and loss are the same, but for a bias of
    each class there. There w starts at the class means and α at a mean over the classes of what their images have in
    common with their texts; w takes steps twice as long with a momentum of 0.9, and α one step for ten of w, of the
    length that suits the class with the largest L.

    Cost: O(n C d) a step.

    Parameters
    ----------
    steps : how often both blocks are updated.
    stop : the step after which training ends; None is the best one on validation images, or the last.
    logit_scale : where α starts; None is that of the encoder.

    Attributes
    ----------
    weights_ : (C, d) w.
    multipliers_ : (C,) α.
    prototypes_ : (C, d) unit class texts.
    stop_ : as used.
    losses_ : E before every step.
    diagnosis_ : the ``stop``, what it was ``chosen_on``, the least and the greatest multiplier, and with validation
        images the accuracy there, with the text switched off and of zero-shot.

    References
    ----------
    Huang et al., LP++: a surprisingly strong linear probe for few-shot CLIP, 2024, arXiv:2404.02285.
    """

    title = "LP++"
    paper = "Huang et al., LP++: a surprisingly strong linear probe for few-shot CLIP, 2024, arXiv:2404.02285"
    choices: ClassVar[tuple[str, ...]] = ("stop",)
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no training": {"stop": 0}}

    steps: Count = 300

    def _fit(self, problem: Problem) -> None:
        X, y, validation = self._lessons(problem)
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
        looks = () if best is None else self._looks()

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
            if step + 1 in looks:
                judge(step + 1)
        return losses
