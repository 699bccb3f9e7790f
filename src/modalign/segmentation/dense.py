r"""Dense features of a CLIP: modifications of its last layer for features per patch.

With the tokens x that enter the last layer, u = LN1(x), the heads' q, k, v = maps of u, the output map O of the
attention and e the width of a head:

==================== =============================== ======== === ==========================
features             attention A                     residual MLP tokens in the attention
==================== =============================== ======== === ==========================
clip                 softmax(q kᵀ/√e)                yes      yes class and patches
maskclip             identity                        no       no  –
maskclip-residual    identity                        yes      yes –
clearclip            softmax(q qᵀ/√e)                no       no  class and patches
sclip                softmax(q qᵀ/√e)                yes      yes class and patches
                     + softmax(k kᵀ/√e)
scclip               see :mod:`.calibrated`          no       no  patches
proxy                of a vision-only network        no       no  patches
==================== =============================== ======== === ==========================

y = [x +] O A v, y ← y [+ MLP(LN2 y)], f = P LNpost(y). The two softmaxes of ``sclip`` are added, so that rows of A sum
to 2. There are two readings of MaskCLIP: its own code keeps residual and MLP, later papers print it without.

References
----------
Zhou, Loy and Dai, Extract free dense labels from CLIP, ECCV 2022. Wang, Mei and Yuille, SCLIP, ECCV 2024. Lan et al.,
ClearCLIP, ECCV 2024. Lan et al., ProxyCLIP, ECCV 2024.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from modalign.encoders.towers.vision_tower import Attention, VisionTower, full_attention
from modalign.linalg.similarity import unit

PROXY_SHIFT, PROXY_SHARPNESS = 1.2, 3.0
"""β and γ of ProxyCLIP."""


def identity_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """v: each token attends to itself only."""
    return v


def query_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q qᵀ/√e) v; the queries that come in hold one 1/√e already, and so their product holds 1/e."""
    return F.scaled_dot_product_attention(q, q, v, scale=q.shape[-1] ** 0.5)


def key_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(k kᵀ/√e) v."""
    return F.scaled_dot_product_attention(k, k, v, scale=k.shape[-1] ** -0.5)


def correlative_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(softmax(q qᵀ/√e) + softmax(k kᵀ/√e)) v, of SCLIP."""
    return query_attention(q, k, v) + key_attention(q, k, v)


class LastLayer(NamedTuple):
    """Replacement of the last layer."""

    attention: Attention
    residual: bool
    mlp: bool


LAST_LAYERS: dict[str, LastLayer] = {
    "clip": LastLayer(full_attention, True, True),
    "maskclip": LastLayer(identity_attention, False, False),
    "maskclip-residual": LastLayer(identity_attention, True, True),
    "clearclip": LastLayer(query_attention, False, False),
    "sclip": LastLayer(correlative_attention, True, True),
}
"""Features that only replace the last layer."""

FEATURES = (*LAST_LAYERS, "scclip", "proxy", "window")
"""All choices of ``features``; ``window`` is the vector of a whole window for all of its pixels."""


def of_last_layer(tower: VisionTower, pixels: Tensor, layer: LastLayer) -> Tensor:
    """Features (B, n, d) of the n patches of B images, not normalized; the cost is that of the tower.

    Parameters
    ----------
    tower : VisionTower
        Tower whose last layer is replaced.
    pixels : Tensor
        normalized.
    layer : LastLayer
        Replacement.
    """
    (x,) = deque(tower.states(pixels), maxlen=1)
    return tower.project(tower.last(x, layer.attention, residual=layer.residual, mlp=layer.mlp)[:, 1:])


def by_proxy(tower: VisionTower, pixels: Tensor, guide: Tensor) -> Tensor:
    r"""Features (B, n', d) whose attention is the similarity of another network's patches.

    .. math:: A = \mathrm{softmax}(M), \quad M = \gamma (S - \beta \bar S), \quad M_{ij} < 0 \to -\infty, \quad
              f = P\,\mathrm{LN}(O A v)

    S are the cosines of the guide, with their mean in each image; v is interpolated to the guide's grid.

    Parameters
    ----------
    tower, pixels : VisionTower
        As for :func:`of_last_layer`.
    guide : Tensor of shape (B, rows, columns, D)
        Patch features of the vision-only network; n' = rows · columns.
    """
    grid = (pixels.shape[2] // tower.patch_size, pixels.shape[3] // tower.patch_size)
    shares = similarity_attention(cosines(guide.flatten(1, 2)), PROXY_SHARPNESS, PROXY_SHIFT)[:, None]

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        B, heads, _, e = v.shape
        image = v.transpose(2, 3).reshape(B, heads * e, *grid)
        image = F.interpolate(image, tuple(guide.shape[1:3]), mode="bilinear", align_corners=False)
        values = image.reshape(B, heads, e, -1).transpose(2, 3)
        return shares.to(v.dtype) @ values

    (x,) = deque(tower.states(pixels), maxlen=1)
    return tower.project(tower.last(x[:, 1:], attention, residual=False, mlp=False))


def cosines(X: Tensor) -> Tensor:
    """(B, n, n) cosines of the rows of each image, in float32 at least."""
    X = unit(X)
    return X @ X.mT


def similarity_attention(S: Tensor, sharpness: float, shift: float = 1.0) -> Tensor:
    r"""softmax over j of :math:`\gamma (S_{ij} - \beta \bar S)` with entries below 0 left out, (B, n, n).

    The mean is that of each image. The diagonal always stays: where all tokens are alike, rounding could leave a row
    without an entry.
    """
    M = sharpness * (S - shift * S.mean(dim=(1, 2), keepdim=True))
    left_out = M < 0
    left_out.diagonal(dim1=1, dim2=2).fill_(False)
    return M.masked_fill(left_out, -float("inf")).softmax(dim=2)
