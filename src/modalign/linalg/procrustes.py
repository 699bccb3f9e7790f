"""Orthogonal and rectangular Procrustes: the isometry that best maps one set of vectors to another."""

from __future__ import annotations

import math

import torch
from jaxtyping import Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import pair, wide
from modalign.linalg.linear_map import LinearMap, relative_residual

_CHUNK = 1 << 20  # numbers converted to float64 at a time


def procrustes(
    X: Real[Tensor, "n dx"],
    Y: Real[Tensor, "n dy"],
    *,
    scale: bool = False,
    intercept: bool = False,
    complete: bool = False,
    rotation: bool = False,
    rank_tolerance: float | None = None,
) -> LinearMap:
    r"""Solve the Procrustes problem, :math:`\max_W \langle XW, Y\rangle` over :math:`\lVert W\rVert_2 \le 1`.

    With :math:`X^\top Y = U S V^\top`, the solution is the polar factor :math:`W = U V^\top` over the nonzero singular
    values. For dx ≤ dy (orthonormal rows) it also minimizes :math:`\lVert XW - Y\rVert_F`; for dx > dy it is a
    projection followed by a rotation. Directions that the data do not determine are mapped to zero, which is the
    solution of minimum norm.

    Parameters
    ----------
    X : Tensor of shape (n, dx)
        Rows to map; row i corresponds to row i of Y.
    Y : Tensor of shape (n, dy)
        Rows to map to.
    scale : bool, default=False
        Multiply W by the least-squares factor, :math:`\langle XW, Y\rangle / \lVert XW\rVert_F^2`.
    intercept : bool, default=False
        Center both sides first; the bias then maps one mean to the other.
    complete : bool, default=False
        Complete the undetermined directions so that W has orthonormal rows (dx ≤ dy) or columns (dx ≥ dy), with the map
        nearest to the identity.
    rotation : bool, default=False
        Require determinant +1 (dx = dy; implies ``complete``); the least determined direction is flipped if necessary.
    rank_tolerance : float or None, default=None
        Singular values below this share of the largest count as zero; default √max(dx, dy) times the precision of the
        input.

    Returns
    -------
    LinearMap
        In the wider dtype of X and Y; ``rank`` and ``condition`` are those of XᵀY. SVD in float64, of an n × n core if
        n < min(dx, dy) (see :func:`procrustes_from_factors`), else of XᵀY: O(n dx dy + dx dy min(dx, dy)).

    Raises
    ------
    InputError
        The numbers of rows differ, an entry is not finite, or ``rotation`` is requested for dx ≠ dy.

    References
    ----------
    Schönemann, A generalized solution of the orthogonal Procrustes problem, 1966; Higham, Functions of matrices, 2008,
    section 8.1 (canonical polar decomposition); Kabsch, 1976 (rotation). GPUA, the initial map W₀.
    """
    X, Y = pair(X, Y)
    X, Y = X.detach(), Y.detach()
    dtype, exact, bias = X.dtype, wide(X.device), None
    centered_x, centered_y = X, Y
    if intercept:
        mean_x, mean_y = X.mean(dim=0, dtype=exact), Y.mean(dim=0, dtype=exact)
        centered_x, centered_y = (X - mean_x).to(dtype), (Y - mean_y).to(dtype)
    weight, rank, condition = _polar(centered_x, centered_y, complete, rotation, rank_tolerance)
    if scale and rank:
        image = centered_x.to(exact) @ weight
        weight = weight * ((image * centered_y).sum() / image.square().sum())
    if intercept:
        bias = (mean_y - mean_x @ weight).to(dtype)
    weight = weight.to(dtype)
    return LinearMap(weight, bias, relative_residual(X, Y, weight, bias), condition, rank)


def procrustes_from_factors(
    A: Real[Tensor, "K dx"],
    B: Real[Tensor, "K dy"],
    *,
    complete: bool = False,
    rotation: bool = False,
    rank_tolerance: float | None = None,
) -> LinearMap:
    r"""Solve the Procrustes problem of :math:`M = A^\top B` without forming M, for K much smaller than dx and dy.

    Under soft assignments P (n, K) of images Z to K texts Y, :math:`Z^\top P Y = (P^\top Z)^\top Y` has these factors
    and rank K at most. With thin QR of both, :math:`A^\top = Q_A R_A` and :math:`B^\top = Q_B R_B`, the SVD is that of
    the K × K core :math:`R_A R_B^\top`.

    Parameters
    ----------
    A : Tensor of shape (K, dx)
        For example PᵀZ.
    B : Tensor of shape (K, dy)
        For example the class texts.
    complete, rotation, rank_tolerance : bool, default=False
        As in :func:`procrustes`.

    Returns
    -------
    LinearMap
        Without residual. Cost: O((dx + dy) K² + K³ + dx dy K); with ``complete`` plus one SVD of dx × dy.
    """
    A, B = pair(A, B)
    weight, rank, condition = _polar(A.detach(), B.detach(), complete, rotation, rank_tolerance)
    return LinearMap(weight.to(A.dtype), None, None, condition, rank)


def _polar(A: Tensor, B: Tensor, complete: bool, rotation: bool, tolerance: float | None) -> tuple[Tensor, int, float]:
    """W (dx, dy) in float64 of M = AᵀB, with the rank and condition of M."""
    dx, dy = A.shape[1], B.shape[1]
    if 0 in (dx, dy):
        raise InputError(f"Expected vectors of width at least 1, got {dx} and {dy}.")
    if rotation and dx != dy:
        raise InputError(f"Expected spaces of one width for a rotation, got {dx} and {dy}.")
    if tolerance is None:
        tolerance = torch.finfo(A.dtype).eps * math.sqrt(max(dx, dy))
    elif not 0 <= tolerance < 1:
        raise InputError(f"Expected rank_tolerance in [0, 1), got {tolerance}.")
    U, singular, V = _svd_of_product(A, B)
    largest = float(singular[0])
    kept = singular > tolerance * largest
    rank = int(kept.sum())
    condition = largest / float(singular[rank - 1]) if rank else math.inf
    U, V = U[:, kept], V[:, kept]
    if complete or rotation:
        U, V = _completed(U, V)
    if rotation and float(torch.linalg.slogdet(U @ V.mT).sign) < 0:
        U = torch.cat([U[:, :-1], -U[:, -1:]], dim=1)
    return U @ V.mT, rank, condition


def _svd_of_product(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors (dx, k), singular values, right vectors (dy, k) of AᵀB, in float64."""
    exact = wide(A.device)
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
