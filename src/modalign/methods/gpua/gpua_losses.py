"""Stage 2 of GPUA: ranking losses on pseudo-labels and their minimization after Procrustes.

All quantities are in coordinates of the span of the class texts, of dimension r ≤ min(K, d_t): a map into that span is
W = Q Bᵀ with an orthonormal basis B (d_t, r), and loss and gradient depend on Q (d_v, r) only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.linalg.inputs import exact_dtype
from modalign.linalg.optimizers import cosine_rates
from modalign.linalg.ranking import hard_negatives, ranking_excess, text_margins
from modalign.linalg.similarity import unit
from modalign.methods.gpua.gpua_rows import Images

Loss = Literal["ths", "adaptive", "triplet", "contrastive", "csls"]
Hubs = Literal["excess", "share"]
MOMENTUM, SCALE_DECAY = 0.9, 0.99  # β₁ and β₂ of Adam


@dataclass(frozen=True)
class Ranking:
    """Ranking losses and their hyper-parameters.

    Attributes
    ----------
    text : Tensor of shape (K, r)
        Unit prototypes.
    kind : {"ths", "adaptive", "triplet", "contrastive", "csls"}
        Kind of the loss.
    n_hard_negatives : int
        K of equation 15, prototypes nearest to an image that are not its own.
    margin_scale : float
        s; the margin between classes a and b is (1 − y_a·y_b)/s.
    hub_weight : float
        Factor of the hub penalty; 1 in the paper.
    hubs : {"excess", "share"}
        ``"share"`` penalizes the share h_c of images for which c is a hard negative, as in the paper. Its mean is
        n_hard_negatives/K, a margin that cannot be satisfied with few classes; ``"excess"`` subtracts it.
    logit_scale : float
        Inverse temperature of the contrastive loss.
    raw : bool, default=False
        Whether distances use mapped images without normalization, as printed in the paper. The contrastive and CSLS
        losses always use cosines.
    """

    text: Tensor
    kind: Loss
    n_hard_negatives: int
    margin_scale: float
    hub_weight: float
    hubs: Hubs
    logit_scale: float
    raw: bool = False

    def __call__(self, mapped: Tensor, labels: Tensor) -> Tensor:
        r"""Return the mean loss of mapped images (m, r), not normalized, with classes ``labels`` (m,).

        With :math:`\hat z` the unit (or ``raw``) mapped image, :math:`d_{i,c} = \lVert \hat z_i - y_c \rVert`,
        :math:`d_i^+` the distance from the image's own prototype, :math:`\mathcal N_i` its nearest competing
        prototypes and :math:`m_{i,c} = (1 - y_{\ell_i}^\top y_c) / s`,

        - ``"ths"``: mean over i and :math:`c \in \mathcal N_i` of :math:`[d_i^+ + m_{i,c} + h_c - d_{i,c}]_+` with
          :math:`h_c` the share of images that c competes for (equations 15 and 16), or its excess over the mean;
        - ``"adaptive"``: the same without h (the reranking loss of LFA);
        - ``"triplet"``: without h, and with the mean margin for all pairs;
        - ``"contrastive"``: cross-entropy of the scaled cosines with all prototypes;
        - ``"csls"``: :math:`-2 \hat z_i^\top y_{\ell_i}` plus the mean cosine of the image with its nearest
          prototypes, plus that of the prototype with its nearest images (RCSLS).
        """
        text = self.text.to(mapped.dtype)
        cosines = unit(mapped) @ text.T
        if self.kind == "contrastive":
            return F.cross_entropy(self.logit_scale * cosines, labels)
        if self.kind == "csls":
            own = cosines.gather(1, labels[:, None])
            images = cosines.topk(min(self.n_hard_negatives, len(cosines)), dim=0).values.mean(dim=0)
            classes = cosines.topk(self.n_hard_negatives, dim=1).values.mean(dim=1)
            return (classes + images[labels] - 2 * own[:, 0]).mean()
        square: Tensor | float = 2.0
        if self.raw:
            square = 1 + mapped.square().sum(dim=1, keepdim=True)
            cosines = mapped @ text.T
        rivals = hard_negatives(cosines, labels, self.n_hard_negatives)
        margins = text_margins(text, self.margin_scale)
        required = margins[labels[:, None], rivals]
        if self.kind == "triplet":
            K = len(self.text)
            required = (margins.sum() / (K * (K - 1))).expand_as(required)
        elif self.kind == "ths":
            hubs = torch.bincount(rivals.flatten(), minlength=len(self.text)).to(cosines.dtype) / len(cosines)
            if self.hubs == "excess":
                hubs = (hubs - hubs.mean()).clamp_min(0)
            required = required + self.hub_weight * hubs[rivals]
        return F.relu(ranking_excess(cosines, labels, rivals, required, square).excess).mean()


@dataclass(frozen=True)
class Slope:
    """Loss and gradient of a map on all images, or on batches if there are more than ``batch_size``.

    Attributes
    ----------
    images : Images
        Visual vectors.
    labels : Tensor of shape (n,)
        Pseudo-labels.
    loss : callable
        Of mapped images (m, r) and their labels.
    batch_size : int
        Images per step; all of them, in order, if there are not more.
    generator : torch.Generator
        Of the batches.
    """

    images: Images
    labels: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    generator: torch.Generator

    def __call__(self, W: Tensor) -> tuple[Tensor, Tensor]:
        n = self.images.total
        rows = torch.arange(n)
        if n > self.batch_size:
            rows = torch.randint(n, (self.batch_size,), generator=self.generator).sort().values
        rows = rows.to(self.labels.device)
        Z = self.images.gathered(rows, self.images.visual.take).to(W.dtype)
        labels = self.images.gathered(rows, lambda mine: self.labels[mine])
        with torch.enable_grad():
            W = W.detach().requires_grad_()
            value = self.loss(Z @ W, labels)
            (gradient,) = torch.autograd.grad(value, W)
        return value.detach(), gradient


@dataclass(frozen=True)
class Refined:
    """Final Q (d_v, r), loss of every step, and ‖QᵀQ − I‖_F (‖QQᵀ − I‖_F if d_v < r)."""

    map: Tensor
    losses: Tensor
    defect: float

    @classmethod
    def of(cls, W: Tensor, losses: list[Tensor], dtype: torch.dtype) -> Refined:
        """Cast W to ``dtype``; the defect is computed before the cast."""
        gram = W.mT @ W if W.shape[0] >= W.shape[1] else W @ W.mT
        defect = float((gram - torch.eye(len(gram), device=W.device)).norm())
        return cls(W.to(dtype), torch.stack(losses) if losses else W.new_zeros(0), defect)

    def report(self) -> dict[str, float]:
        """For ``diagnosis_``."""
        report = {"orthogonality_defect": self.defect}
        if len(self.losses):
            report |= {"loss_before": float(self.losses[0]), "loss_after": float(self.losses[-1])}
        return report


def refine_map(slope: Slope, start: Tensor, *, steps: int, learning_rate: float) -> Refined:
    r"""Minimize a loss on the manifold of orthonormal maps.

    A step uses the tangent part of the gradient, :math:`G - Q\,\mathrm{sym}(Q^\top G)`, with momentum and one running
    root mean square for the whole matrix (Adam with a single second moment, which is invariant to rotations), and a QR
    retraction. A tangent step D gives :math:`Q^\top Q = I + D^\top D`, for which QR by Cholesky factorization is
    stable, so W stays orthogonal up to rounding. The learning rate has cosine decay. A map into a larger space (d_v <
    r) has orthonormal rows and is handled by transposition.

    Parameters
    ----------
    slope : Slope
        The loss and its gradient.
    start : Tensor of shape (d_v, r)
        Orthonormal columns, or rows if d_v < r.
    steps : int
        Gradient steps.
    learning_rate : float
        Norm of the first steps relative to that of the map, ‖Q‖_F = √r.

    Returns
    -------
    Refined
        Computed in float64, because rounding errors are amplified at the kinks of the losses. A step costs O(m d_v r +
        m K r + d_v r²) for m images.
    """
    transposed = start.shape[0] < start.shape[1]
    Q = (start.mT if transposed else start).to(exact_dtype(start.device))
    direction, second, losses = torch.zeros_like(Q), 0.0, []
    for step, rate in enumerate(cosine_rates(steps, learning_rate), start=1):
        value, gradient = slope(Q.mT if transposed else Q)
        losses.append(value)
        gradient = _tangent(Q, gradient.mT if transposed else gradient)
        direction = _tangent(Q, MOMENTUM * direction + (1 - MOMENTUM) * gradient)
        second = SCALE_DECAY * second + (1 - SCALE_DECAY) * float(gradient.square().sum())
        if second == 0:  # the gradient is zero: every margin holds
            break
        scale = (second / (1 - SCALE_DECAY**step)) ** 0.5 * (1 - MOMENTUM**step)
        Q = _retract(Q - (rate * Q.shape[1] ** 0.5 / scale) * direction)
    return Refined.of(Q.mT if transposed else Q, losses, start.dtype)


def descend_unconstrained(slope: Slope, start: Tensor, *, steps: int, learning_rate: float) -> Refined:
    r"""Plain gradient steps, :math:`W \leftarrow W - \eta \nabla \mathcal{L}`, as in Algorithm 1.

    The map does not stay orthogonal. Parameters and cost are those of :func:`refine_map`, except ``learning_rate``,
    which is η.
    """
    W, losses = start.to(exact_dtype(start.device)), []
    for _ in range(steps):
        value, gradient = slope(W)
        losses.append(value)
        W = W - learning_rate * gradient
    return Refined.of(W, losses, start.dtype)


def span(text: Tensor) -> Tensor:
    """(d_t, r) orthonormal basis of the span of the rows of ``text``."""
    _, singular, right = torch.linalg.svd(text.double() if text.device.type != "mps" else text, full_matrices=False)
    return right[singular > 1e-6 * singular[0]].T.to(text.dtype)


def _tangent(Q: Tensor, G: Tensor) -> Tensor:
    inner = Q.mT @ G
    return G - Q @ ((inner + inner.mT) / 2)


def _retract(A: Tensor) -> Tensor:
    """The orthonormal factor of A = Q R with a positive diagonal of R."""
    return torch.linalg.solve_triangular(torch.linalg.cholesky(A.mT @ A), A.mT, upper=False).mT
