"""Causal attention over packed sentences with a shared prefix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.encoders.towers._packing import Packing, Queries


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, queries: Queries, bias: Tensor | None = None
) -> Tensor:
    """Each token attends to the shared prefix and to its own sentence up to itself.

    A sentence is (prefix, own part). Scores with both are computed separately and normalized by one softmax,

        o = softmax([q K_prefixᵀ, q K_ownᵀ + mask]) [V_prefix; V_own],

    so that the prefix is neither computed nor copied once per sentence. Exact, and so are the gradients.

    Parameters
    ----------
    q : Tensor of shape (G, heads, R, e)
        Queries of the positions in ``queries``; already scaled.
    k, v : Tensor of shape (G, heads, T, e)
        Keys and values of all positions.
    packing : Packing
        Layout of the sentences.
    queries : Queries
        Positions to compute.
    bias : Tensor of shape (K, L, L) or None, default=None
        Added to the scores of query and key positions; requires an empty prefix.

    Returns
    -------
    Tensor
        Of the shape of ``q``.
    """
    P, groups = packing.prefix, packing.groups
    assert bias is None or P == 0
    # Splitting rather than slicing: its gradient is one concatenation, that of a slice a whole tensor of zeros.
    sizes = [P, *(len(group.classes) * group.length for group in groups)]
    (shared_k, *own_k), (shared_v, *own_v) = k.split(sizes, dim=2), v.split(sizes, dim=2)
    counts = [len(group.classes) * at.shape[1] for group, at in zip(groups, queries.at, strict=True)]
    shared_q, *own_q = q.split([P if queries.prefix else 0, *counts], dim=2)
    parts = []
    if P and queries.prefix:
        parts.append(F.scaled_dot_product_attention(shared_q, shared_k, shared_v, is_causal=True, scale=1.0))
    for g, (group, some_q, some_k, some_v) in enumerate(zip(groups, own_q, own_k, own_v, strict=True)):
        N = len(group.classes)
        scores = _each(some_q, N) @ _each(some_k, N).mT
        if (mask := queries.masks[g]) is not None:
            scores = scores + mask
        if bias is not None:
            classes = group.classes.to(bias.device)[:, None]
            scores = scores + bias[classes, queries.at[g], : group.length]
        if P:
            scores = torch.cat([_each(some_q @ shared_k.mT, N), scores], dim=-1)
        to_shared, to_own = scores.softmax(-1).split([P, group.length], dim=-1)
        out = (to_own @ _each(some_v, N)).flatten(2, 3)
        parts.append(out + to_shared.flatten(2, 3) @ shared_v if P else out)
    return torch.cat(parts, dim=2)


def _each(x: Tensor, N: int) -> Tensor:
    """(G, heads, N·L, e) as N sentences, (G, heads, N, L, e)."""
    return x.unflatten(2, (N, -1))
