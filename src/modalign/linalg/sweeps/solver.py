"""Initialization, step length and stopping of the sweeps of :mod:`modalign.linalg.sweeps.scaling`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modalign.linalg.sweeps.kernel import Problems
from modalign.linalg.sweeps.scaling import Iteration

# Spread of the cost over eps from which a ladder is climbed down, at which it starts, and the factor between rungs.
_LADDER_ABOVE, _LADDER_TOP, _RUNG = 100.0, 20.0, 4.0
_WORTH = 50  # sweeps still to go from which over-relaxation pays for its powers


def solve(
    problems: Problems, *, max_sweeps: int, tolerance: float, check_every: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve P problems; return f (P, n, 1), g (P, m, 1), marginal errors (P,) and numbers of sweeps (P,).

    Each problem is checked every ``check_every`` sweeps and stops by its own error, so its result does not depend on
    the rest of the batch, up to rounding. With ``tolerance = 0`` all sweeps are standard Sinkhorn sweeps without eps
    scaling and over-relaxation.
    """
    target = problems.eps
    if tolerance == 0:  # only an exact fixed point ends it early, which is rare
        check_every = 2 * check_every
    lowest, highest = (end.to(target.dtype) for end in problems.cost.flatten(1).aminmax(dim=1))
    blocks = max_sweeps // check_every if tolerance > 0 else 0
    ladder = _Ladder((highest - lowest)[:, None, None] / target, blocks)
    # What solves a constant cost: a start from g = 0 whose kernel has its largest entry near one.
    mass = problems.b.sum(dim=1, keepdim=True).to(target.dtype)
    f = (lowest[:, None, None] - target * mass.log()).expand(-1, problems.a.shape[1], -1)
    start = f, torch.zeros_like(problems.b, dtype=target.dtype)
    factor = ladder.factor(0)
    state = Iteration(Problems(problems.cost, problems.a, problems.b, target * factor, problems.rho), *start)
    f, g = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in start)
    error = torch.empty(len(problems), dtype=target.dtype, device=target.device)
    sweeps = torch.zeros(len(problems), dtype=torch.long, device=target.device)
    index = torch.arange(len(problems), device=target.device)  # which problems the state holds
    running = torch.ones_like(index, dtype=torch.bool)  # and which of them are still to be solved
    before, striding, block = None, False, 0
    while True:
        if 0 < block <= ladder.height:
            factor = ladder.factor(block)[index]
            state.set_eps(target[index] * factor)
        done = min((block + 1) * check_every, max_sweeps)
        state.sweep(done - block * check_every, striding=striding)
        now = state.error()
        arrived = factor.flatten() == 1
        newly = running & (((now <= tolerance) & arrived) | (done == max_sweeps))
        if bool(newly.any()):
            where = index[newly]
            f[where], g[where] = state.potentials(newly)
            error[where], sweeps[where] = now[newly], done
            running = running & ~newly
            left = int(running.sum())
            if left == 0:
                return f, g, error, sweeps
            if 2 * left <= len(index):
                keep = running
                state, index, factor, now = state.select(keep), index[keep], factor[keep], now[keep]
                before, running = None if before is None else before[keep], running[keep]
        if tolerance > 0:
            striding = _set_stride(state, before, now, running & (factor.flatten() == 1), tolerance, check_every)
        before = now
        state.balance()
        block += 1


def _set_stride(
    state: Iteration, before: Tensor | None, now: Tensor, eligible: Tensor, tolerance: float, sweeps: int
) -> bool:
    """Set the over-relaxation of each problem from the rate of its last sweeps; return whether any is over-relaxed.

    Sinkhorn is block Gauss-Seidel with rate eta; the optimal factor is ``2 / (1 + sqrt(1 - eta))``, and eta follows
    from the rate observed with any smaller factor (Young's formula). See Lehmann, von Renesse, Sambale and Uschmajew, A
    note on overrelaxation in the Sinkhorn algorithm, 2022.
    """
    if before is None:
        return False
    omega = state.stride.flatten().to(now.dtype)
    rate = (now / before).pow(1 / sweeps)
    eta = ((rate + omega - 1).square() / (rate * omega.square())).clamp(0, 1 - 1e-7)
    best = (2 / (1 + (1 - eta).sqrt())).clamp_max(1.99)
    to_go = math.log(tolerance) - now.log()
    improves = (rate < 1) & (rate > omega - 1) & ((omega > 1) | (to_go < _WORTH * rate.log()))
    omega = torch.where(improves, torch.maximum(omega, best), omega)
    omega = torch.where(rate >= 1, 1 + (omega - 1) / 2, omega)
    omega = torch.where(eligible & (now < 0.3), omega, 1.0)
    state.stride = omega.to(state.stride.dtype)[:, None, None]
    return bool((omega > 1.001).any())


class _Ladder:
    """Epsilon scaling for problems with a large range of cost / eps; eps decreases with each block of sweeps."""

    def __init__(self, spread: Tensor, blocks: int) -> None:
        self.log_ratio = (spread / _LADDER_TOP).clamp_min(1).log().where(spread > _LADDER_ABOVE, 0.0)
        self.rungs = (self.log_ratio / math.log(_RUNG)).ceil().clamp_max(blocks // 2)
        self.height = int(self.rungs.amax())

    def factor(self, block: int) -> Tensor:
        """Return the ratio of the eps of this block to the final eps, (P, 1, 1)."""
        left = (1 - block / self.rungs.clamp_min(1)).clamp_min(0).where(self.rungs > block, 0.0)
        return (self.log_ratio * left).exp()
