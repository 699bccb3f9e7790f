"""Transport plans of ALIGN's published code: standard Sinkhorn sweeps with its stopping rule.

Differences from :mod:`modalign.methods.align.align_transport`: a call stops when the row scalings change by less than
0.01 on average over all its problems, after at most 100 sweeps (about three on unstructured features), and the plans
are not differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modalign.linalg.inputs import float_tensor
from modalign.linalg.similarity import unit

SWEEPS, THRESHOLD = 100, 1e-2
_ENTRIES = 1 << 24  # of plans held at a time


def official_plan(cost: Tensor, epsilon: float, mask: Tensor | None = None) -> Tensor:
    r"""Solve G calls with p problems each; a call stops when mean \|Δu\| over its problems and rows is below 0.01.

    Parameters
    ----------
    cost : Tensor of shape (G, p, n, m)
        Cost matrices.
    epsilon : float
        Strength of the entropy.
    mask : Tensor or None, default=None
        Of shape (G, p, m), bool; False for columns without mass.

    Returns
    -------
    Tensor of shape (G, p, n, m)
        Plans; column sums are exact, row sums approximate.
    """
    kernel = (-cost.detach() / epsilon).exp()
    G, p, n, m = kernel.shape
    present = torch.ones(G, p, m, dtype=torch.bool, device=cost.device) if mask is None else mask
    v = present.to(kernel.dtype)[..., None]
    b = v / v.sum(dim=2, keepdim=True)
    u = torch.ones_like(kernel[..., :1])
    running = torch.ones(G, 1, 1, 1, dtype=torch.bool, device=cost.device)
    for _ in range(SWEEPS):
        new_u = 1 / n / (kernel @ v)
        new_v = b / (kernel.mT @ new_u)
        moved = (new_u - u).abs().mean(dim=(1, 2, 3), keepdim=True)
        u, v = torch.where(running, new_u, u), torch.where(running, new_v, v)
        running = running & (moved >= THRESHOLD)
        if not bool(running.any()):
            break
    return u * kernel * v.mT


@torch.no_grad()
def official_token_similarity(
    patches: Tensor, words: Tensor, mask: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Token term of the published code, :math:`\langle \hat T, \cos \rangle`, per pair of image and class.

    Parameters
    ----------
    patches : Tensor of shape (B, M, J, d)
        Local image features.
    words : Tensor of shape (K, N, L, d)
        Token features.
    mask : Tensor of shape (K, N, L), bool
        Mask of existing tokens.
    epsilon : float
        Strength of the entropy.

    Returns
    -------
    tuple of (Tensor, Tensor, Tensor)
        Similarity, entropy and marginal error of the plans, (B, K, M, N) each.
    """
    patches, words = unit(float_tensor(patches, "patches")), unit(float_tensor(words, "words"))
    (B, M, J, _), (K, N, L, _) = patches.shape, words.shape
    found = [patches.new_empty(B, K, M, N) for _ in range(3)]
    step = max(1, _ENTRIES // (M * N * J * L))
    for image, own in enumerate(patches):
        for first in range(0, K, step):
            some = slice(first, first + step)
            cosines = torch.einsum("mjd,knld->kmnjl", own, words[some]).flatten(1, 2)
            present = mask[some, None].expand(-1, M, -1, -1).flatten(1, 2)
            plan = official_plan(1 - cosines, epsilon, present)
            parts = (
                (plan * cosines).sum(dim=(2, 3)),
                torch.special.entr(plan).sum(dim=(2, 3)),
                (plan.sum(dim=3) - 1 / J).abs().sum(dim=2),
            )
            for whole, part in zip(found, parts, strict=True):
                whole[image, some] = part.view(-1, M, N)
    similarity, entropy, error = found
    return similarity, entropy, error
