"""Label propagation from class texts to images over their nearest neighbors (Iscen et al. 2019; ReCLIP)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg
from torch import Tensor

from modalign.linalg.similarity import unit

MANY_CLASSES, FEW_DIRECTIONS = 500, 250  # above the first, the projection keeps that many directions
ROWS = 2048  # of the affinities in memory at a time


class Propagated(NamedTuple):
    """Classes (n,) of the images, and the mean direction (K, d) of the texts and images of each class."""

    labels: Tensor
    centroids: Tensor


def text_projection(texts: Tensor) -> Tensor:
    r"""Return P = U₂ U₂ᵀ (d, d), the projection onto the span of the class texts without its first direction.

    With the singular value decomposition T = V S Uᵀ of the class texts T (K, d), U₂ are the right singular vectors but
    the first, which is what all classes share; of more than 500 classes, the second to the 250th.
    """
    directions = torch.linalg.svd(texts, full_matrices=False).Vh
    kept = directions[1:FEW_DIRECTIONS] if len(texts) > MANY_CLASSES else directions[1:]
    return kept.T @ kept


def affinity(points: Tensor, neighbors: int) -> csr_array:
    r"""Return D^{-1/2} W D^{-1/2} (N, N) with W the mean of A and Aᵀ, where A has the nearest neighbors of each row.

    Parameters
    ----------
    points : Tensor of shape (N, d)
        Unit vectors. The affinity of two points is (1 + cos) / 2, that of a point with itself 0.
    neighbors : int
        Entries of each row of A, at most N − 1.
    """
    N, rows, columns, values = len(points), [], [], []
    k = min(neighbors, N - 1)
    for start in range(0, N, ROWS):
        some = (points[start : start + ROWS] @ points.T + 1) / 2
        own = torch.arange(len(some), device=points.device)
        some[own, own + start] = 0
        best, nearest = some.topk(k, dim=1)
        values.append(best.flatten().double().cpu().numpy())
        columns.append(nearest.flatten().cpu().numpy())
        rows.append(np.repeat(np.arange(start, start + len(some)), k))
    A = csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(N, N))
    W = (A + A.T) / 2
    scale = diags_array(W.sum(axis=1) ** -0.5)
    return csr_array(scale @ W @ scale)


def propagate(
    texts: Tensor, images: Tensor, projection: Tensor | None, *, neighbors: int, alpha: float, iterations: int
) -> Propagated:
    r"""Label images by propagation from the texts.

    .. math:: (I - \alpha \mathcal{W})\, z_k = e_k, \qquad \hat y_i = \arg\max_k z_{ki}

    over the graph of K texts and n images, projected and of unit length, where e_k is one at the text of class k. Cost
    O(N² d) for the neighbors and O(K N) per iteration of conjugate gradients.

    Parameters
    ----------
    texts, images : Tensor
        Unit vectors (K, d) and (n, d).
    projection : Tensor of shape (d, d) or None
        Of :func:`text_projection`; None for the points as they are.
    neighbors : int
        Nearest neighbors of each point.
    alpha : float
        α in [0, 1).
    iterations : int
        Maximum number of iterations of conjugate gradients per class.
    """
    points, K = torch.cat([texts, images]), len(texts)
    graph = affinity(unit(points if projection is None else points @ projection), neighbors)
    system = eye_array(len(points), format="csr") - alpha * graph
    found = np.empty((K, len(points)))
    for k in range(K):
        one = np.zeros(len(points))
        one[k] = 1
        found[k], _ = cg(system, one, rtol=1e-6, maxiter=iterations)
    labels = torch.from_numpy(found.argmax(axis=0)).to(images.device)
    sums = torch.zeros_like(texts).index_add_(0, labels, points)
    known = torch.bincount(labels, minlength=K) > 0
    return Propagated(labels[K:], torch.where(known[:, None], unit(sums), texts))
