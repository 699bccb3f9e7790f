"""Block updates of TransCLIP: a mixture with one diagonal covariance, the assignments, and the neighbor graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from modalign.linalg.similarity import top_k, unit

TEMPER = 50.0  # the log-likelihood of an unlabeled image is divided by this
FLOOR = 0.01  # least variance, in units of the initial variance 1/d
CHUNK = 2**24  # numbers of one block of image-by-image cosines: 64 MB
ROWS = 4096  # images that sums in float64 take at a time


class Mixture(NamedTuple):
    """Gaussians with means (C, d) and one diagonal covariance, variances (d,), for all."""

    means: Tensor
    variances: Tensor

    def log_density(self, X: Tensor) -> Tensor:
        """Return log N(x; μ_k, Σ), (n, C), up to a constant per row."""
        scaled = self.means / self.variances
        return (X @ scaled.T).sub_((scaled * self.means).sum(dim=1) / 2)


@dataclass(frozen=True)
class Solution:
    """Result: mixture, assignments (|Q|, C), mean total variation of the last z-step."""

    mixture: Mixture
    assignments: Tensor
    last_change: float


@dataclass(frozen=True)
class MixtureProblem:
    """Inputs of the iteration.

    Attributes
    ----------
    queries, support : Tensor of shape (|Q|, d)
        And (|S|, d) unit images.
    targets : Tensor of shape (|S|, C)
        One-hot labels.
    prototypes : Tensor of shape (C, d)
        Unit class texts.
    log_text : Tensor of shape (|Q|, C)
        Log ŷ.
    text_weight : float
        λ.
    links : Tensor of shape (|Q|, |Q| + |S|) or None
        (w_ij + w_ji) / 2k, sparse, queries before support; None without neighbors.
    """

    queries: Tensor
    support: Tensor
    targets: Tensor
    prototypes: Tensor
    log_text: Tensor
    text_weight: float
    links: Tensor | None

    def start(self, confident: int) -> Mixture:
        """Initial mixture: means of the support, or of the most confident queries; variance 1/d."""
        d = self.support.shape[1]
        labeled = self.targets.sum(dim=0)[:, None] > 0
        if len(self.queries):
            surest = top_k(self.log_text.T, min(confident, len(self.queries)))
            weights = (surest.values - surest.values[:, :1]).exp()  # relative, since that of an absent class underflows
            guess = (weights[..., None] * self.queries[surest.indices]).sum(dim=1)
        else:
            guess = self.prototypes
        means = unit(torch.where(labeled, self.targets.T @ self.support, guess))
        return Mixture(means, self.support.new_full((d,), 1 / d))

    def assign(self, fixed: Tensor, Z: Tensor) -> Tensor:
        """Update all assignments: softmax of ``fixed`` (|Q|, C) plus the neighbor term."""
        if self.links is None:
            return torch.softmax(fixed, dim=1)
        Z = self.links @ (torch.cat([Z, self.targets]) if len(self.targets) else Z)
        Z.add_(fixed)
        Z.sub_(Z.amax(dim=1, keepdim=True)).exp_()
        return Z.div_(Z.sum(dim=1, keepdim=True))

    def estimate(self, Z: Tensor, gamma: float, before: Mixture) -> Mixture:
        """Update μ, then Σ; a class without mass keeps its mean."""
        gamma = TEMPER * gamma if len(self.queries) else 1.0
        sums = torch.zeros_like(before.means, dtype=torch.float64)
        masses, squares = sums.new_zeros(len(sums)), sums.new_zeros(sums.shape[1])
        for X, z, share in ((self.queries, Z, 1.0), (self.support, self.targets, gamma)):
            for rows, weights in zip(X.split(ROWS), z.split(ROWS), strict=True) if len(X) and share else ():
                rows, weights = rows.double(), weights.double() * (share / len(X))
                masses += weights.sum(dim=0)
                sums += weights.T @ rows
                squares += weights.sum(dim=1) @ rows.square()
        held = (masses > torch.finfo(torch.float32).tiny)[:, None]
        means = torch.where(held, unit(sums), before.means.double())
        # Σ a z (x − μ)² in float64, since the difference of squares of unit rows loses digits
        squares = squares - 2 * (sums * means).sum(dim=0) + masses @ means.square()
        variances = (squares / masses.sum()).clamp_min(FLOOR / means.shape[1])
        if not len(self.queries) and len(self.support) <= len(means):
            variances = before.variances  # no class has two images, so the variance cannot be estimated
        return Mixture(means.float(), variances.float())


def links(queries: Tensor, support: Tensor, k: int) -> Tensor | None:
    """(|Q|, |Q| + |S|) sparse (w_ij + w_ji) / 2k: w_ij = max(0, cosine) for the k nearest others j of image i."""
    everything = torch.cat([queries, support]) if len(support) else queries
    n, k = len(everything), min(k, len(everything) - 1)
    if k < 1 or not len(queries):
        return None
    blocks = []
    for rows in torch.arange(n, device=everything.device).split(max(1, CHUNK // n)):
        cosines = everything[rows] @ everything.T
        cosines[rows - rows[0], rows] = -torch.inf
        blocks.append(top_k(cosines, k))
    columns = torch.cat([block.indices for block in blocks]).flatten()
    weights = torch.cat([block.values for block in blocks]).clamp_min(0).flatten() / (2 * k)
    rows = torch.arange(n, device=columns.device).repeat_interleave(k)
    both = torch.stack([torch.cat([rows, columns]), torch.cat([columns, rows])])
    of_queries = both[0] < len(queries)
    values, shape = weights.repeat(2)[of_queries], (len(queries), n)
    return torch.sparse_coo_tensor(both[:, of_queries], values, shape, check_invariants=False).coalesce()
