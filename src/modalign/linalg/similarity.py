"""Normalization, cosine similarity and top-k with deterministic ties."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import float_tensor, ordinary, power_of_two, traced

CHUNK = 2**24  # cosines held at a time: 64 MB
# Cosine from which two image vectors count as one picture. On CLIP ViT-B/32 features of Caltech101 and Oxford Flowers
# (5,700 images each) no two different pictures reach it; a JPEG saved again usually passes it.
NEAR_IDENTICAL = 0.999

LOWEST = -80.0
"""Log-odds below which a class has no part in a sum of 32 bits. From −87 on exponentials are denormal numbers, whose
products take up to a hundred times as long."""


class TopK(NamedTuple):
    """The k largest scores of each row, descending, and their columns; both (..., k)."""

    values: Tensor
    indices: Tensor


def unit(X: Real[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    r"""Normalize rows to unit length, :math:`x / \lVert x \rVert_2`; zero rows stay zero.

    Rows of any finite scale are supported: if squares could overflow or underflow, a row is first divided by a power of
    two, which is exact.

    Parameters
    ----------
    X : Tensor of shape (..., d)
        Vectors; half precision is computed and returned in float32.

    Returns
    -------
    Tensor of shape (..., d)
        Unit rows, differentiable. Cost O(n d).
    """
    X = float_tensor(X, "X", finite=False)
    if not X.numel():
        return X
    length = torch.linalg.vector_norm(X, dim=-1, keepdim=True)
    if traced():
        return X / length.masked_fill(length == 0, 1)
    if X.device.type == "cpu" and ordinary(length):
        return X / length  # the numbers of the lines below in half of their time; elsewhere the test costs more
    X = X / power_of_two(X)
    length = torch.linalg.vector_norm(X, dim=-1, keepdim=True)
    return X / length.masked_fill(length == 0, 1)


def cosine(X: Real[Tensor, "... n d"], Y: Real[Tensor, "... m d"]) -> Float[Tensor, "... n m"]:
    r"""Cosine similarity of all pairs of rows, :math:`S_{ij} = \hat x_i^\top \hat y_j`.

    Parameters
    ----------
    X : Tensor of shape (..., n, d)
        Rows to compare.
    Y : Tensor of shape (..., m, d)
        Leading dimensions broadcast.

    Returns
    -------
    Tensor of shape (..., n, m)
        In the wider of the two dtypes, differentiable; a zero row has cosine 0. Cost O(n m d).
    """
    X, Y = unit(X), unit(Y)
    if X.ndim < 2 or Y.ndim < 2 or X.shape[-1] != Y.shape[-1]:
        raise InputError(f"Expected rows of one width, (n, d) and (m, d), got {tuple(X.shape)} and {tuple(Y.shape)}.")
    dtype = torch.promote_types(X.dtype, Y.dtype)
    return X.to(dtype) @ Y.to(dtype).mT


def top_k(scores: Real[Tensor, "... m"], k: int) -> TopK:
    """Return the k largest entries of each row, descending; the lowest column comes first among equal entries.

    ``torch.topk`` does not define the order of equal entries; here it does not depend on device, threads or the rest of
    the batch.

    Parameters
    ----------
    scores : Tensor of shape (..., m)
        No NaN.
    k : int
        Number of entries, 1…m.

    Returns
    -------
    TopK
        (..., k) values (differentiable) and int64 columns. Cost O(m) per row.
    """
    scores = float_tensor(scores, "scores", finite=False)
    m = scores.shape[-1] if scores.ndim else 0
    if not 1 <= k <= m:
        raise InputError(f"Expected k between 1 and the number of columns ({m}), got {k}.")
    plain = scores.detach()
    best = torch.topk(plain, min(k + 1, m), dim=-1)
    if bool(best.values.isnan().any()):  # torch.topk ranks NaN above everything
        raise InputError("Expected scores without NaN.")
    indices = best.indices[..., :k].sort(dim=-1).values
    if k < m:
        torn = best.values[..., k - 1] == best.values[..., k]  # equals on both sides of the cut
        if bool(torn.any()):
            indices[torn] = _lowest_columns(plain[torn], best.values[torn][:, k - 1 : k], k)
    order = plain.gather(-1, indices).sort(dim=-1, descending=True, stable=True).indices
    indices = indices.gather(-1, order)
    return TopK(scores.gather(-1, indices), indices)


def near_identical(X: Real[Tensor, "n d"], *, threshold: float = NEAR_IDENTICAL) -> Int[Tensor, "k 2"]:
    """Find pairs of rows with a cosine of at least ``threshold``, such as resized or recompressed copies of an image.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Rows to compare.
    threshold : float, default=NEAR_IDENTICAL
        Cosine in (0, 1].

    Returns
    -------
    Tensor of shape (k, 2), int64
        The two rows of each pair, in ascending order. Cost O(n² d), with bounded memory.
    """
    rows = unit(X)
    step = max(1, CHUNK // max(1, len(rows)))
    found = []
    for start in range(0, len(rows), step):
        near = rows[start : start + step] @ rows.T >= threshold - 1e-6  # float32 rounds the cosine of equal rows
        found.append(near.triu(start + 1).nonzero() + torch.tensor([start, 0], device=near.device))
    return torch.cat(found)


def groups_of_copies(X: Real[Tensor, "n d"], *, threshold: float = NEAR_IDENTICAL) -> Int[Tensor, " n"]:
    """Group rows that :func:`near_identical` links, directly or indirectly; return group numbers (n,).

    If a group would contain more than half of the rows, or more than 10 and a tenth of them, the vectors are not
    discriminative enough to detect copies; then only equal rows share a group.
    """
    pairs = near_identical(X, threshold=threshold).cpu().numpy()
    groups = linked_groups(pairs, len(X))
    if np.bincount(groups).max() > min(len(X) / 2, max(10, len(X) / 10)):
        groups = np.unique(X.cpu().numpy(), axis=0, return_inverse=True)[1]
    return torch.from_numpy(groups.astype(np.int64))


def linked_groups(pairs: np.ndarray, n: int) -> np.ndarray:
    """Return the group numbers (n,) of n nodes that the (k, 2) ``pairs`` link, directly or indirectly."""
    from scipy.sparse import coo_array  # late: predictions do without SciPy
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(n, n))
    return connected_components(links, directed=False)[1]


def _lowest_columns(scores: Tensor, cut: Tensor, k: int) -> Tensor:
    """(r, k) ascending columns: all scores above the cut, then the first of those equal to it."""
    above, equal = scores > cut, scores == cut
    room = k - above.sum(dim=-1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=-1) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)


def soft_assignments(scores: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
    """Softmax of each row without denormal numbers: no class counts as further behind the first than :data:`LOWEST`."""
    return (scores - scores.amax(dim=1, keepdim=True)).clamp_min_(LOWEST).softmax(dim=1)


def softmax_weights(
    whole: Real[Tensor, "B w"], parts: Real[Tensor, "B N w"], temperature: float = 1.0
) -> Float[Tensor, "B N"]:
    r"""w_i = exp(cos(f, f_i)/τ) / Σ_l exp(cos(f, f_l)/τ) (WCA; equations 8 and 9 of FAIR, with τ = 1).

    Parameters
    ----------
    whole : Tensor of shape (B, w)
        Features of the whole images.
    parts : Tensor of shape (B, N, w)
        Features of the parts; zero rows are padding with weight 0.
    temperature : float, default=1.0
        τ.
    """
    absent = (parts == 0).all(dim=2)
    return (
        (torch.einsum("bw,bnw->bn", unit(whole), unit(parts)) / temperature)
        .masked_fill(absent, -torch.inf)
        .softmax(dim=1)
    )
