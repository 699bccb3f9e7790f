"""Entropic transport between all pairs of sets of two families, from one similarity product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Real
from torch import Tensor

from modalign.core.errors import InputError
from modalign.linalg.inputs import float_tensor
from modalign.linalg.similarity import unit
from modalign.linalg.sinkhorn import sinkhorn
from modalign.linalg.sweeps.kernel import numpy_multiplies

A = TypeVar("A", np.ndarray, Tensor)

_SPREAD = 40.0  # spread of the cost over epsilon up to which exp(−C / epsilon) and its scalings fit float32
_TILE = {"cpu": 1 << 17}  # kernel entries solved together: on a CPU what stays in the second cache for all sweeps
_TILE_ELSEWHERE = 1 << 27
_PRODUCT = {"cpu": 256}  # rows of one similarity product
_PRODUCT_ELSEWHERE = 1 << 14
_SLAB = 1 << 26  # entries of one similarity product at most


@dataclass(frozen=True)
class SetTransport:
    """Result of the transport between P sets and Q sets.

    Attributes
    ----------
    cost, entropy : Tensor of shape (P, Q)
        Σ T C, whose gradient with respect to C is T (envelope theorem), and −Σ T log T in nats, without
        gradient; log(J L) for a uniform T.
    marginal_error, sweeps : Tensor of shape (P, Q)
        L1 error of the masses of the left elements (those of the right elements are exact), and number of sweeps.
    """

    cost: Tensor
    entropy: Tensor
    marginal_error: Tensor
    sweeps: Tensor


def set_transport(
    left: Real[Tensor, "P J d"],
    right: Real[Tensor, "Q L d"],
    epsilon: float = 0.1,
    *,
    mask: Bool[Tensor, "Q L"] | None = None,
    max_sweeps: int = 100,
    tolerance: float = 1e-4,
    check_every: int = 4,
) -> SetTransport:
    r"""Transport with cosine cost between all pairs of a left and a right set, uniform masses inside each set.

    .. math::
        T^{pq} = \arg\min_{T 1 = 1/J,\; T^\top 1 = 1/L_q} \langle T, C^{pq} \rangle + \epsilon \sum T \log T, \qquad
        C^{pq}_{jl} = 1 - \cos(x_{pj}, y_{ql}), \qquad \mathrm{cost}_{pq} = \langle T^{pq}, C^{pq} \rangle

    Parameters
    ----------
    left, right : Tensor of shape (P, J, d) and (Q, L, d)
        Elements, compared by cosine. Half precision is computed in float32.
    epsilon : float, default=0.1
        Strength of the entropy, in units of the cost.
    mask : Tensor or None, default=None
        Boolean, of shape (Q, L). False marks padding of right sets; all True by default.
    max_sweeps : int, default=100
        Maximum number of sweeps.
    tolerance, check_every : float and int, default=1e-4 and 4
        Marginal error at which a tile of problems has converged, and the number of sweeps between two checks.

    Returns
    -------
    SetTransport
        Cost: one product of (P J, d) and (ΣL, d), two more for the gradient, two multiplications per entry and sweep.
        Memory: P J ΣL numbers with a gradient, else one block.

    Raises
    ------
    InputError
        An entry is NaN, shapes do not match, a right set is empty, or epsilon is not positive.

    References
    ----------
    Cuturi, Sinkhorn distances, 2013; Peyré and Cuturi, Computational optimal transport, 2019, section 9.1 (gradient).
    """
    left, right = float_tensor(left, "left"), float_tensor(right, "right")
    if left.ndim != 3 or right.ndim != 3 or left.shape[2] != right.shape[2] or 0 in (*left.shape, *right.shape):
        raise InputError(
            f"Expected sets (P, J, d) and (Q, L, d) of one width, got {tuple(left.shape)} and {tuple(right.shape)}."
        )
    if not 0 < epsilon < float("inf"):
        raise InputError(f"Expected a positive, finite epsilon, got {epsilon}.")
    if max_sweeps < 1 or check_every < 1 or not tolerance >= 0:
        raise InputError(
            f"Expected max_sweeps ≥ 1, check_every ≥ 1 and tolerance ≥ 0, got {max_sweeps}, {check_every}, {tolerance}."
        )
    with torch.autocast(left.device.type, enabled=False):
        dtype = torch.promote_types(left.dtype, right.dtype)
        left, right = unit(left).to(dtype), unit(right).to(dtype)
        layout, rows = _gather(right, mask)
        task = _Task(len(left), left.shape[1], layout, float(epsilon), max_sweeps, float(tolerance), check_every)
        return SetTransport(*_Transport.apply(left.flatten(0, 1), rows, task))


@dataclass(frozen=True)
class _Layout:
    """Right sets sorted by length: ``order`` (Q,), and the number of sets per length."""

    order: Tensor
    blocks: tuple[tuple[int, int], ...]

    def chunks(self, rows: int) -> Iterator[tuple[Tensor, slice, int]]:
        """Yield sets, their rows and their length: parts of about the given number of rows, each of one length."""
        set_, row = 0, 0
        for length, count in self.blocks:
            step = max(1, rows // length)
            for first in range(0, count, step):
                size = min(step, count - first)
                yield self.order[set_ : set_ + size], slice(row, row + size * length), length
                set_, row = set_ + size, row + size * length


@dataclass(frozen=True)
class _Task:
    sets: int
    size: int
    layout: _Layout
    epsilon: float
    max_sweeps: int
    tolerance: float
    check_every: int

    def chunks(self, device: torch.device) -> Iterator[tuple[Tensor, slice, int]]:
        rows = min(_PRODUCT.get(device.type, _PRODUCT_ELSEWHERE), _SLAB // (self.sets * self.size))
        return self.layout.chunks(rows)


def _gather(right: Tensor, mask: Tensor | None) -> tuple[_Layout, Tensor]:
    """The layout of the right sets, and their elements (ΣL, d) in its order."""
    Q, L, _ = right.shape
    if mask is None:
        return _Layout(torch.arange(Q, device=right.device), ((L, Q),)), right.flatten(0, 1)
    if mask.shape != (Q, L) or mask.dtype != torch.bool:
        raise InputError(f"Expected a bool mask of shape {(Q, L)}, got {mask.dtype} {tuple(mask.shape)}.")
    mask = mask.to(right.device)
    lengths = mask.sum(dim=1)
    counts = torch.bincount(lengths, minlength=L + 1).tolist()
    if counts[0]:
        raise InputError(f"Expected at least one element in every right set, got {counts[0]} sets without any.")
    order = torch.argsort(lengths, stable=True)
    blocks = tuple((length, count) for length, count in enumerate(counts) if count)
    return _Layout(order, blocks), right[order][mask[order]]


class _Transport(torch.autograd.Function):
    """Elements (P J, d) and (ΣL, d) of unit length to cost, entropy, marginal error and sweeps, all (P, Q)."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, task: _Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = any(ctx.needs_input_grad[:2])
        plans = right.new_empty(len(right), len(left)) if keep else None
        sets = task.sets, len(task.layout.order)
        cost, entropy, error = (right.new_empty(sets) for _ in range(3))
        sweeps = torch.empty(sets, dtype=torch.long, device=right.device)
        for which, rows, length in task.chunks(right.device):
            block = torch.mm(right[rows], left.T, out=None if plans is None else plans[rows])
            block = block.view(len(which), length, task.sets, task.size)
            for some, others in _tiles(block):
                part = block[some, :, others].transpose(1, 2)
                solved = _solve(part, task, keep)
                for found, values in zip((cost, entropy, error, sweeps), solved, strict=True):
                    found[others, which[some]] = values.T if values.ndim else values
        ctx.task = task
        ctx.save_for_backward(left, right, plans)
        ctx.mark_non_differentiable(entropy, error, sweeps)
        return cost, entropy, error, sweeps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left, right, plans = ctx.saved_tensors
        of_left = torch.zeros_like(left) if ctx.needs_input_grad[0] else None
        of_right = torch.empty_like(right) if ctx.needs_input_grad[1] else None
        with torch.autocast(left.device.type, enabled=False):
            for which, rows, length in ctx.task.chunks(left.device):
                weights = upstream[:, which].T.neg()[:, None, :, None]  # the similarity enters the cost with a minus
                block = plans[rows].view(len(which), length, ctx.task.sets, ctx.task.size)
                block = (block * weights).view(-1, len(left))
                if of_left is not None:
                    of_left.addmm_(block.T, right[rows])
                if of_right is not None:
                    torch.mm(block, left, out=of_right[rows])
        return of_left, of_right, None


def _tiles(block: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the right and of the left sets of a block (Q, L, P, J) that are solved together."""
    Q, L, P, J = block.shape
    problems = max(1, _TILE.get(block.device.type, _TILE_ELSEWHERE) // (L * J))
    across = min(P, problems)
    down = max(1, problems // across)
    for some in range(0, Q, down):
        for others in range(0, P, across):
            yield slice(some, some + down), slice(others, others + across)


def _solve(similarity: Tensor, task: _Task, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cost, entropy, error, sweeps (q, p) of similarities (q, p, L, J); if requested, plans replace them."""
    q, p, L, J = similarity.shape
    epsilon = task.epsilon
    if 2 / epsilon > _SPREAD:  # only then can the spread be too large
        low, high = similarity.aminmax()
        if not bool((high - low) / epsilon <= _SPREAD):
            return _solve_stabilized(similarity, task, keep)
    top = 1.0 if 2 / epsilon <= _SPREAD else float(high)
    plan = similarity.new_empty(q, p, L, J)
    torch.sub(similarity, top, out=plan).mul_(1 / epsilon).exp_()
    plan = plan.view(q * p, L, J)
    u, v, rows, sweeps = _scale(plan, task)
    plan.mul_(u[:, None, :]).mul_(v[:, :, None])
    rows.mul_(u)  # the masses of the left elements; those of the right ones are 1 / L
    explained = torch.linalg.vecdot(plan.view(q, p, L * J), similarity.reshape(q, p, L * J))
    mass = rows.sum(dim=1).view(q, p)
    error = (rows - 1 / J).abs_().sum(dim=1).view(q, p)
    log_u, log_v = (rows * u.log()).sum(dim=1), v.log().mean(dim=1)
    entropy = (top * mass - explained) / epsilon - (log_u + log_v).view(q, p)
    if keep:
        similarity.copy_(plan.view(q, p, L, J))
    return mass - explained, entropy, error, torch.as_tensor(sweeps, device=plan.device)


def _scale(kernel: Tensor, task: _Task) -> tuple[Tensor, Tensor, Tensor, int]:
    """u (n, J), v (n, L), K v (n, J) and sweeps, such that u K v has columns of mass 1 / L and rows of about 1 / J."""
    n, L, J = kernel.shape
    u, v = kernel.new_empty(n, J), kernel.new_ones(n, L)
    rows, columns = torch.empty_like(u), torch.empty_like(v)
    half_steps = _half_steps(kernel, u, v, rows, columns)
    torch.bmm(v[:, None, :], kernel, out=rows[:, None, :])
    for sweep in range(1, task.max_sweeps + 1):
        half_steps()
        if task.tolerance > 0 and sweep % task.check_every == 0:
            error = (u * rows).sub_(1 / J).abs_().sum(dim=1)
            if bool(error.amax() <= task.tolerance):
                break
    return u, v, rows, sweep


def _half_steps(kernel: Tensor, u: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Callable[[], None]:
    """One sweep, u = 1 / (J rows), columns = Kᵀ u, v = 1 / (L columns), rows = K v, all in place.

    On a CPU through NumPy, which takes a sixth of the time of ``torch.bmm`` for so small matrices.
    """
    if numpy_multiplies(kernel):
        host = (part.numpy() for part in (kernel, u, v, rows, columns))
        return _half_steps_with(np.matmul, np.divide, *host)
    return _half_steps_with(torch.bmm, _divide, kernel, u, v, rows, columns)


def _half_steps_with(
    times: Callable[..., object], divide: Callable[..., object], kernel: A, u: A, v: A, rows: A, columns: A
) -> Callable[[], None]:
    a, b = 1 / kernel.shape[2], 1 / kernel.shape[1]
    standing_u, standing_columns = u[:, :, None], columns[:, :, None]
    lying_v, lying_rows = v[:, None, :], rows[:, None, :]

    def sweep() -> None:
        divide(a, rows, out=u)
        times(kernel, standing_u, out=standing_columns)
        divide(b, columns, out=v)
        times(lying_v, kernel, out=lying_rows)

    return sweep


def _divide(mass: float, sums: Tensor, out: Tensor) -> None:
    torch.reciprocal(sums, out=out).mul_(mass)


def _solve_stabilized(similarity: Tensor, task: _Task, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same where the kernel would leave its type."""
    solved = sinkhorn(
        (1 - similarity).mT,
        task.epsilon,
        max_sweeps=task.max_sweeps,
        tolerance=task.tolerance,
        check_every=task.check_every,
    )
    plan = solved.coupling
    cost, entropy, error = (part.to(plan.dtype) for part in (solved.cost, solved.entropy, solved.marginal_error))
    if keep:
        similarity.copy_(plan.mT)
    return cost, entropy, error, solved.iterations
