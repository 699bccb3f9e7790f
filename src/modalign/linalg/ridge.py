r"""Weights of ridge regression.

.. math::
    \min_W \lVert XW - Y\rVert_F^2 + \lambda \lVert W\rVert_F^2
    \quad\Rightarrow\quad W = (X^\top X + \lambda I)^{-1} X^\top Y = X^\top (X X^\top + \lambda I)^{-1} Y

The left form (primal) inverts a d × d matrix, the right form (dual) n × n; the smaller one is used.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype, float_tensor


def ridge_weights(
    X: Real[Tensor, "... n dx"], Y: Real[Tensor, "... n dy"], lam: float | Tensor
) -> Float[Tensor, "... dx dy"]:
    """Ridge weights by Cholesky factorization: batched, and differentiable in X, Y and λ.

    Parameters
    ----------
    X : Tensor of shape (..., n, dx)
        Rows to map from.
    Y : Tensor of shape (..., n, dy)
        Rows to map to.
    lam : float or Tensor
        λ > 0, a number or a tensor (...,), in the units of the squared singular values of X; it is not multiplied by n.

    Returns
    -------
    Tensor of shape (..., dx, dy)
        In the wider dtype of X and Y, factorized in float64. Cost: O(n d min(n, d) + min(n, d)³).

    Raises
    ------
    InputError
        λ is not positive, or so small that X Xᵀ + λ I is singular in float64; an entry is NaN; shapes do not match.

    References
    ----------
    Hastie, Tibshirani and Friedman, The elements of statistical learning, 2nd edition, equation 3.44 and section
    18.3.5 (dual form).
    """
    X, Y = float_tensor(X, "X"), float_tensor(Y, "Y")
    if X.ndim < 2 or Y.ndim < 2 or X.shape[-2] != Y.shape[-2] or 0 in X.shape[-2:]:
        raise InputError(f"Expected X (..., n, dx) and Y (..., n, dy), got {tuple(X.shape)} and {tuple(Y.shape)}.")
    dtype, exact = torch.promote_types(X.dtype, Y.dtype), exact_dtype(X.device)
    lam = torch.as_tensor(lam, dtype=exact, device=X.device)
    if not bool((lam > 0).all()):
        raise InputError(f"Expected every λ > 0, got {float(lam.min()):g}.")
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
