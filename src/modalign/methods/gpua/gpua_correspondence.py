"""Stage 1 of GPUA: soft correspondences of images and classes, shared by all spaces (Algorithm 1, lines 3 to 9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype
from modalign.linalg.semidual import Offsets, match
from modalign.linalg.similarity import soft_assignments
from modalign.methods.contract.transduction import KEPT, Likeliest, likeliest
from modalign.methods.gpua.gpua_marginals import Marginals
from modalign.methods.gpua.gpua_rows import Images

ABSENT = 1e-4  # images: a class with a smaller sum of soft assignments has no image
REST = 1e-4  # relative change of C at which the iteration stops


@dataclass(frozen=True)
class Assignment:
    """Statistics of a plan P from one pass: sums over the images, and pseudo-labels.

    Attributes
    ----------
    moments : Tensor
        n PᵀZ.
    mass : Tensor of shape (K,)
        Images in each class, Σ n P.
    likeliest : Likeliest
        The classes of the largest entries of each row.
    entropy : float
        Mean entropy of the rows in nats; log K for a uniform plan.
    """

    moments: Tensor
    mass: Tensor
    likeliest: Likeliest
    entropy: float

    @property
    def labels(self) -> Tensor:
        """(n,) the class of the largest entry of each row."""
        return self.likeliest.classes[:, 0].long()

    @property
    def centers(self) -> Tensor:
        """(K, d_v) barycenters C, equation 12; zero for a class whose probabilities all underflow."""
        return (self.moments / self.mass[:, None].clamp_min(torch.finfo(self.mass.dtype).tiny)).float()

    def require_images(self) -> None:
        """Raise if a class is similar to no image."""
        absent = (self.mass < ABSENT).nonzero().flatten().tolist()
        if absent:
            shown = ", ".join(map(str, absent[:10])) + (", …" if len(absent) > 10 else "")
            raise InputError(
                f"Expected at least one image per class, but none is similar to the text of class {shown} (from 0); "
                "leave out the text of classes that have no image, or check that text and images are of one encoder."
            )


@dataclass(frozen=True)
class Correspondences:
    """Result of stage 1.

    Attributes
    ----------
    assignment : Assignment
        Of the last plan.
    offsets : Offsets
        Offsets that define the last plan with its scores.
    centers : Tensor of shape (K, d_v)
        Centers C of those scores.
    iterations : int
        Updates of P.
    converged : bool
        The centers moved by less than the tolerance in the last update.
    change : float
        Relative change of the centers in the last update.
    """

    assignment: Assignment
    offsets: Offsets
    centers: Tensor
    iterations: int
    converged: bool
    change: float

    def report(self, start: Assignment, images: Images) -> dict[str, Any]:
        """For ``diagnosis_``, with the zero-shot assignment of the images."""
        labels, K = self.assignment.labels, len(self.assignment.mass)
        sizes = images.team.sum(torch.bincount(labels, minlength=K))
        changed = images.team.sum((labels != start.labels).sum())
        return {
            "plan_entropy": self.assignment.entropy / math.log(K),
            "marginal_error": self.offsets.marginal_error,
            "transport_converged": self.offsets.converged,
            "iterations": self.iterations,
            "centers_rest": self.converged,
            "changed_from_zero_shot": float(changed) / images.total,
            "smallest_class": int(sizes.min()),
            "empty_classes": int((sizes == 0).sum()),
        }


@dataclass(frozen=True)
class FixedTerms:
    r"""Terms of the affinity that are the same in every update, :math:`Z A^\top + X B^\top + 1 b^\top - r u^\top`.

    Attributes
    ----------
    visual : Tensor of shape (K, d_v)
        A.
    language : Tensor of shape (K, d_t)
        B.
    offsets, curvatures : Tensor of shape (K,)
        b and u.
    radius : Tensor of shape (n,)
        r.
    """

    visual: Tensor
    language: Tensor
    offsets: Tensor
    curvatures: Tensor
    radius: Tensor


def assign(images: Images, plan: Callable[[], Iterable[tuple[slice, Tensor]]], n_classes: int) -> Assignment:
    """One pass over the images and the rows n P of a plan, block by block."""
    device = images.visual.X.device
    exact = exact_dtype(device)
    moments = torch.zeros(n_classes, sum(images.widths), dtype=exact, device=device)
    mass = torch.zeros(n_classes, dtype=exact, device=device)
    n, kept, entropy = len(images), min(KEPT, n_classes), 0.0
    # Allocated once: a small tensor per block would keep the memory of the large ones from being returned.
    classes = torch.empty(n, kept, dtype=torch.int32, device=device)
    probabilities = torch.empty(n, kept, device=device)
    for (rows, Z), (_, P) in zip(images.visual.blocks(), plan(), strict=True):
        moments += P.T @ Z
        mass += P.sum(dim=0, dtype=exact)
        classes[rows], probabilities[rows] = likeliest(P)
        entropy -= float(P.mul_(P.clamp_min(1e-37).log_()).sum(dtype=exact))
    sums = images.team.sum(torch.cat([moments, mass[:, None], mass.new_full((n_classes, 1), entropy)], dim=1))
    moments, mass = sums[:, :-2], sums[:, -2]
    return Assignment(moments, mass, Likeliest(classes, probabilities), float(sums[0, -1]) / images.total)


def zero_shot(images: Images, text: Tensor, logit_scale: float) -> Assignment:
    """P(0), the softmax of the scaled cosines with the text (line 3)."""

    def plan() -> Iterator[tuple[slice, Tensor]]:
        for rows, _, view in images.blocks():
            yield rows, soft_assignments(logit_scale * (view @ text.T))

    return assign(images, plan, len(text))


def find_correspondences(
    images: Images,
    text: Tensor,
    start: Assignment,
    marginals: Marginals,
    *,
    weight: float,
    epsilon: float,
    rho: float = math.inf,
    tolerance: float = 1e-6,
    max_iterations: int = 30,
    memory: float = 2**30,
    fixed: FixedTerms | None = None,
) -> Correspondences:
    r"""Alternate between the plan P and the visual centers C until convergence.

    .. math::
        R &= (1 - \lambda) Z C^\top + \lambda X Y^\top && \text{(line 6)} \\
        P &= \arg\max_{P \in \Pi(1/n, c)} \langle P, R\rangle + \epsilon H(P) && (10) \\
        C_k &= \textstyle\sum_i P_{ik} Z_i / \sum_i P_{ik} && (12)

    Parameters
    ----------
    images : Images
        Z and X of the paper.
    text : Tensor of shape (K, d_t)
        Y, unit rows.
    start : Assignment
        P(0).
    marginals : Marginals
        c.
    weight, epsilon : float
        λ and ε.
    rho : float, default=inf
        KL penalty of c, infinite for the hard constraint of the paper.
    tolerance : float, default=1e-06
        Marginal error of every plan.
    max_iterations : int, default=30
        Maximum T; stops earlier if the relative change of C is below :data:`REST`.
    memory : float, default=2 ** 30
        Bytes for cached scores; larger scores are recomputed in every pass.
    fixed : FixedTerms or None, default=None
        Terms added to R.

    Returns
    -------
    Correspondences
        An update costs n K (d_v + d_t) multiplications for R, n K² a pass of the transport, n K d_v for C; where scores
        are not held, their part again in every pass.
    """
    held = 4 * len(images) * len(text) <= memory / 3
    settings: dict[str, Any] = {"epsilon": epsilon, "shares": marginals.shares, "rho": rho, "tolerance": tolerance}
    settings["reduce"] = images.team.reduce
    centers, change, iteration = start.centers, math.inf, 0
    g: Tensor | None = None
    while change > REST and iteration < max_iterations:
        iteration += 1
        scores = _held(partial(_affinity, images, centers, text, weight, fixed), held)
        offsets = match(scores, images.total, **settings, start=g)
        g = offsets.g
        used, plan = centers, offsets.rows
        assignment = assign(images, lambda: ((rows, plan(R)) for rows, R in scores()), len(text))  # noqa: B023
        centers = assignment.centers
        change = float((centers - used).norm() / centers.norm())
    return Correspondences(assignment, offsets, used, iteration, change <= REST, change)


def _affinity(
    images: Images, centers: Tensor, text: Tensor, weight: float, fixed: FixedTerms | None
) -> Iterator[tuple[slice, Tensor]]:
    visual, language = (1 - weight) * centers, weight * text
    if fixed is None:
        yield from images.scores(visual, language)
        return
    for rows, R in images.scores(visual + fixed.visual, language + fixed.language):
        yield rows, R.add_(fixed.offsets).addr_(fixed.radius[rows], fixed.curvatures, alpha=-1)


def _held(
    scores: Callable[[], Iterable[tuple[slice, Tensor]]], held: bool
) -> Callable[[], Iterable[tuple[slice, Tensor]]]:
    """Blocks of R, from memory, or computed again at every call."""
    if not held:
        return scores
    blocks = list(scores())
    return lambda: blocks
