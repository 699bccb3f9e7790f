"""Gaussian classes with shared covariance and means shrunk toward predictions from the class texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.linalg.inputs import exact_dtype

SPREAD = 2.0  # variance that a class without labels and images has beyond the shared one, in units of 1 / strength
JITTER = 1e-6  # share of the mean second moment, added to the covariance, which is zero for copies


@dataclass(frozen=True)
class Moments:
    """Sums over images with weights a and assignments P, from which the classes are estimated.

    Attributes
    ----------
    total : float
        Σ a, at least 1.
    origin : Tensor of shape (d,)
        Weighted mean, which the other moments are around.
    sizes, sums : Tensor of shape (C,), Tensor of shape (C, d)
        Σ a P and Σ a P x per class.
    scatter : Tensor of shape (d, d)
        Σ a x xᵀ.
    spent : Tensor of shape (C,) or None
        Σ (a P)² / Σ a P per class, the degrees of freedom of the class averages; None where no image has a label.
    variance : float or None, default=None
        Σ a xᵀx / Σ a; None for that of ``scatter``.
    """

    total: float
    origin: Tensor
    sizes: Tensor
    sums: Tensor
    scatter: Tensor
    spent: Tensor | None
    variance: float | None = None


@dataclass(frozen=True)
class AnchoredClasses:
    r"""C Gaussians :math:`N(\mu_k, h_k \Sigma)`, fitted by :meth:`estimate`.

    Attributes
    ----------
    means : Tensor of shape (C, d)
        μ.
    factor : Tensor of shape (d, d)
        Lower Cholesky factor of Σ.
    spread : Tensor
        h ≥ 1.
    sizes : Tensor of shape (C,)
        Total weight of the images of each class.
    slope : float
        b, the scale of the map from texts to image means; 0 without text.
    """

    means: Tensor
    factor: Tensor
    spread: Tensor
    sizes: Tensor
    slope: float

    @classmethod
    def estimate(
        cls, X: Tensor, P: Tensor, weights: Tensor, text: Tensor | None, strength: float, labeled: Tensor
    ) -> AnchoredClasses:
        r"""Estimate the classes from images with soft assignments.

        With class sizes :math:`n_k = \sum_i a_i P_{ik}`, class means :math:`\bar x_k` and unit texts :math:`t_k`,

        .. math::
            \mu^0_k = c + b\, t_k, \qquad
            (b, c) = \arg\min \sum_k \tfrac{n_k}{n_k + \kappa}\, \lVert \bar x_k - c - b\, t_k \rVert^2, \qquad
            \mu_k = \frac{n_k \bar x_k + \kappa \mu^0_k}{n_k + \kappa}

        Σ is the within-class covariance, shrunk toward a multiple of the identity with the weight of d images: around
        the class averages, with the remaining degrees of freedom, if some images have labels, and around μ otherwise,
        since averages of wrong assignments are unreliable. The uncertainty of the mean widens the predictive
        distribution of a class: :math:`h_k = 1 + 2 / (n_k + \kappa)` for classes without a labeled image, 1 for the
        others.

        Parameters
        ----------
        X : Tensor of shape (n, d)
            Unit images.
        P : Tensor of shape (n, C)
            Assignments, rows on the simplex.
        weights : Tensor of shape (n,)
            Weights a ≥ 0.
        text : Tensor of shape (C, d) or None
            Unit texts, or None, where b = 0.
        strength : float
            κ > 0, in images.
        labeled : Tensor of shape (C,), bool
            Whether the class has a labeled image.

        Returns
        -------
        AnchoredClasses
            In float32 (Cholesky in float64 on a CPU). Cost O(n d (d + C) + d³).
        """
        total = weights.sum().clamp_min(1)
        origin = (weights @ X) / total  # moments around the mean lose no digits
        X = X - origin
        weighted = P * weights[:, None]
        sizes = weighted.sum(dim=0)
        spent = weighted.square().sum(dim=0) / sizes.clamp_min(1e-12) if bool(labeled.any()) else None
        variance = float((weights @ X.square()).sum() / total)
        moments = Moments(float(total), origin, sizes, weighted.T @ X, (X.T * weights) @ X, spent, variance)
        return cls.of(moments, text, strength, labeled)

    @classmethod
    def of(
        cls, moments: Moments, text: Tensor | None, strength: float, labeled: Tensor | None = None
    ) -> AnchoredClasses:
        """As :meth:`estimate`, from sums over the images; ``labeled`` is None where no image has a label."""
        sizes, sums = moments.sizes, moments.sums
        present = sizes / (sizes + strength)
        averages = sums / sizes.clamp_min(1e-12)[:, None]
        center = (present @ averages) / present.sum().clamp_min(1e-12)
        prior, slope = center.expand_as(averages), 0.0
        if text is not None:
            offsets = text - (present @ text) / present.sum().clamp_min(1e-12)
            scatter = (present @ offsets.square()).sum()
            slope = float((present[:, None] * offsets * (averages - center)).sum() / scatter.clamp_min(1e-12))
            prior = center + slope * offsets
        means = torch.lerp(prior, averages, present[:, None])
        around, freedom = means, moments.total
        if moments.spent is not None:  # labels make the class averages unbiased, and each costs a degree of freedom
            around = averages
            freedom -= float(moments.spent.sum())
        cross = sums.T @ around
        scatter = moments.scatter - cross - cross.T + (around.T * sizes) @ around
        variance = moments.variance
        if variance is None:
            variance = float(moments.scatter.diagonal().sum()) / moments.total
        factor = torch.linalg.cholesky(_shrunk(scatter.to(exact_dtype(sums.device)), freedom, variance)).to(sums.dtype)
        spread = 1 + SPREAD / (sizes + strength)
        if labeled is not None:
            spread = torch.where(labeled, 1.0, spread)
        return cls(means + moments.origin, factor, spread, sizes, slope)

    def log_density(self, X: Tensor) -> Tensor:
        """(n, d) images → (n, C) log-densities, up to a constant that all classes share. Cost O(n d (d + C))."""
        white = torch.linalg.solve_triangular(self.factor, X.T, upper=False).T
        return self._among(white, self._centers(), bool((self.spread == 1).all()))

    def expanded(self) -> ExpandedDensity:
        """The same as a linear function of the image and of one number of it, for images that are scored repeatedly."""
        exact = exact_dtype(self.factor.device)
        factor, inverse = self.factor.to(exact), 1 / self.spread.to(exact)
        centers = torch.linalg.solve_triangular(factor, self.means.T.to(exact), upper=False).T
        origin = centers.mean(dim=0)
        centers = centers - origin
        slopes = torch.linalg.solve_triangular(factor.T, (centers * inverse[:, None]).T, upper=True).T
        squares = centers.square().sum(dim=1) / 2 + centers @ origin
        offsets = -squares * inverse + factor.shape[0] / 2 * inverse.log()
        parts = (slopes, offsets, inverse - inverse.mean(), origin, factor)
        return ExpandedDensity(*(part.to(self.factor.dtype) for part in parts))

    def recorded(self) -> Callable[[Tensor], Tensor]:
        """:meth:`log_density` without a system to solve: everything that is the same for all images is computed now."""
        eye = torch.eye(len(self.factor), dtype=self.factor.dtype)
        whitening = torch.linalg.solve_triangular(self.factor, eye, upper=False).T
        centers, alike = self._centers(), bool((self.spread == 1).all())
        return lambda X: self._among(X @ whitening, centers, alike)

    def _centers(self) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, self.means.T, upper=False).T

    def _among(self, white: Tensor, centers: Tensor, alike: bool) -> Tensor:
        """Log-densities of whitened images; ``alike``: all classes have the same spread."""
        origin = centers.mean(dim=0)
        white, centers = white - origin, centers - origin
        if alike:
            return torch.addmm(-centers.square().sum(dim=1) / 2, white, centers.T)
        distance = white.square().sum(dim=1)[:, None] / 2 + centers.square().sum(dim=1) / 2 - white @ centers.T
        return -distance / self.spread - white.shape[1] / 2 * self.spread.log()


@dataclass(frozen=True)
class ExpandedDensity:
    r"""Log-densities :math:`a_k^\top x + b_k - u_k r(x)`, up to a constant that all classes share.

    :math:`r(x) = \tfrac12 \lVert L^{-1} x - o \rVert^2` with the Cholesky factor L of Σ and the mean o of the whitened
    class means.

    Attributes
    ----------
    slopes : Tensor of shape (C, d)
        a.
    offsets : Tensor of shape (C,)
        b.
    curvatures : Tensor of shape (C,)
        u, :math:`1 / h_k` less its mean.
    origin : Tensor of shape (d,)
        o.
    factor : Tensor of shape (d, d)
        L.
    """

    slopes: Tensor
    offsets: Tensor
    curvatures: Tensor
    origin: Tensor
    factor: Tensor

    def radius(self, X: Tensor) -> Tensor:
        """(n, d) images → (n,) r. Cost O(n d²)."""
        white = torch.linalg.solve_triangular(self.factor, X.T, upper=False)
        return white.sub_(self.origin[:, None]).square_().sum(dim=0) / 2


def _shrunk(scatter: Tensor, freedom: float, variance: float) -> Tensor:
    """The covariance of a (d, d) scatter with ``freedom`` degrees of freedom, shrunk toward a multiple of the identity.

    The target is the mean variance of a direction, which the total ``variance`` stands in for with one degree of
    freedom; it has the weight of d of them.
    """
    d = len(scatter)
    level = (float(scatter.diagonal().sum()) + variance) / (max(freedom, 0.0) + 1) / d + JITTER / d
    covariance = scatter / (max(freedom, 0.0) + d)
    covariance.diagonal().add_(level * d / (max(freedom, 0.0) + d))
    return covariance
