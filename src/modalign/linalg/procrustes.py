"""Orthogonal and rectangular Procrustes: the isometry that best maps one set of vectors to another."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype, paired_rows

_CHUNK = 1 << 20  # numbers converted to float64 at a time


def procrustes(A: Real[Tensor, "n dx"], B: Real[Tensor, "n dy"], *, complete: bool = False) -> Float[Tensor, "dx dy"]:
    r"""Solve the Procrustes problem, :math:`\max_W \langle AW, B\rangle` over :math:`\lVert W\rVert_2 \le 1`.

    With :math:`A^\top B = U S V^\top`, the solution is the polar factor :math:`W = U V^\top` over the nonzero singular
    values. For dx ≤ dy (orthonormal rows) it also minimizes :math:`\lVert AW - B\rVert_F`; for dx > dy it is a
    projection followed by a rotation. Directions that the data do not determine are mapped to zero, which is the
    solution of minimum norm.

    W depends on :math:`A^\top B` alone. Under soft assignments P (n, K) of images Z to K texts Y,
    :math:`Z^\top P Y = (P^\top Z)^\top Y`, so :math:`P^\top Z` and Y with K rows replace Z and PY with n.

    Parameters
    ----------
    A : Tensor of shape (n, dx)
        Rows to map; row i corresponds to row i of B.
    B : Tensor of shape (n, dy)
        Rows to map to.
    complete : bool, default=False
        Complete the undetermined directions so that W has orthonormal rows (dx ≤ dy) or columns (dx ≥ dy), with the map
        nearest to the identity.

    Returns
    -------
    Tensor of shape (dx, dy)
        W, in the wider dtype of A and B. For n < min(dx, dy), :math:`A^\top B` is not formed: with thin QR,
        :math:`A^\top = Q_A R_A` and :math:`B^\top = Q_B R_B`, the SVD is that of the core :math:`R_A R_B^\top`, and the
        cost is O((dx + dy) n² + n³ + dx dy n). Else it is O(n dx dy + dx dy min(dx, dy)). Computed in float64.

    Raises
    ------
    InputError
        The numbers of rows differ, or an entry is not finite.

    References
    ----------
    Schönemann, A generalized solution of the orthogonal Procrustes problem, 1966; Higham, Functions of matrices, 2008,
    section 8.1 (canonical polar decomposition). GPUA, the initial map W₀.
    """
    A, B = paired_rows(A, B)
    dx, dy = A.shape[1], B.shape[1]
    if 0 in (dx, dy):
        raise InputError(f"Expected vectors of width at least 1, got {dx} and {dy}.")
    U, singular, V = _svd_of_product(A.detach(), B.detach())
    kept = singular > torch.finfo(A.dtype).eps * math.sqrt(max(dx, dy)) * float(singular[0])
    U, V = U[:, kept], V[:, kept]
    if complete:
        U, V = _completed(U, V)
    return (U @ V.mT).to(A.dtype)


def _svd_of_product(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors (dx, k), singular values, right vectors (dy, k) of AᵀB, in float64."""
    exact = exact_dtype(A.device)
    if len(A) < min(A.shape[1], B.shape[1]):
        QA, RA = torch.linalg.qr(A.to(exact).mT)
        QB, RB = torch.linalg.qr(B.to(exact).mT)
        U, singular, Vh = _svd(RA @ RB.mT)
        return QA @ U, singular, QB @ Vh.mT
    rows = max(1, _CHUNK // max(A.shape[1], B.shape[1]))
    parts = zip(A.split(rows), B.split(rows), strict=True)
    U, singular, Vh = _svd(sum(a.to(exact).mT @ b.to(exact) for a, b in parts))
    return U, singular, Vh.mT


def _svd(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD with a fallback for inputs on which divide and conquer does not converge."""
    try:
        return torch.linalg.svd(M, full_matrices=False)
    except torch.linalg.LinAlgError:
        import scipy.linalg  # late: it is rarely needed and slow to import

        parts = scipy.linalg.svd(M.cpu().numpy(), full_matrices=False, lapack_driver="gesvd")
        U, singular, Vh = (torch.from_numpy(part).to(M) for part in parts)
        return U, singular, Vh


def _completed(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """Bases (dx, m) and (dy, m), m = min(dx, dy), that begin with U and V.

    On the orthogonal complements of U and V, W is the polar factor of the restricted identity; remaining directions are
    completed with canonical vectors.
    """
    (dx, rank), (dy, _) = U.shape, V.shape
    missing = min(dx, dy) - rank
    if missing == 0:
        return U, V
    complement = torch.eye(dx, dy, dtype=U.dtype, device=U.device)
    complement = complement - U @ (U.mT @ complement)
    complement = complement - (complement @ V) @ V.mT
    left, singular, right = _svd(complement)
    kept = int((singular[:missing] > 1e-6).sum())
    U, V = torch.cat([U, left[:, :kept]], dim=1), torch.cat([V, right.mT[:, :kept]], dim=1)
    return _filled(U, missing - kept), _filled(V, missing - kept)


def _filled(basis: Tensor, count: int) -> Tensor:
    """Append ``count`` orthonormal columns: each time the canonical vector farthest from their span, orthogonalized."""
    for _ in range(count):
        farthest = int((1 - basis.square().sum(dim=1)).argmax())
        column = -basis @ basis[farthest]
        column[farthest] += 1
        column = column - basis @ (basis.mT @ column)
        basis = torch.cat([basis, (column / column.norm())[:, None]], dim=1)
    return basis
