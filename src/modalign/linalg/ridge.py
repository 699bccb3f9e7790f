r"""Ridge regression from one factorization for all λ and targets, with exact leave-one-out errors.

.. math::
    \min_W \lVert XW - Y\rVert_F^2 + \lambda \lVert W\rVert_F^2
    \quad\Rightarrow\quad W = (X^\top X + \lambda I)^{-1} X^\top Y = X^\top (X X^\top + \lambda I)^{-1} Y

The left form (primal) inverts a d × d matrix, the right form (dual) n × n; the smaller one is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import pair, real, wide
from modalign.linalg.linear_map import LinearMap

_CHUNK = 1 << 20  # numbers converted to float64 at a time


class RidgeFactorization:
    r"""Eigendecomposition of :math:`X^\top X = V \Lambda V^\top` (n > d) or :math:`X X^\top = U \Lambda U^\top`.

    The decomposition costs O(n d min(n, d) + min(n, d)³). The weights of each λ then cost O(d² dy). Sums are computed
    in float64; X is stored by reference.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        Rows to map from, n, d ≥ 1; half precision is computed in float32.
    intercept : bool
        Also fit a bias that is not penalized, by centering X and Y.

    Attributes
    ----------
    eigenvalues : Tensor of shape (k,)
        Eigenvalues of the smaller Gram matrix, ascending.
    rank : int
        Numerical rank of (centered) X. Singular values below the precision of the input are treated as zero.

    References
    ----------
    Hastie, Tibshirani and Friedman, The elements of statistical learning, 2nd edition, equation 3.44 and section
    18.3.5 (dual form); Allen, The relationship between variable selection and data augmentation, 1974 (leave-one-out
    residual e_i / (1 − h_ii)).
    """

    def __init__(self, X: Tensor, *, intercept: bool = False) -> None:
        self._X = real(X, "X", ndim=2).detach()
        n, d = self._X.shape
        if 0 in (n, d):
            raise InputError(f"Expected X with at least one row and one column, got shape ({n}, {d}).")
        self.intercept = intercept
        self._exact = wide(X.device)
        self._mean = self._X.sum(dim=0, dtype=self._exact) / n if intercept else None
        self.primal = n > d  # in a square problem leave-one-out loses digits in the primal form
        if self.primal:
            gram = sum(part.mT @ part for _, part in self._centered())
        else:
            rows = torch.cat([part for _, part in self._centered()])
            gram = rows @ rows.mT
            if intercept:
                # Rows sum to zero, so the constant vector has eigenvalue 0; lifted above all others it comes last and
                # is dropped, and what is left lives in the centered space alone.
                gram += 2 * gram.trace().clamp_min(1) / n
        values, vectors = torch.linalg.eigh(gram)
        if intercept and not self.primal:
            values, vectors = values[:-1], vectors[:, :-1]
        self.eigenvalues, self._vectors = values.clamp_min(0), vectors
        self._largest = float(self.eigenvalues[-1]) if len(values) else 0.0
        noise = max(torch.finfo(self._exact).eps, torch.finfo(self._X.dtype).eps ** 2)
        self._determined = self.eigenvalues > noise * max(n, d) * self._largest
        self.rank = int(self._determined.sum())

    def solve(self, Y: Real[Tensor, "n dy"], lam: float) -> LinearMap:
        """Return the map for one λ ≥ 0; λ = 0 is least squares of minimum norm."""
        return self.path(Y, [lam])[0]

    def path(self, Y: Real[Tensor, "n dy"], lams: Sequence[float] | Tensor) -> list[LinearMap]:
        """Return the map for every λ ≥ 0. One product with the data, O(n d dy), then O(min(n, d) d dy) per λ.

        ``LinearMap.condition`` is that of X stacked on √λ I; ``residual`` is accurate to about 1e-8.
        """
        dtype = self._dtype(Y)
        Y, mean, projected = self._project(Y)
        size, along = Y.square().sum(), projected.square().sum(dim=1)
        outside = torch.zeros_like(size)
        if self.primal:  # targets leave the span of the columns of X; in the dual form they cannot
            along = torch.where(self._determined, along / self.eigenvalues, 0)
            centered = size if mean is None else size - len(Y) * mean.square().sum()
            outside = (centered - along.sum()).clamp_min(0)
        maps = []
        for lam in _penalties(lams, strict=False):
            inverse = torch.where(self._determined, 1 / (self.eigenvalues + lam), 0)
            weight = self._weight(projected * inverse[:, None])
            bias = None if mean is None or self._mean is None else (mean - self._mean @ weight).to(dtype)
            left = outside + (along * (1 - self.eigenvalues * inverse).square()).sum()
            residual = float((left / size).sqrt()) if size > 0 else 0.0
            maps.append(LinearMap(weight.to(dtype), bias, residual, self._condition(lam), self.rank))
        return maps

    def leave_one_out(self, Y: Real[Tensor, "n dy"], lams: Sequence[float] | Tensor) -> Float[Tensor, " L"]:
        """Return the leave-one-out mean squared error per entry of Y for every λ > 0, (L,).

        Exact, without refitting; O(n d dy) per λ, with bounded additional memory.
        """
        lams = _penalties(lams, strict=True)
        total = torch.zeros(len(lams), dtype=self._exact, device=self._X.device)
        for which, _, errors in self._leave_one_out_errors(Y, lams):
            total[which] += errors.square().sum()
        return total / Y.numel()

    def leave_one_out_predictions(self, Y: Real[Tensor, "n dy"], lam: float) -> Float[Tensor, "n dy"]:
        """Return the leave-one-out predictions for one λ > 0, (n, dy)."""
        errors = [part for _, _, part in self._leave_one_out_errors(Y, _penalties([lam], strict=True))]
        return Y.to(self._dtype(Y)) - torch.cat(errors).to(self._dtype(Y))

    def _leave_one_out_errors(self, Y: Tensor, lams: list[float]) -> Iterator[tuple[int, slice, Tensor]]:
        """Which λ, which rows, their errors (r, dy); all rows of a λ in order."""
        Y, mean, projected = self._project(Y)
        inverses = [1 / (self.eigenvalues + lam) for lam in lams]
        if not self.primal:  # e = λ c and 1 − h = λ diag, with (c, diag) of the inverse of X Xᵀ + λ I
            for which, inverse in enumerate(inverses):
                coefficients = self._vectors @ (projected * inverse[:, None])
                diagonal = self._vectors.square() @ inverse
                yield which, slice(None), coefficients / diagonal[:, None]
            return
        for rows, part in self._centered():
            along = part @ self._vectors
            wanted = Y[rows] if mean is None else Y[rows] - mean
            for which, inverse in enumerate(inverses):
                leverage = along.square() @ inverse + (1 / len(Y) if self.intercept else 0)
                errors = wanted - along @ (projected * inverse[:, None])
                yield which, rows, errors / (1 - leverage)[:, None]

    def _centered(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows of X in float64, less the mean where there is an intercept."""
        step = max(1, _CHUNK // self._X.shape[1])
        for first in range(0, len(self._X), step):
            rows = slice(first, first + step)
            part = self._X[rows].to(self._exact)
            yield rows, part if self._mean is None else part - self._mean

    def _project(self, Y: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Y in float64, its mean if there is an intercept, and its product with the eigenvectors, (k, dy)."""
        Y = real(Y, "Y", ndim=2).detach().to(self._exact)
        if len(Y) != len(self._X):
            raise InputError(f"Expected one row of Y per row of X ({len(self._X)}), got {len(Y)}.")
        mean = Y.mean(dim=0) if self.intercept else None
        centered = Y if mean is None else Y - mean
        if self.primal:
            return Y, mean, self._vectors.mT @ sum(part.mT @ centered[rows] for rows, part in self._centered())
        return Y, mean, self._vectors.mT @ centered

    def _dtype(self, Y: Tensor) -> torch.dtype:
        return torch.promote_types(self._X.dtype, real(Y, "Y", finite=False).dtype)

    def _weight(self, coefficients: Tensor) -> Tensor:
        """(d, dy) from coefficients along the eigenvectors."""
        combined = self._vectors @ coefficients
        if self.primal:
            return combined
        return sum(part.mT @ combined[rows] for rows, part in self._centered())

    def _condition(self, lam: float) -> float:
        if self.rank == 0 and lam == 0:
            return math.inf
        counts = lam == 0 or self.rank == self._X.shape[1]  # else a direction of X has singular value 0
        smallest = float(self.eigenvalues[self._determined][0]) if counts else 0.0
        return math.sqrt((self._largest + lam) / (smallest + lam))


def ridge(X: Real[Tensor, "n dx"], Y: Real[Tensor, "n dy"], lam: float, *, intercept: bool = False) -> LinearMap:
    """Ridge regression of Y on X for one λ; use :class:`RidgeFactorization` for several or for leave-one-out.

    Parameters
    ----------
    X : Tensor of shape (n, dx)
        Rows to map from.
    Y : Tensor of shape (n, dy)
        Rows to map to.
    lam : float
        λ ≥ 0, in the units of the squared singular values of X (it is not multiplied by n); 0 is least squares of
        minimum norm.
    intercept : bool, default=False
        Also fit a bias that is not penalized.

    Returns
    -------
    LinearMap
        In the wider dtype of X and Y (float32 for half precision).
    """
    X, Y = pair(X, Y)
    return RidgeFactorization(X, intercept=intercept).solve(Y, lam)


def ridge_weights(
    X: Real[Tensor, "... n dx"], Y: Real[Tensor, "... n dy"], lam: float | Tensor
) -> Float[Tensor, "... dx dy"]:
    """Ridge weights by Cholesky factorization: batched, and differentiable in X, Y and λ.

    At most a third of the cost of :func:`ridge`; for use in a training loop.

    Parameters
    ----------
    X : Tensor of shape (..., n, dx)
        Rows to map from.
    Y : Tensor of shape (..., n, dy)
        Rows to map to.
    lam : float or Tensor
        λ > 0, a number or a tensor (...,).

    Returns
    -------
    Tensor of shape (..., dx, dy)
        In the wider dtype of X and Y, factorized in float64. Cost: O(n d min(n, d) + min(n, d)³).

    Raises
    ------
    InputError
        λ is not positive, or so small that X Xᵀ + λ I is singular in float64; an entry is NaN; shapes do not match.
    """
    X, Y = real(X, "X"), real(Y, "Y")
    if X.ndim < 2 or Y.ndim < 2 or X.shape[-2] != Y.shape[-2] or 0 in X.shape[-2:]:
        raise InputError(f"Expected X (..., n, dx) and Y (..., n, dy), got {tuple(X.shape)} and {tuple(Y.shape)}.")
    dtype, exact = torch.promote_types(X.dtype, Y.dtype), wide(X.device)
    lam = torch.as_tensor(lam, dtype=exact, device=X.device)
    if not bool((lam > 0).all()):
        raise InputError("Expected every λ > 0; use ridge(X, Y, 0) for least squares of minimum norm.")
    X, Y = X.to(exact), Y.to(exact)
    primal = X.shape[-2] >= X.shape[-1]
    gram = X.mT @ X if primal else X @ X.mT
    identity = torch.eye(gram.shape[-1], dtype=exact, device=X.device)
    factor, failed = torch.linalg.cholesky_ex(gram + lam[..., None, None] * identity)
    if bool(failed.any()):
        raise InputError(f"Expected a λ that makes the system regular, got {float(lam.min()):g}; take a larger one.")
    if primal:
        return torch.cholesky_solve(X.mT @ Y, factor).to(dtype)
    return (X.mT @ torch.cholesky_solve(Y, factor)).to(dtype)


def _penalties(lams: Sequence[float] | Tensor, *, strict: bool) -> list[float]:
    values = torch.as_tensor(lams, dtype=torch.float64).flatten().tolist()
    if not values or not all(math.isfinite(lam) and (lam > 0 or (lam == 0 and not strict)) for lam in values):
        bound = "> 0" if strict else "≥ 0"
        raise InputError(f"Expected at least one λ, all finite and {bound}, got {values}.")
    return values
