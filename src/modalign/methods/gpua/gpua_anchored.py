"""Default variant of GPUA: plan and map that rely on the class texts for classes with few images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.core.renaming import stacklevel_outside
from modalign.linalg.divergence import divergence_from_uniform
from modalign.linalg.procrustes import procrustes
from modalign.methods.anchored.anchored_classes import AnchoredClasses
from modalign.methods.anchored.anchored_gaussian import COVERAGE, AnchoredGaussian
from modalign.methods.contract.team import Team, together
from modalign.methods.gpua.gpua_correspondence import Assignment, FixedTerms
from modalign.methods.gpua.gpua_marginals import EVEN, FLOOR, Marginals
from modalign.methods.gpua.gpua_rows import Images

EVEN_RHO, ESTIMATE_RHO = 1.0, 0.1  # KL strength of equal and of estimated class shares
TEXT_VOTES = 3.0  # weight of the text of a class in W₀, in classes full of images
IMAGE_PRIOR = 2.0  # images for which a class has half a vote in W₀
MAP_WEIGHT = 0.7  # of the learned map against the map of the language view, where all classes have images
NO_IMAGE = 0.5  # estimated images of a class below which it counts as absent


@dataclass(frozen=True)
class Ground:
    """Anchored Gaussian classes of the images, in the concatenated visual spaces and language view.

    Attributes
    ----------
    classes : AnchoredClasses
        The Gaussian classes.
    sizes : Tensor of shape (K,)
        Estimated images of each class, of all n.
    coverage : float
        Share of the classes that the images show, by the perplexity of the sizes.
    trust : float
        Weight of the learned map for new images, in [0, 1].
    """

    classes: AnchoredClasses
    sizes: Tensor
    coverage: float
    trust: float

    @classmethod
    def estimate(cls, images: Images, rows: Tensor, text: Tensor, weight: float, logit_scale: float) -> Ground:
        r"""From some of the images, by :class:`~modalign.methods.anchored.anchored_gaussian.AnchoredGaussian` without
        labels.

        The text of class k is :math:`[0 \mid y_k]` in the joint space. ``trust`` is
        :math:`\min(1, \text{coverage} / 0.8)^2 \, n / (n + K)`.

        Parameters
        ----------
        images : Images
            Z and X of the paper.
        rows : Tensor
            The images of the sample.
        text : Tensor of shape (K, d_t)
            Unit class texts.
        weight : float
            λ, weight of zero-shot.
        logit_scale : float
            s.

        Returns
        -------
        Ground
            Costs ten estimates of O(m d (d + K) + d³) on m sampled images of d columns.
        """
        Z = _joint(*images.take(rows), images)
        padded = _padded(text, images, Z.shape[1])
        views = Z.square().sum(dim=1).max().sqrt().item() or 1.0  # √(number of spaces): the length of a row
        model = AnchoredGaussian(discriminant_weight=1 - weight, logit_scale=logit_scale * views)
        with together(Team()):  # every process has the whole sample
            model.fit(Z, text=padded)
        scale = model.new_image_weight_ / model.discriminant_weight_ if weight < 1 else 1.0
        classes = AnchoredClasses(
            model.means_ * views, model.factor_ * views, model.spread_, model.class_sizes_, model.diagnosis_["slope"]
        )
        n, K = images.total, len(text)
        sizes = model.class_sizes_ * (n / len(rows))
        return cls(classes, sizes, model.diagnosis_["coverage"], scale * n / (n + K))

    def density_terms(self, images: Images, factor: float) -> FixedTerms:
        """The log-densities of all images, times ``factor``, as terms of the affinity. Cost O(n d²)."""
        density = self.classes.expanded()
        radius = density.slopes.new_empty(len(images))
        for rows, Z, view in images.blocks():
            radius[rows] = density.radius(_joint(Z, view, images))
        visual, language = factor * density.slopes, density.slopes.new_zeros(())
        if images.columns is None:
            visual, language = visual.split([sum(images.widths), visual.shape[1] - sum(images.widths)], dim=1)
        return FixedTerms(visual, language, factor * density.offsets, factor * density.curvatures, radius)

    def marginals(self, allow_uniform: bool) -> Marginals:
        """Return equal shares if the sizes are nearly equal, else the sizes."""
        K, kl = len(self.sizes), float(divergence_from_uniform(self.sizes))
        numbers = {"kl_estimated": kl}
        if allow_uniform and kl <= EVEN:
            return Marginals(torch.full((K,), 1 / K, device=self.sizes.device), "uniform", numbers, EVEN_RHO)
        shares = (self.sizes / self.sizes.sum() + FLOOR / K) / (1 + FLOOR)
        return Marginals(shares, "estimated", numbers, ESTIMATE_RHO)

    def report(self) -> dict[str, float]:
        """Return entries of ``diagnosis_``; warn if classes seem to be absent."""
        absent = int((self.sizes < NO_IMAGE).sum())
        if absent and self.coverage < COVERAGE:
            seem = "seems" if absent == 1 else "seem"
            warnings.warn(
                f"About {absent} of the {len(self.sizes)} classes {seem} to have no image; new images are classified "
                "mostly by the class texts.",
                stacklevel=stacklevel_outside(),
            )
        return {
            "absent_classes": absent,
            "coverage": self.coverage,
            "new_image_weight": MAP_WEIGHT * self.trust,
        }


def language_map(images: Images, basis: Tensor) -> Tensor:
    """Return the map (d_v, r) of zero-shot classification with the language view, in coordinates of the text span.

    If the language view is part of Z, the map selects its columns. Otherwise it is the orthogonal Procrustes map from
    the visual spaces to the language view.
    """
    W = basis.new_zeros(sum(images.widths), basis.shape[1])
    if images.columns is not None:
        W[images.columns] = basis
        return W
    for _, Z, view in images.blocks():
        W += Z.T @ (view @ basis)
    return _polar(images.team.sum(W))


def initial_map(assignment: Assignment, text: Tensor, language: Tensor) -> Tensor:
    r"""Return the initial map (d_v, r), with equal weight per class and the text as a pseudo-image.

    .. math::
        W_0 = \operatorname{polar}\Big(\sum_k \tfrac{n_k}{n_k + 2}\, c_k y_k^\top + \kappa \sum_k (L y_k) y_k^\top\Big)

    Parameters
    ----------
    assignment : Assignment
        Of the plan, with moments and masses n_k; a class with few images has a small share of a vote.
    text : Tensor of shape (K, r)
        Unit texts.
    language : Tensor of shape (d_v, r)
        L, see :func:`language_map`.
    """
    mass = assignment.mass[:, None]
    votes = assignment.moments / (mass + IMAGE_PRIOR)  # n_k / (n_k + 2) times the barycenter, also where n_k is 0
    visual = votes.to(text.dtype)
    return procrustes(torch.cat([visual, TEXT_VOTES * text @ language.T]), torch.cat([text, text]), complete=True)


def orthogonal_mean(language: Tensor, learned: Tensor, weight: float) -> Tensor:
    """The orthogonal map nearest to the weighted mean of two."""
    return _polar(torch.lerp(language, learned, weight))


def _polar(W: Tensor) -> Tensor:
    return procrustes(W.T.contiguous(), torch.eye(W.shape[1], device=W.device), complete=True)


def _joint(Z: Tensor, view: Tensor, images: Images) -> Tensor:
    return Z if images.columns is not None else torch.cat([Z, view], dim=1)


def _padded(text: Tensor, images: Images, width: int) -> Tensor:
    columns = images.columns if images.columns is not None else slice(width - text.shape[1], width)
    padded = text.new_zeros(len(text), width)
    padded[:, columns] = text
    return padded
