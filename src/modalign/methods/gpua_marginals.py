"""How many images each class has, found without labels: what makes GPUA usable on an imbalanced folder.

The plan must be told the class shares c. Told uniform ones on uneven data it tears large classes apart; told the
zero-shot histogram on even data it forgoes most of what transport can repair. The histogram itself cannot tell the
two apart: it is as uneven when zero-shot is weak as when the data are. The geometry of the images can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.linalg.inputs import wide
from modalign.methods.gpua_transport import match

TEMPER = 0.3  # weight of a Gaussian log-density, whose coordinates count as independent but are not
SHRINKAGE = 0.5  # of a covariance, towards a multiple of the identity
LEAST_WITHIN = 1e-2  # variance within classes, as a share of that of all images, below which copies are not believed
ROUNDS = 3
TIE = 0.05  # nats an image by which the even explanation may be behind
EVEN = 0.02  # nats: shares this near to uniform are uniform; the classes then act as 98 % of K equal ones
FLOOR = 1e-3  # of an equal share, added to every estimated one: no class is ruled out


@dataclass(frozen=True)
class Marginals:
    """The class shares that the plan is given, and why.

    Attributes
    ----------
    shares : (K,) c, positive with sum 1.
    kind : "uniform", "given" or "estimated".
    numbers : what decided, for ``diagnosis_``.
    """

    shares: Tensor
    kind: str
    numbers: dict[str, float]


def divergence(shares: Tensor) -> float:
    """KL(shares | uniform) in nats, 0…log K."""
    p = shares.double() / shares.double().sum()
    return max(0.0, float(torch.xlogy(p, p * len(p)).sum()))


def estimate_marginals(
    Z: Tensor,
    widths: tuple[int, ...],
    cosines: Tensor,
    *,
    weight: float,
    epsilon: float,
    logit_scale: float,
    allow_uniform: bool,
) -> Marginals:
    r"""Class shares from the geometry of some images and their zero-shot scores.

    Two explanations of the images compete. Each is a mixture of K Gaussians in the visual spaces with one covariance
    for all classes and the zero-shot logits as prior, fitted by :data:`ROUNDS` rounds of expectation and maximisation:

    - *uneven*: from the zero-shot assignment, with class shares that are learned;
    - *even*: from the plan with uniform marginals, with equal class shares.

    The one that gives the images the greater likelihood is believed (the even one also if behind by no more than
    :data:`TIE` nats an image). If it is the even one, and the sizes of its classes come out even to :data:`EVEN` nats
    although nothing held them there, c is uniform; otherwise c are the class sizes of the better explanation.

    The likelihood of an image z with language view x and text y is

    .. math::
        \sum_k \pi_k\, e^{s\, x^\top y_k} \prod_v N(z^{(v)} ; \mu_k^{(v)}, \Sigma^{(v)})^{\tau / V}

    with s = ``logit_scale``, V visual spaces and τ = :data:`TEMPER`. The shared covariance is what tells a class that
    draws foreign images (two clusters in one class) from one that is large.

    Parameters
    ----------
    Z : (m, d_v) visual vectors of a sample of the images.
    widths : columns of each visual space in Z.
    cosines : (m, K) x·y.
    weight, epsilon : λ and ε of the plan.
    logit_scale : s.
    allow_uniform : choose between estimate and uniform; else always estimate.

    Returns
    -------
    Marginals. Cost O(m d_v (d_v + K)) a round and O(Σ d³).
    """
    n, K = cosines.shape
    logits = logit_scale * cosines
    zero_shot = logits.softmax(dim=1)
    equal = torch.full((K,), 1 / K, device=Z.device)
    centres = (zero_shot.T @ Z) / zero_shot.sum(dim=0)[:, None]
    scores = torch.addmm(cosines, Z, centres.T, beta=weight, alpha=1 - weight)
    even_plan = match(lambda: [(slice(0, n), scores)], n, epsilon, equal, tolerance=1e-4).rows(scores)

    densities = [_SharedCovariance(part) for part in Z.split(list(widths), dim=1)]
    uneven, likelihood_uneven = _settle(densities, logits, zero_shot, learn_shares=True)
    even, likelihood_even = _settle(densities, logits, even_plan, learn_shares=False)
    believed = even if likelihood_even >= likelihood_uneven - TIE else uneven
    numbers = {
        "kl_zero_shot": divergence(torch.bincount(logits.argmax(dim=1), minlength=K)),
        "kl_uneven": divergence(uneven),
        "kl_even": divergence(even),
        "evidence_for_even": likelihood_even - likelihood_uneven,
    }
    if allow_uniform and believed is even and numbers["kl_even"] <= EVEN:
        return Marginals(equal, "uniform", numbers)
    return Marginals((believed + FLOOR / K) / (1 + FLOOR), "estimated", numbers)


def _settle(
    densities: list[_SharedCovariance], logits: Tensor, P: Tensor, *, learn_shares: bool
) -> tuple[Tensor, float]:
    """Class sizes after some rounds from the assignment ``P``, and the mean log-likelihood of an image by then."""
    K = logits.shape[1]
    for _ in range(ROUNDS):
        joint = logits - math.log(K)
        if learn_shares:
            joint = logits + (P.mean(dim=0) + FLOOR / K).log()
        for density in densities:
            joint = density.add_log(P, joint, TEMPER / len(densities))
        likelihood = float(joint.logsumexp(dim=1).mean(dtype=wide(joint.device)))
        P = joint.softmax(dim=1)
    return P.mean(dim=0), likelihood


class _SharedCovariance:
    """Gaussian classes with one covariance in one space; the second moments of all images are added up once.

    Images that repeat within their classes leave a covariance of nothing but rounding, possibly with negative
    eigenvalues. So the multiple of the identity that it is shrunk towards is at least ``LEAST_WITHIN`` times the mean
    variance of all images, which is above that rounding in float32, and below the variance within classes of real data.
    """

    def __init__(self, Z: Tensor) -> None:
        self.Z = Z - Z.mean(dim=0)
        self.total = self.Z.T @ self.Z / len(Z)
        self.least = max(1e-8, LEAST_WITHIN * self.total.diagonal().mean().item())

    def add_log(self, P: Tensor, to: Tensor, weight: float) -> Tensor:
        """(m, K) ``to`` plus weighted log-densities of all images in the classes that ``P`` makes."""
        size = P.sum(dim=0) + 1e-6
        means = (P.T @ self.Z) / size[:, None]
        within = self.total - (means.T * (size / size.sum())) @ means
        spread = within.diagonal().mean().clamp_min(self.least)
        within = torch.lerp(within, spread * torch.eye(len(within), device=to.device), SHRINKAGE)
        factor = torch.linalg.cholesky(within)
        whitened = torch.linalg.solve_triangular(factor, self.Z.T, upper=False)
        means = torch.linalg.solve_triangular(factor, means.T, upper=False)
        constant = whitened.square().sum(dim=0) / 2 + factor.diagonal().log().sum()
        joint = torch.addmm(to, whitened.T, means, alpha=weight)
        return joint.sub_(weight * (means.square().sum(dim=0) / 2)).sub_(weight * constant[:, None])
