"""Entropic transport from many images to few classes, with O(K²) memory.

With exact row sums, the plan is a softmax with one offset per class, and the problem is smooth and convex in these K
offsets. Newton's method solves it in a few passes over the scores, where Sinkhorn needs hundreds. A pass accumulates K
+ K² numbers, so the n × K plan is not stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from modalign.linalg.inputs import exact_dtype
from modalign.linalg.similarity import LOWEST

Blocks = Callable[[], Iterable[tuple[slice, Tensor]]]  # slices of the rows, and their scores (block, K)


@dataclass(frozen=True)
class Offsets:
    """Plan :math:`P_{ik} = \\tfrac1n \\mathrm{softmax}_k((R_{ik} + g_k) / \\epsilon)`, stored by its K offsets.

    Attributes
    ----------
    g : Tensor of shape (K,), float64
        Offsets, in the units of the scores; zero for the largest class.
    epsilon : float
        Strength of the entropy.
    marginal_error : float
        L1 distance of the column sums from the requested ones (total mass 1); the row sums are exact.
    passes : int
        Number of passes over the scores.
    converged : bool
        ``marginal_error ≤ tolerance``.
    """

    g: Tensor = field(repr=False)
    epsilon: float
    marginal_error: float
    passes: int
    converged: bool

    def rows(self, scores: Float[Tensor, "block K"]) -> Float[Tensor, "block K"]:
        """Return the rows of n P, which sum to 1, for a block of scores."""
        return _softmax(scores, self.g, self.epsilon)[0]


def match(
    blocks: Blocks,
    n: int,
    epsilon: float,
    shares: Float[Tensor, " K"],
    *,
    rho: float = math.inf,
    tolerance: float = 1e-6,
    max_passes: int = 200,
    start: Float[Tensor, " K"] | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Offsets:
    r"""Entropic optimal transport of n rows with equal masses to K classes, equation 10 of GPUA.

    .. math::
        \max_{P \ge 0,\; P 1 = 1/n} \langle P, R \rangle + \epsilon H(P) - \rho\, \mathrm{KL}(P^\top 1 \,|\, c)

    An infinite ρ is the constraint :math:`P^\top 1 = c` of the paper. The objective in the offsets x = g/ε is

    .. math::
        F(x) = \tfrac1n \sum_i \log\sum_k e^{R_{ik}/\epsilon + x_k} - \langle c, x \rangle
        \quad \Big(\text{or} + \tfrac{\rho}{\epsilon} \sum_k c_k e^{-x_k \epsilon / \rho}\Big)

    with gradient :math:`P^\top 1 - c` and Hessian :math:`\mathrm{diag}(P^\top 1) - n P^\top P`, a graph Laplacian. Only
    its off-diagonal entries are accumulated, to avoid cancellation on the diagonal. Steps use Levenberg-Marquardt
    damping in proportion to the masses, which bounds the steps of classes with little mass. Above :data:`MAX_NEWTON`
    classes, Sinkhorn steps are used.

    Parameters
    ----------
    blocks : callable
        Function that returns an iterator over blocks of the scores R, float32; called once per pass.
    n : int
        Total number of rows.
    epsilon : float
        ε > 0.
    shares : Tensor
        c > 0 with sum 1.
    rho : float, default=inf
        ρ > 0.
    tolerance : float, default=1e-06
        Marginal error at which to stop, relative to the total mass.
    max_passes : int, default=200
        Maximum number of passes over the scores.
    start : Tensor or None, default=None
        Offsets g of a similar problem, of shape (K,).
    reduce : callable or None, default=None
        If several processes have some of the n rows each: the sum of a tensor of 1 + K + K² numbers over the processes,
        called once per pass.

    Returns
    -------
    Offsets
        Offsets, marginal error and convergence. A pass costs n K exponentials and n K² multiplications (n K above
        ``MAX_NEWTON``).

    References
    ----------
    Cuturi, Sinkhorn distances, 2013; Genevay et al., Stochastic optimization for large-scale optimal transport, 2016
    (the semi-dual); Brauer, Clason, Lorenz and Wirth, A Sinkhorn-Newton method for entropic optimal transport, 2017.
    """
    exact = exact_dtype(shares.device)
    problem = _Problem(blocks, n, epsilon, shares.to(exact), rho / epsilon, len(shares) <= MAX_NEWTON, reduce)
    x = torch.zeros_like(problem.c) if start is None else start.to(exact) / epsilon
    state, passes = problem.evaluate(x), 1
    damping = min(0.1, state.error)  # near the solution nothing has to be held back
    while state.error > tolerance and passes < max_passes:
        if state.hessian is None:
            x = x + problem.sinkhorn_step(state)
            state, passes = problem.evaluate(x), passes + 1
            continue
        step, promised = problem.newton_step(state, state.hessian, damping)
        tried, passes = problem.evaluate(x + step), passes + 1
        kept = (state.value - tried.value) / promised
        if tried.value < state.value or (promised < 1e-6 and tried.error < state.error):
            x, state = x + step, tried
            damping = max(damping * (0.1 if kept > 0.75 else 0.3 if kept > 0.4 else 1 if kept > 0.1 else 3), 1e-10)
        elif damping < 1e6:
            damping *= 5
        else:  # float32 has no better answer
            break
    g = epsilon * (x - x.max() if math.isinf(rho) else x)
    return Offsets(g, epsilon, state.error, passes, state.error <= tolerance)


MAX_NEWTON = 4096  # classes; their K × K Hessian is 128 MB
HALF = 256  # classes from which its matrix product takes much of a pass


class _Evaluation(NamedTuple):
    """Result of a pass: F, column sums, requested column sums, Hessian, and L1 error."""

    value: float
    mass: Tensor
    target: Tensor
    hessian: Tensor | None
    error: float


@dataclass(frozen=True)
class _Problem:
    blocks: Blocks
    n: int
    epsilon: float
    c: Tensor
    rho: float  # in units of epsilon
    newton: bool
    reduce: Callable[[Tensor], Tensor] | None = None

    def evaluate(self, x: Tensor) -> _Evaluation:
        """Run one pass over the scores."""
        mass, value = torch.zeros_like(self.c), 0.0
        overlap = self.c.new_zeros(len(x), len(x)) if self.newton else None
        for _, scores in self.blocks():
            P, log_sums = _softmax(scores, self.epsilon * x, self.epsilon)
            mass += P.sum(dim=0, dtype=mass.dtype)
            value += float(log_sums.sum(dtype=mass.dtype))
            if overlap is not None:
                overlap += _gram(P)
        if self.reduce is not None:
            mass, value, overlap = self._summed(mass, value, overlap)
        mass, value, hessian = mass / self.n, value / self.n, None
        if overlap is not None:
            hessian = overlap.div_(-self.n).fill_diagonal_(0)
            hessian.diagonal().copy_(-hessian.sum(dim=1))
        if math.isinf(self.rho):
            target = self.c
            value -= float((self.c * x).sum())
        else:
            target = self.c * (-x / self.rho).exp()
            value += self.rho * float(target.sum())
            if hessian is not None:
                hessian.diagonal().add_(target / self.rho)
        return _Evaluation(value, mass, target, hessian, float((mass - target).abs().sum()))

    def _summed(self, mass: Tensor, value: float, overlap: Tensor | None) -> tuple[Tensor, float, Tensor | None]:
        """Add up over the processes, in one message."""
        assert self.reduce is not None
        K = len(mass)
        parts = [mass.new_tensor([value]), mass, *([] if overlap is None else [overlap.flatten()])]
        total = self.reduce(torch.cat(parts))
        return total[1 : K + 1], float(total[0]), None if overlap is None else total[K + 1 :].view(K, K)

    def newton_step(self, at: _Evaluation, hessian: Tensor, damping: float) -> tuple[Tensor, float]:
        """Return a damped Newton step and the decrease of F predicted by the quadratic model."""
        gradient, scale = at.mass - at.target, torch.maximum(at.mass, at.target)
        factor = torch.linalg.cholesky(hessian + torch.diag(damping * scale))
        step = torch.cholesky_solve(-gradient[:, None], factor)[:, 0]
        return step, -float((gradient * step).sum() + (step @ hessian @ step) / 2)

    def sinkhorn_step(self, at: _Evaluation) -> Tensor:
        power = 1 if math.isinf(self.rho) else self.rho / (self.rho + 1)
        return power * (at.target / at.mass.clamp_min(torch.finfo(at.mass.dtype).tiny)).log()


def _gram(P: Tensor) -> Tensor:
    """PᵀP, in bfloat16 where the processor multiplies it several times faster.

    Its relative error of at most 0.8 % is one of the Newton step only: the gradient, and so the solution, is exact.
    """
    if P.device.type == "cpu" and P.shape[1] >= HALF and _multiplies_bfloat16():
        P = P.bfloat16()
    return P.mT @ P


@cache
def _multiplies_bfloat16() -> bool:
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())  # torch has no public name for it


def _softmax(scores: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return softmax((R + g) / ε) of a block without denormal numbers, and the logarithms of its normalizers."""
    logits = (scores + g.to(scores.dtype)).div_(epsilon)
    highest = logits.amax(dim=1, keepdim=True)
    P = logits.sub_(highest).clamp_min_(LOWEST).exp_()
    sums = P.sum(dim=1, keepdim=True)
    return P.div_(sums), highest + sums.log()
