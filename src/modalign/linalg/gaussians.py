"""Gaussians fitted to vectors, distances between Gaussians, and measures of the modality gap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import torch
from jaxtyping import Float, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype, float_tensor


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance); the covariance may be singular.

    Attributes
    ----------
    mean : Tensor of shape (d,), float64
        Mean of the rows.
    covariance : Tensor of shape (d, d), float64
        Symmetric and positive semi-definite.
    """

    mean: Tensor = field(repr=False)
    covariance: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        d = self.mean.shape[-1] if self.mean.ndim == 1 else -1
        if self.covariance.shape != (d, d):
            raise InputError(
                f"Expected a mean (d,) and a covariance (d, d), got {tuple(self.mean.shape)} and "
                f"{tuple(self.covariance.shape)}."
            )
        for name in ("mean", "covariance"):
            tensor = float_tensor(getattr(self, name), name)
            object.__setattr__(self, name, tensor.detach().to(exact_dtype(tensor.device)))

    @classmethod
    def fit(cls, X: Real[Tensor, "n d"]) -> Self:
        """Fit by maximum likelihood to (n, d) rows, n ≥ 1, with the covariance divided by n. O(n d²)."""
        X = float_tensor(X, "X", ndim=2).detach()
        if 0 in X.shape:
            raise InputError(f"Expected at least one row and one column, got shape {tuple(X.shape)}.")
        X = X.to(exact_dtype(X.device))
        mean = X.mean(dim=0)
        centered = X - mean
        return cls(mean, centered.mT @ centered / len(X))

    def axes(self) -> tuple[Float[Tensor, " r"], Float[Tensor, "d r"]]:
        """Return variances (r,) and directions (d, r) of the support, ascending, without rounding noise."""
        values, vectors = torch.linalg.eigh((self.covariance + self.covariance.mT) / 2)
        largest = float(values[-1].clamp_min(0))
        noise = len(values) * torch.finfo(values.dtype).eps * largest
        if float(values[0]) < -math.sqrt(torch.finfo(values.dtype).eps) * largest or largest < float(-values[0]):
            raise InputError(
                f"Expected a positive semi-definite covariance, got an eigenvalue of {float(values[0]):g}."
            )
        kept = values > noise
        return values[kept], vectors[:, kept]


@dataclass(frozen=True)
class ModalityGap:
    """Distances between the distributions of images and texts, as in the figures of CMM.

    Attributes
    ----------
    kl_pca2 : float
        KL(images ‖ texts) in nats between Gaussians in the common plane of largest variance; infinite with fewer than
        three texts, whose covariance is singular.
    wasserstein2 : float
        Distance between Gaussians in all d dimensions.
    centroid_distance : float
        Distance between the means.
    """

    kl_pca2: float
    wasserstein2: float
    centroid_distance: float


@dataclass(frozen=True)
class Plane:
    """Plane of the two directions of largest variance.

    Attributes
    ----------
    center : Tensor of shape (d,)
        Mean of the rows, the origin of the plane.
    axes : Tensor of shape (d, 2)
        Orthonormal columns; the largest entry of each is positive.
    explained : tuple of (float, float)
        Share of the variance along each.
    """

    center: Tensor = field(repr=False)
    axes: Tensor = field(repr=False)
    explained: tuple[float, float]

    def project(self, X: Real[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """(n, d) rows to (n, 2) coordinates in float64."""
        return (float_tensor(X, "X", ndim=2).to(self.center.dtype) - self.center) @ self.axes


def kl(p: Gaussian, q: Gaussian) -> float:
    r"""Kullback–Leibler divergence KL(p ‖ q) in nats.

    .. math::
        \tfrac12\big[\mathrm{tr}(\Sigma_q^{-1}\Sigma_p) + (\mu_q-\mu_p)^\top\Sigma_q^{-1}(\mu_q-\mu_p) - r
        + \log\tfrac{|\Sigma_q|}{|\Sigma_p|}\big]

    on the common support, of dimension r. Infinite if the supports differ. O(d³).
    """
    _same_width(p, q)
    variances_q, axes_q = q.axes()
    variances_p, axes_p = p.axes()
    shift = p.mean - q.mean
    outside = shift - axes_q @ (axes_q.mT @ shift)
    spread = axes_p - axes_q @ (axes_q.mT @ axes_p)
    scale = float(p.mean.norm() + q.mean.norm() + variances_q.sum().sqrt())
    if len(variances_p) != len(variances_q) or float(outside.norm()) > 1e-8 * scale or float(spread.norm()) > 1e-6:
        return math.inf
    whitened_shift = (axes_q.mT @ shift) / variances_q.sqrt()
    factor = (axes_q.mT @ axes_p) * variances_p.sqrt() / variances_q.sqrt()[:, None]
    log_ratio = variances_q.log().sum() - variances_p.log().sum()
    value = factor.square().sum() + whitened_shift.square().sum() - len(variances_q) + log_ratio
    return max(0.0, float(value) / 2)


def wasserstein2(p: Gaussian, q: Gaussian) -> float:
    r"""Wasserstein-2 distance (not squared) between Gaussians, finite for any two covariances.

    .. math::
        W_2^2 = \lVert\mu_p-\mu_q\rVert^2 + \mathrm{tr}\big(\Sigma_p + \Sigma_q
        - 2(\Sigma_p^{1/2}\Sigma_q\Sigma_p^{1/2})^{1/2}\big)

    The trace of the last root is the nuclear norm of :math:`L_p^\top L_q` with :math:`\Sigma = L L^\top` from the
    eigenvectors of each, which is accurate for rank-deficient covariances. O(d³). For equal Gaussians the result is
    about 1e-8 of their scale, not 0.

    References
    ----------
    Dowson and Landau, The Fréchet distance between multivariate normal distributions, 1982.
    """
    _same_width(p, q)
    variances_p, axes_p = p.axes()
    variances_q, axes_q = q.axes()
    overlap = (axes_p.mT @ axes_q) * variances_p.sqrt()[:, None] * variances_q.sqrt()
    nuclear = torch.linalg.svdvals(overlap).sum() if overlap.numel() else overlap.sum()
    squared = (p.mean - q.mean).square().sum() + variances_p.sum() + variances_q.sum() - 2 * nuclear
    return math.sqrt(max(0.0, float(squared)))


def principal_plane(*sets: Tensor) -> Plane:
    """PCA of all sets together to two dimensions, with equal weight per row; d ≥ 2. O(n d² + d³)."""
    if not sets or len({X.shape[-1] for X in sets}) != 1:
        raise InputError(f"Expected vectors of one width, got {[tuple(X.shape) for X in sets]}.")
    together = Gaussian.fit(torch.cat([float_tensor(X, "X", ndim=2).to(exact_dtype(X.device)) for X in sets]))
    if len(together.mean) < 2:
        raise InputError("Expected vectors of width at least 2, got 1.")
    values, vectors = torch.linalg.eigh(together.covariance)
    axes = vectors[:, -2:].flip(1)
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))
    total = float(values.clamp_min(0).sum())
    first, second = (float(v) / total if total > 0 else 0.0 for v in values[-2:].clamp_min(0).flip(0))
    return Plane(together.mean, axes, (first, second))


def modality_gap(X_image: Real[Tensor, "n d"], X_text: Real[Tensor, "m d"]) -> ModalityGap:
    """Modality gap between image vectors (n, d) and text vectors (m, d), which should be normalized.

    Cost O((n + m) d² + d³).

    References
    ----------
    CMM, section "modality gap" and figures 6 (KL after PCA to two dimensions) and 7 (full Wasserstein-2).
    """
    plane = principal_plane(X_image, X_text)
    image, text = Gaussian.fit(X_image), Gaussian.fit(X_text)
    return ModalityGap(
        kl_pca2=kl(Gaussian.fit(plane.project(X_image)), Gaussian.fit(plane.project(X_text))),
        wasserstein2=wasserstein2(image, text),
        centroid_distance=float((image.mean - text.mean).norm()),
    )


def _same_width(p: Gaussian, q: Gaussian) -> None:
    if len(p.mean) != len(q.mean):
        raise InputError(f"Expected Gaussians of one dimension, got {len(p.mean)} and {len(q.mean)}.")
