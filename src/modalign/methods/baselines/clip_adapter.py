"""CLIP-Adapter: a bottleneck network on the image features with a residual connection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.linalg.similarity import unit
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.parameters import Count, Fraction, NonNegative, Positive
from modalign.methods.contract.selection import share_correct
from modalign.methods.contract.stopping import StoppedMethod
from modalign.methods.contract.training_steps import seeded
from modalign.methods.contract.vectors import Problem

RATIOS, UNCHOSEN = (0.2, 0.4, 0.6, 0.8), 0.2
ROWS = 2**12  # images times ratios that are trained side by side; more would save no time and take memory

Layers = Sequence[Tensor]  # (..., d, h) and (..., h, d), one pair per ratio


@dataclass(kw_only=True, eq=False, repr=False)
class CLIPAdapter(StoppedMethod):
    r"""Two-layer bottleneck on the image features, added to them with a residual ratio.

    With unit image x, unit class texts :math:`t_k` and :math:`W_1 \in \mathbb{R}^{d \times d/4}`,
    :math:`W_2 \in \mathbb{R}^{d/4 \times d}`,

    .. math:: x' = \beta \operatorname{ReLU}\bigl(\operatorname{ReLU}(x^\top W_1)\, W_2\bigr) + (1 - \beta)\, x,
              \qquad s_k(x) = s\, \frac{x'^\top t_k}{\lVert x' \rVert}

    trained by AdamW with cosine decay on cross-entropy, with all labeled images in every step. The residual ratio β
    (0.2, 0.4, 0.6 or 0.8) and the stopping step are selected on ``validation``. Without validation images, β = 0.2 and
    all steps are run. Step 0 is zero-shot, without the network.

    Without text, class means replace it. The paper trains in small batches; its text adapter is not implemented.

    Compared with the published code (github.com/gaopengcuhk/CLIP-Adapter, ``clip_adapter.py``), not with the text of
    the paper: layers without biases, both ReLUs, the mixture and β = 0.2 are the same. There the image vectors keep
    their length, which changes x' by that factor alone.

    Cost: O(n d (d / 2 + C)) per step, four trainings to select β.

    Parameters
    ----------
    ratio : float or "auto", default="auto"
        β; ``"auto"`` selects it on validation images.
    reduction : int, default=4
        Ratio of d to the width of the bottleneck.
    learning_rate : float, default=0.001
        Initial learning rate of the cosine.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    random_state : int or None, default=None
        Seed of the initial weights.

    Attributes
    ----------
    down_ : Tensor of shape (d, h)
        W₁.
    up_ : Tensor of shape (h, d)
        W₂.
    prototypes_ : Tensor of shape (C, d)
        Unit class texts.
    ratio_, stop_ : float
        Values used.
    diagnosis_ : dict
        These, what they were ``chosen_on``, and with validation images the accuracy there and that ``without_adapter``.

    References
    ----------
    Gao et al., CLIP-Adapter: better vision-language models with feature adapters, 2021, arXiv:2110.04544.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.testing import few_shot_problem
    >>> X, y, Xv, yv, Xt, yt, T = few_shot_problem()
    >>> method = ma.CLIPAdapter(steps=5, random_state=0).fit(X, y, text=T)
    >>> method.predict(T)
    array([0, 1, 2, 3, 4])
    """

    title = "CLIP-Adapter"
    streams = True
    paper = "Gao et al., CLIP-Adapter: better vision-language models with feature adapters, 2021, arXiv:2110.04544"
    refits_to_calibrate: ClassVar[bool] = True
    choices: ClassVar[tuple[str, ...]] = ("ratio", "stop")
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"no adapter": {"stop": 0}}

    ratio: Fraction | Literal["auto"] = "auto"
    reduction: Count = 4
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.01

    def _fit(self, problem: Problem) -> None:
        X, y, validation = self._training_data(problem)
        self.prototypes_, start = problem.prototypes(), self._start(X)
        if validation is not None and (self.ratio == "auto" or self.stop is None):
            chosen_on = "validation"
            best = Best[tuple[float, int, list[Tensor]]](self.criterion, validation[1])
            ratios, at_once = RATIOS if self.ratio == "auto" else (float(self.ratio),), max(1, ROWS // len(X))
            for first in range(0, len(ratios), at_once):
                self._train(X, y, start, ratios[first : first + at_once], best, validation[0])
            self.ratio_, self.stop_, layers = best.choice
        else:
            chosen_on = "nothing"
            self.ratio_ = UNCHOSEN if self.ratio == "auto" else float(self.ratio)
            self.stop_ = self._last_step()
            layers = [layer[0] for layer in self._train(X, y, start, (self.ratio_,))]
        self.down_, self.up_ = layers
        self.diagnosis_ = {
            "ratio": self.ratio_,
            "stop": self.stop_,
            "chosen_on": chosen_on,
        }
        if validation is not None:
            self.diagnosis_ |= {
                "validation_accuracy": share_correct(self._adapted(validation[0]), validation[1]),
                "validation_accuracy_without_adapter": share_correct(validation[0] @ self.prototypes_.T, validation[1]),
            }

    def _scores(self, X: Tensor) -> Tensor:
        return self._adapted(unit(X))

    def _adapted(self, X: Tensor) -> Tensor:
        """(n, C) scores of unit rows by the learned layers."""
        layers = self.down_.to(X.device), self.up_.to(X.device)
        return self._logits(X, layers, self.ratio_ if self.stop_ else 0.0)

    def _logits(self, X: Tensor, layers: Layers, ratio: float | Tensor) -> Tensor:
        """(..., n, C) scores of unit rows; with ratio 0 those of zero-shot."""
        adapted = F.relu(F.relu(X @ layers[0]) @ layers[1])
        return self.logit_scale_ * (unit(torch.lerp(X, adapted, ratio)) @ self.prototypes_.to(X).T)

    def _start(self, X: Tensor) -> list[Tensor]:
        """Weights drawn uniformly within 1 / √(inputs), as in torch's linear layers."""
        generator, d = seeded(self.random_state_), X.shape[1]
        width = max(1, d // self.reduction)
        shapes = (d, width), (width, d)
        return [((2 * torch.rand(s, generator=generator) - 1) / math.sqrt(s[0])).to(X.device) for s in shapes]

    def _train(
        self,
        X: Tensor,
        y: Tensor,
        start: Layers,
        ratios: Sequence[float],
        best: Best[tuple[float, int, list[Tensor]]] | None = None,
        held: Tensor | None = None,
    ) -> list[Tensor]:
        """The layers of every ratio at the end; ``best`` is offered those of some steps, judged on ``held``.

        The ratios have nothing in common: the gradient of the sum of their losses is that of each loss.
        """
        layers = [layer.repeat(len(ratios), 1, 1) for layer in start]
        labels, shares = y.repeat(len(ratios)), X.new_tensor(ratios)[:, None, None]

        def gradients(_: int) -> tuple[Tensor, list[Tensor]]:
            leaves = [layer.detach().requires_grad_() for layer in layers]
            with torch.enable_grad():
                logits = self._logits(X, leaves, shares).flatten(0, 1)
                loss = F.cross_entropy(logits, labels, reduction="sum") / len(X)
                slopes = torch.autograd.grad(loss, leaves)
            return loss.detach(), list(slopes)  # one loss for both layers

        def judge(step: int) -> None:
            assert best is not None
            assert held is not None
            if self.stop not in (None, step):
                return
            for number, ratio in enumerate(ratios):
                now = [layer[number] for layer in layers]
                scores = self._logits(held, now, ratio if step else 0.0) / self.logit_scale_
                best.offer(scores, lambda: (ratio, step, [layer.clone() for layer in now]))  # noqa: B023 - called here

        evaluation_steps = () if best is None else self._evaluation_steps()
        if best is not None:
            judge(0)
        rates = cosine_rates(self.steps, self.learning_rate)[: self.stop]
        if rates:
            descend([Descent(layer, rates, self.weight_decay) for layer in layers], gradients, judge, evaluation_steps)
        return layers
