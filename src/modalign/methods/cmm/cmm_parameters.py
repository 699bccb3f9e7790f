"""Parameters of CMM and the analytic gradient of its loss, for one or several models of one shape.

W and T share one buffer, and their gradients another, so AdamW is one fused update; the gradient takes five matrix
products. For small models, the overhead per operation exceeds its arithmetic. Models that are trained in parallel, such
as the folds of a cross-validation, are therefore batched: each is a row of the buffers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-12  # lengths are clamped here, as torch.nn.functional.normalize does


@dataclass(frozen=True)
class Objective:
    """CE(logit_scale · (s_CMM + fusion · s_CLIP)) + triplet_weight · max(0, d⁺ − d⁻ + margin), mean of the batch."""

    logit_scale: float = 100.0
    zero_shot_weight: float = 1.0
    margin: float = 1.0
    triplet_weight: float = 1.0


class CMMParameters:
    """Parameters W_1…W_L (d, d) and T (C, d) of one model, views of one flat buffer; L may be 0.

    Attributes
    ----------
    weights, text : collection of Tensor
        Views of ``flat``.
    shape : tuple of (int, int, int)
        (L, C, d).
    """

    def __init__(self, weights: Collection[Tensor], text: Tensor, objective: Objective) -> None:
        self.objective = objective
        self.shape = (len(weights), *text.shape)
        self.bind(torch.cat([W.reshape(-1) for W in (*weights, text)]))

    def bind(self, flat: Tensor) -> None:
        """Move the parameters to the buffer ``flat``."""
        self.flat = flat
        self.weights, self.text = views(flat, self.shape)


def views(flat: Tensor, shape: tuple[int, int, int]) -> tuple[list[Tensor], Tensor]:
    """(..., L d² + C d) → L views (..., d, d) and one (..., C, d)."""
    layers, C, d = shape
    *weights, text = flat.split([d * d] * layers + [C * d], dim=-1)
    return [W.unflatten(-1, (d, d)) for W in weights], text.unflatten(-1, (C, d))


class CMMStack:
    """Batch of K models of one shape and objective, as rows of one buffer.

    Attributes
    ----------
    flat, gradient : Tensor of shape (K, L d² + C d)
        (K, L d² + C d).
    weights, text : Tensor
        Views of ``flat``; ``weight_gradients``, ``text_gradient`` the same views of ``gradient``.
    """

    def __init__(self, learners: Sequence[CMMParameters]) -> None:
        self.objective, shape = learners[0].objective, learners[0].shape
        self.flat = torch.stack([learner.flat for learner in learners])
        self.gradient = torch.zeros_like(self.flat)
        self.weights, self.text = views(self.flat, shape)
        self.weight_gradients, self.text_gradient = views(self.gradient, shape)
        for learner, row in zip(learners, self.flat, strict=True):
            learner.bind(row)

    def differentiate(self, x: Tensor, clip: Tensor, target: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the loss of every model on its batch, in ``gradient``.

        Parameters
        ----------
        x : Tensor of shape (K, B, d)
            Unit image vectors.
        clip : Tensor
            ``logit_scale`` · ``fusion`` · s_CLIP.
        target : Tensor of shape (K, B, C)
            One-hot labels.
        labels : Tensor of shape (K, B, 1)
            Class indices.

        Returns
        -------
        tuple of (Tensor, Tensor)
            (K, B, 1) log-likelihoods of the true classes and (K, B, 1) d⁺ − d⁻ + margin before the hinge.
        """
        scale, T, count = self.objective.logit_scale, self.text, x.shape[1]
        inputs: list[Tensor] = []
        mapped = x
        for W in self.weights:
            inputs.append(mapped.relu_() if inputs else mapped)
            mapped = torch.baddbmm(mapped, mapped, W)

        # s_CMM = cos(m, T_c) from the inner products and the two lengths: T is never normalized in memory
        length = torch.linalg.vector_norm(mapped, dim=2, keepdim=True).clamp_min_(TINY)
        text_length = torch.linalg.vector_norm(T, dim=2)[:, None].clamp_min_(TINY)
        per_length = (length * text_length).reciprocal_()
        cosines = torch.bmm(mapped, T.mT).mul_(per_length)
        likelihood = torch.log_softmax(torch.add(clip, cosines, alpha=scale), dim=2)
        nearest, hardest = torch.sub(cosines, target, alpha=4).max(dim=2, keepdim=True)  # −4: the true class never wins
        hinge = nearest.sub_(cosines.gather(2, labels)).add_(self.objective.margin)
        truth = likelihood.gather(2, labels)

        # ∂loss/∂cos: softmax − one-hot, and ±1 at the true and the hardest class where the triplet loss is active
        slope = likelihood.exp_().sub_(target).mul_(scale / count)
        if self.objective.triplet_weight:
            active = (hinge > 0).to(slope.dtype).mul_(self.objective.triplet_weight / count)
            slope.scatter_add_(2, hardest, active).addcmul_(target, active, value=-1)

        # ∂cos/∂m = (T̂ − cos · m̂)/‖m‖ and the same with m and T exchanged
        weighted = slope * cosines
        slope.mul_(per_length)
        backward = torch.mul(mapped, weighted.sum(dim=2, keepdim=True).div_(length.square_()).neg_())
        backward.baddbmm_(slope, T)
        radial = weighted.sum(dim=1, keepdim=True).div_(text_length.square_()).neg_()
        torch.mul(T, radial.mT, out=self.text_gradient).baddbmm_(slope.mT, mapped)

        for layer in range(len(inputs) - 1, -1, -1):
            torch.bmm(inputs[layer].mT, backward, out=self.weight_gradients[layer])
            if layer:
                backward = torch.baddbmm(backward, backward, self.weights[layer].mT).mul_(inputs[layer] > 0)
        return truth, hinge
