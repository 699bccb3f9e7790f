"""Causal attention over packed sentences: what all share stands once, and all attend to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.encoders._packing import Group, Packing


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, bias: Tensor | None = None, *, ends: bool = False
) -> Tensor:
    """Each token attends to the shared prefix and to its own sentence up to itself.

    A sentence is (prefix, own part). Its scores to both are computed apart and go through one softmax,

        o = softmax([q K_prefixᵀ, q K_ownᵀ + mask]) [V_prefix; V_own],

    so that the prefix is neither computed nor copied once a sentence. Exact, and so are the gradients.

    Parameters
    ----------
    q : (G, heads, T, e), or (G, heads, K, e) of the end-of-text tokens in the order of the groups; already scaled.
    k, v : (G, heads, T, e).
    packing : where the sentences stand.
    bias : (K, L, L) added to the scores of query and key positions; needs an empty prefix.
    ends : whether ``q`` holds the end-of-text tokens only.

    Returns
    -------
    Tensor : as ``q``.
    """
    P = packing.prefix
    assert bias is None or P == 0
    shared_k, shared_v = k[:, :, :P], v[:, :, :P]
    parts = []
    if P and not ends:
        parts.append(F.scaled_dot_product_attention(q[:, :, :P], shared_k, shared_v, is_causal=True, scale=1.0))
    first = 0 if ends else P
    for group in packing.groups:
        N, start = len(group.classes), P + group.start
        span = slice(start, start + N * group.length)
        own_k, own_v = (t[:, :, span].unflatten(2, (N, -1)) for t in (k, v))
        last = first + (N if ends else N * group.length)
        own_q = q[:, :, first:last].unflatten(2, (N, -1))
        scores = own_q @ own_k.mT
        mask = _mask(group, bias, scores, ends)
        scores = scores if mask is None else scores + mask
        if P:
            scores = torch.cat([(q[:, :, first:last] @ shared_k.mT).unflatten(2, (N, -1)), scores], dim=-1)
        weights = scores.softmax(-1)
        out = (weights[..., P:] @ own_v).flatten(2, 3)
        parts.append(out + weights[..., :P].flatten(2, 3) @ shared_v if P else out)
        first = last
    return torch.cat(parts, dim=2)


def _mask(group: Group, bias: Tensor | None, scores: Tensor, ends: bool) -> Tensor | None:
    """What is added to the scores (…, N, queries, keys) of a group; None where that is nothing."""
    keys = torch.arange(group.length)
    if ends:
        hidden = keys > group.own[:, None, None]
        mask = None if not hidden.any() else hidden
    else:
        mask = keys > keys[:, None]
    if mask is not None:
        mask = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(mask, float("-inf")).to(scores.device)
    if bias is None:
        return mask
    classes, own = group.classes.to(bias.device), group.own.to(bias.device)
    bias = bias[classes, own, None, : group.length] if ends else bias[classes, : group.length, : group.length]
    return bias if mask is None else bias + mask
