r"""Adaptive ranking loss of images and class texts, used by LFA and GPUA.

With an image z of class y, unit class texts :math:`t_c`, :math:`d_c = \lVert \hat z - t_c \rVert` and the k classes
:math:`\mathcal N` other than y whose texts have the largest cosine with z, the excess over each of them is

.. math:: e_c = d_y - d_c + m_{y,c}, \qquad m_{y,c} = (1 - t_y^\top t_c) / s

and the loss is the mean of :math:`[e_c]_+`. Margins are large between dissimilar classes and small between similar
ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEAR = 1e-6  # distances are clamped here, where their gradient would be infinite


class Excess(NamedTuple):
    """Distances of m images to their own class texts and to those of k competing classes, and their excess.

    Attributes
    ----------
    own : Tensor of shape (m, 1)
        :math:`d_y`.
    rival : Tensor of shape (m, k)
        :math:`d_c`.
    excess : Tensor of shape (m, k)
        :math:`e_c`.
    """

    own: Tensor
    rival: Tensor
    excess: Tensor


def text_margins(text: Float[Tensor, "C d"], scale: float) -> Float[Tensor, "C C"]:
    """(C, C) margins (1 − t_a·t_b) / s between unit texts (C, d)."""
    return (1 - text @ text.T) / scale


def hard_negatives(cosines: Float[Tensor, "m C"], labels: Int[Tensor, " m"], k: int) -> Int[Tensor, "m k"]:
    """Return the k classes with the largest of (m, C) cosines, except the own class of the image, (m, k)."""
    return cosines.detach().scatter(1, labels[:, None], -torch.inf).topk(k, dim=1).indices


def distance(products: Float[Tensor, ...], square: Tensor | float = 2.0) -> Float[Tensor, ...]:
    """Distance between vectors with these inner products, whose squared lengths add up to ``square``."""
    return (square - 2 * products).clamp_min(NEAR**2).sqrt()


def ranking_excess(
    products: Float[Tensor, "m C"],
    labels: Int[Tensor, " m"],
    negatives: Int[Tensor, "m k"],
    margins: Float[Tensor, "m k"],
    square: Tensor | float = 2.0,
) -> Excess:
    """Distances and their excess from the inner products (m, C) of images and unit class texts.

    Parameters
    ----------
    products : Tensor of shape (m, C)
        Cosines where images are unit vectors.
    labels : Tensor of shape (m,)
        Class indices.
    negatives : Tensor of shape (m, k)
        Competing classes.
    margins : Tensor of shape (m, k)
        Margins :math:`m_{y,c}`.
    square : Tensor or float, default=2.0
        Sum of the squared lengths of image and text.
    """
    own = distance(products.gather(1, labels[:, None]), square)
    rival = distance(products.gather(1, negatives), square)
    return Excess(own, rival, own - rival + margins)


class MapRanking:
    """Ranking loss of images (not normalized) and unit class texts T (C, d), with its analytic gradient.

    Parameters
    ----------
    T : Tensor of shape (C, d)
        Unit class texts.
    n_hard_negatives : int
        k, at most C − 1.
    margin_scale : float
        s.
    """

    def __init__(self, T: Tensor, n_hard_negatives: int, margin_scale: float) -> None:
        self.T, self.k = T, min(n_hard_negatives, len(T) - 1)
        self.margins = text_margins(T, margin_scale)

    def differentiate(
        self, Z: Float[Tensor, "b d"], y: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b d"]]:
        """Return the mean loss of the rows Z (b, d) with classes y (b,), and its gradient (b, d)."""
        lengths = torch.linalg.vector_norm(Z, dim=1, keepdim=True).clamp_min(1e-12)
        rows = Z / lengths
        cosines = rows @ self.T.T
        rivals = hard_negatives(cosines, y, self.k)
        own, rival, excess = ranking_excess(cosines, y, rivals, self.margins[y].gather(1, rivals))
        active = (excess > 0).to(Z.dtype) / (self.k * len(Z))
        loss = (excess.clamp_min(0)).mean()
        # d = √(2 − 2 cos): ∂d/∂cos = −1/d; and ∂cos/∂z = (t − cos · z/‖z‖)/‖z‖
        slope = torch.zeros_like(cosines).scatter_(1, rivals, active / rival)
        slope.scatter_(1, y[:, None], -active.sum(dim=1, keepdim=True) / own)
        towards = slope @ self.T
        return loss, (towards - rows * (slope * cosines).sum(dim=1, keepdim=True)) / lengths
