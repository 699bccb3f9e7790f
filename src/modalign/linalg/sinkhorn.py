"""Entropic optimal transport: batched, stable at any regularization."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import exact_dtype, float_tensor
from modalign.linalg.plan import TransportPlan
from modalign.linalg.sweeps.kernel import tiles
from modalign.linalg.sweeps.solver import solve


def sinkhorn(
    cost: Real[Tensor, "... n m"],
    epsilon: float | Tensor,
    a: Real[Tensor, "... n"] | None = None,
    b: Real[Tensor, "... m"] | None = None,
    *,
    rho: float | tuple[float, float] = math.inf,
    max_sweeps: int = 1000,
    tolerance: float = 1e-6,
    check_every: int = 10,
) -> TransportPlan:
    r"""Solve entropic optimal transport between discrete measures, for one cost matrix or a batch.

    .. math::
        \min_{T \ge 0} \langle T, C\rangle + \epsilon\,\mathrm{KL}(T \,|\, a \otimes b)
        + \rho_a \mathrm{KL}(T 1 \,|\, a) + \rho_b \mathrm{KL}(T^\top 1 \,|\, b)

    where an infinite :math:`\rho` is a hard constraint on the marginal. The iteration multiplies a kernel by vectors in
    the precision of the cost and absorbs the scalings into float64 potentials before they overflow, so float32 is
    accurate at any epsilon. Problems with a cost range above 100 epsilon use epsilon scaling; slowly converging
    problems use over-relaxation. The result has no gradient. By the envelope theorem, T is the gradient of the
    minimum in C.

    Parameters
    ----------
    cost : Tensor of shape (..., n, m)
        Finite cost; half precision is computed in float32.
    epsilon : float or Tensor
        Positive regularization strength, one number or one per problem, in units of the cost.
    a : Tensor of shape (..., n) or None, default=None
        Row masses ≥ 0, broadcast over the batch; 1/n by default.
    b : Tensor of shape (..., m) or None, default=None
        Column masses ≥ 0; 1/m by default.
    rho : float or tuple of (float, float), default=inf
        KL penalty of both marginals, or of rows and columns; infinity for a hard constraint.
    max_sweeps : int, default=1000
        Maximum number of updates of f and g; problems that need more are marked as not converged.
    tolerance : float, default=1e-06
        Marginal error at which a problem has converged. 0 runs ``max_sweeps`` standard sweeps (fewer only if the
        iteration is stationary), without epsilon scaling and over-relaxation.
    check_every : int, default=10
        Number of sweeps between two checks of the error, each of which synchronizes an accelerator.

    Returns
    -------
    TransportPlan
        Coupling, potentials, marginal error and convergence. Cost: 2 n m multiplications per sweep and problem, and n m
        exponentials whenever scalings are absorbed. Additional memory: one kernel block of a MB on a CPU (or one
        kernel, if larger).

    Raises
    ------
    InputError
        The cost is not finite, epsilon or rho is not positive, marginals are negative, hard marginals have different
        masses, or shapes do not match.

    References
    ----------
    Cuturi, Sinkhorn distances, 2013; Schmitzer, Stabilized sparse scaling algorithms for entropy regularized
    transport problems, 2019 (absorption); Chizat, Peyré, Schmitzer and Vialard, Scaling algorithms for unbalanced
    optimal transport problems, 2018 (KL-relaxed marginals).

    Examples
    --------
    >>> import torch
    >>> from modalign.linalg.sinkhorn import sinkhorn
    >>> cost = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    >>> plan = sinkhorn(cost, epsilon=0.5)
    >>> plan.coupling
    tensor([[0.3273, 0.1667, 0.0060],
            [0.0060, 0.1667, 0.3273]])
    >>> bool(plan.converged)
    True
    """
    cost = float_tensor(cost, "cost").detach()
    if cost.ndim < 2 or 0 in cost.shape[-2:]:
        raise InputError(f"Expected a cost of shape (..., n, m) with n, m ≥ 1, got {tuple(cost.shape)}.")
    strengths = _strengths(rho)
    if max_sweeps < 1 or check_every < 1 or not tolerance >= 0:
        raise InputError(
            f"Expected max_sweeps ≥ 1, check_every ≥ 1 and tolerance ≥ 0, got {max_sweeps}, {check_every}, {tolerance}."
        )
    batch, (n, m) = cost.shape[:-2], cost.shape[-2:]
    exact = exact_dtype(cost.device)
    eps = torch.as_tensor(epsilon, dtype=exact, device=cost.device)
    if not bool((torch.isfinite(eps) & (eps > 0)).all()):
        raise InputError(f"Expected a positive, finite epsilon, got {epsilon}.")
    eps = _broadcast(eps, batch, "epsilon")
    a, b = _marginal(a, (*batch, n), cost, "a"), _marginal(b, (*batch, m), cost, "b")
    if math.isinf(strengths[0]) and math.isinf(strengths[1]):
        b = _same_mass(a, b)
    plan = TransportPlan(
        cost_matrix=cost,
        epsilon=eps,
        a=a.to(cost.dtype),
        b=b.to(cost.dtype),
        rho=strengths,
        potentials=(eps.new_empty(*batch, n), eps.new_empty(*batch, m)),
        marginal_error=eps.new_empty(batch),
        iterations=torch.empty(batch, dtype=torch.long, device=cost.device),
        converged=torch.empty(batch, dtype=torch.bool, device=cost.device),
    )
    problems, (f, g) = plan.problems, plan.flat_potentials
    error, iterations = plan.marginal_error.view(-1), plan.iterations.view(-1)
    with torch.no_grad(), np.errstate(all="ignore"):  # problems that overflow are computed again with logarithms
        for which in tiles(problems.cost):
            f[which], g[which], error[which], iterations[which] = solve(
                problems.part(which),
                max_sweeps=max_sweeps,
                tolerance=tolerance,
                check_every=check_every,
            )
    plan.converged.copy_(plan.marginal_error <= tolerance)
    return plan


def _strengths(rho: float | tuple[float, float]) -> tuple[float, float]:
    both = tuple(rho) if isinstance(rho, (tuple, list)) else (rho, rho)
    if len(both) != 2 or not all(strength > 0 for strength in both):
        raise InputError(f"Expected rho > 0, or a pair of them (infinity for a hard marginal), got {rho}.")
    return float(both[0]), float(both[1])


def _broadcast(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    try:
        return tensor.broadcast_to(shape)
    except RuntimeError as error:
        raise InputError(f"Expected {name} to fit shape {tuple(shape)}, got {tuple(tensor.shape)}.") from error


def _marginal(weights: Tensor | None, shape: tuple[int, ...], cost: Tensor, name: str) -> Tensor:
    """Return masses (..., n) in float64."""
    exact = exact_dtype(cost.device)
    if weights is None:
        return torch.full(shape, 1 / shape[-1], dtype=exact, device=cost.device)
    weights = _broadcast(float_tensor(weights, name).detach().to(cost.device, exact), shape, name)
    if bool((weights < 0).any()) or not bool((weights.sum(dim=-1) > 0).all()):
        raise InputError(f"Expected non-negative masses in {name} with a positive sum, got a negative one or none.")
    return weights


def _same_mass(a: Tensor, b: Tensor) -> Tensor:
    """Scale ``b`` to the exact mass of ``a`` if the masses agree to four digits."""
    mass_a, mass_b = a.sum(dim=-1, keepdim=True), b.sum(dim=-1, keepdim=True)
    if bool(((mass_a - mass_b).abs() > 1e-4 * mass_a).any()):
        raise InputError(
            f"Expected a and b of equal mass, got sums such as {mass_a.flatten()[0]:g} and {mass_b.flatten()[0]:g}; "
            "scale one of them, or relax the marginals with a finite rho."
        )
    return b * (mass_a / mass_b)
