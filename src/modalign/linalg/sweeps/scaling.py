"""Stabilized Sinkhorn sweeps without overflow or underflow at any eps.

The potentials f, g are stored in float64. Between two checks, the iteration uses the kernel ``K = exp((f + g - C) /
eps)`` in the precision of the cost, with two matrix-vector products per sweep, and updates the scalings ``u, v`` only.
The update is non-expansive in the sup norm: no sweep changes f or g (in units of eps) by more than the previous one.
This bounds the number of sweeps until the scalings must be absorbed, ``f += eps log u``. If the bound is below one, the
sweep is computed with logarithms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modalign.linalg.sweeps.kernel import LIMIT, Kernel, Problems

_CAUTION = 4.0  # how much faster than the last change long strides may grow


class Iteration:
    """State of P problems between sweeps; a sweep updates f, then g.

    With a kernel, the potentials are ``f + eps log u``, ``g + eps log v``. The scalings are stored as the kernel sums
    that define them: ``u = 1 / sums`` for a hard marginal and ``u = sums^(-w)``, ``w = rho / (rho + eps)`` for a KL
    penalty rho, up to absorbed factors. ``row_sums`` are those of the latest v, for the next u.
    """

    def __init__(self, problems: Problems, f: Tensor, g: Tensor) -> None:
        self.problems, self.f, self.g = problems, f, g
        self.kernel: Kernel | None = None
        self.used: tuple[Tensor, Tensor] | None = None  # row and column sums that gave u and v; None: both are 1
        self.fresh = True  # f and g do not solve each other's equation yet, so the next change has no known bound
        self.shift = torch.zeros_like(problems.eps)  # a known future change, in addition to the residual
        self.stride = torch.ones_like(problems.a[:, :1])  # how far each half-step goes, 1 = to its solution
        self._known_sizes: tuple[float, float] | None = None

    def sweep(self, count: int, *, striding: bool = False) -> None:
        """Run ``count`` sweeps; with over-relaxation, all but the last step are ``stride`` times as long.

        After the last sweep, the column marginal is exact, so the row marginal error describes the state.

        Synchronizes with the device once per block of sweeps, not per sweep.
        """
        limit = LIMIT[self.problems.cost.dtype]
        while count:
            change, size = self._sizes()
            if not change <= limit:
                self._logarithmic_sweep()
                count -= 1
                continue
            striding = striding and change * _CAUTION <= limit
            growth = change * _CAUTION if striding else change
            safe = min(count, int((limit - size) / growth)) if growth > 0 else count
            if self.fresh:
                safe = 1
            if safe < 1:
                self._absorb()
                continue
            before = self.used
            self._exponential_sweeps(safe, striding)
            count -= safe
            if (self.fresh or striding) and not self._sizes()[1] <= 1.25 * limit:  # no bound was known: too far
                self.used = before
                self._logarithmic_sweep()
                striding = False
            self.fresh = False

    def set_eps(self, eps: Tensor) -> None:
        """Continue with another eps from the same potentials."""
        self._absorb()
        old = self.problems
        self.problems = Problems(old.cost, old.a, old.b, eps, old.rho)
        self.fresh = True

    def select(self, keep: Tensor) -> Iteration:
        """Return the state of some of the problems."""
        self._absorb()
        rest = Iteration(self.problems.part(keep), self.f[keep], self.g[keep])
        rest.fresh, rest.shift, rest.stride = self.fresh, self.shift[keep], self.stride[keep]
        return rest

    def potentials(self, which: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return f (P, n, 1) and g (P, m, 1) of some of the problems."""
        f, g = self.f[which], self.g[which]
        if self.used is None:
            return f, g
        eps = self.problems.eps[which]
        rows, columns = (self._side(side, which).logarithm(self.used[side][which]) for side in (0, 1))
        return f + eps * rows, g + eps * columns

    def error(self) -> Tensor:
        """Return the relative L1 error of the row sums of the plan, (P,); its column sums are exact."""
        self._require_kernel()
        target, rho = self.problems.a, self.problems.rho[0]
        if math.isfinite(rho):
            f, _ = self.potentials()
            target = target * (-f / rho).exp()
        off = (target * self._excess().abs()).sum((1, 2)) / target.sum((1, 2))
        return off.to(self.f.dtype).nan_to_num(nan=math.inf)

    def balance(self) -> None:
        """Shift a constant between f and g to maximize the dual of a KL-relaxed problem.

        Sweeps alone converge to this constant at the rate rho / (rho + eps) only. See Séjourné, Vialard and Peyré,
        Faster unbalanced optimal transport: translation invariant Sinkhorn and 1-D Frank-Wolfe, 2022.
        """
        rho_a, rho_b = self.problems.rho
        if math.isinf(rho_a) and math.isinf(rho_b):
            return
        f, g = self.potentials()
        mass_a = (self.problems.a.to(f.dtype).log() - f / rho_a).logsumexp(dim=1, keepdim=True)
        mass_b = (self.problems.b.to(f.dtype).log() - g / rho_b).logsumexp(dim=1, keepdim=True)
        constant = (mass_a - mass_b) / (1 / rho_a + 1 / rho_b)
        self.f, self.g = self.f + constant, self.g - constant
        self.shift = 2 * constant.abs() / self.problems.eps
        self._known_sizes = None

    def _sizes(self) -> tuple[float, float]:
        """Return bounds on the change of log u and log v in one sweep, and their size.

        The bound is infinite if a relaxed side needs kernel sums outside the range of the dtype.
        """
        if self._known_sizes is None:
            self._require_kernel()
            sides = self._side(0), self._side(1)
            low, high = self._excess().aminmax()
            change = torch.maximum(high.log1p(), -low.log1p()) + self.shift.amax()
            within = sides[0].reach() + sides[1].reach() <= 2 * LIMIT[self.problems.cost.dtype]
            change = change.where(torch.as_tensor(within, device=change.device), math.inf)
            size = torch.zeros_like(change)
            if self.used is not None:
                for side, sums in zip(sides, self.used, strict=True):
                    size = torch.maximum(size, side.size(sums))
            self._known_sizes = tuple(torch.stack([change, size]).tolist())
        return self._known_sizes

    def _excess(self) -> Tensor:
        """Return the relative excess of the row sums, (P, n, 1); zero at the solution."""
        rho = self.problems.rho[0]
        if math.isinf(rho):
            wanted = 1 if self.used is None else self.used[0]
            return (self.row_sums - wanted) / wanted
        f, _ = self.potentials()
        residual = self.row_sums.to(f.dtype).log() + (f - self.f) / self.problems.eps + f / rho
        return residual.expm1()

    def _side(self, side: int, which: Tensor | slice = slice(None)) -> _Hard:
        rho, eps = self.problems.rho[side], self.problems.eps[which]
        return _Hard(eps) if math.isinf(rho) else _Relaxed(eps, (self.f, self.g)[side][which], rho)

    def _require_kernel(self) -> Kernel:
        if self.kernel is None:
            self.kernel = Kernel(self.problems, self.f, self.g)
            self.row_sums = self.kernel.vector(self.problems.a)
            self.kernel.times(self.kernel.vector(self.problems.b), out=self.row_sums)
            self._known_sizes = None
        return self.kernel

    def _absorb(self) -> None:
        self.f, self.g = self.potentials()
        self.kernel = self.used = self._known_sizes = None

    def _exponential_sweeps(self, count: int, striding: bool) -> None:
        rows, columns, kernel = self._side(0), self._side(1), self._require_kernel()
        u, v = kernel.vector(self.problems.a), kernel.vector(self.problems.b)
        pending, used, sums = self.row_sums, torch.empty_like(u), torch.empty_like(v)
        length, (led_u, led_v) = self.stride if striding else None, self.used or (None, None)
        rows.start(u.clone(), led_u, length)
        columns.start(v.clone(), led_v, length)
        for left in range(count - 1, -1, -1):
            far = striding and left > 0
            (rows.stride if far else rows.step)(pending, out=u)
            kernel.transposed_times(u, out=sums)
            (columns.stride if far else columns.step)(sums, out=v)
            pending, used = used, pending
            kernel.times(v, out=pending)
        self.row_sums, self.used = pending, (used, sums)
        self.shift = torch.zeros_like(self.shift)
        self._known_sizes = None

    def _logarithmic_sweep(self) -> None:
        """Sweep in the log domain."""
        self._absorb()
        problems, dtype, eps = self.problems, self.f.dtype, self.problems.eps
        log_a, log_b = problems.a.to(dtype).log(), problems.b.to(dtype).log()
        f, g = torch.empty_like(self.f), torch.full_like(self.g, -math.inf)
        for rows in problems.blocks():
            cost = problems.cost[:, rows]
            sums = _log_sum_exp((self.g.mT - cost).div_(eps).add_(log_b.mT), 2, cost.dtype)
            f[:, rows] = -self._side(0).power * eps * sums
            sums = _log_sum_exp((f[:, rows] - cost).div_(eps).add_(log_a[:, rows]), 1, cost.dtype)
            g = torch.logaddexp(g, sums.mT)
        self.f, self.g = f, -self._side(1).power * eps * g
        self.fresh, self.shift = False, torch.zeros_like(self.shift)


class _Hard:
    """Half-step for a hard marginal: from the sums of the other side to weights × scaling, scaling = 1 / sums."""

    power: Tensor | float = 1.0

    def __init__(self, eps: Tensor) -> None:
        self.exact = eps.dtype

    def step(self, sums: Tensor, out: Tensor) -> None:
        torch.div(self.weights, sums, out=out)

    def start(self, weights: Tensor, sums: Tensor | None, length: Tensor | None) -> None:
        """Set the weights; with a length, prepare over-relaxed steps from the given sums."""
        self.weights = weights
        if length is not None:
            self.scaling = torch.ones_like(weights) if sums is None else self.logarithm(sums).exp().to(weights.dtype)
            self.memory, self.exponent = 1 - length, (-length * self.power).to(weights.dtype)

    def stride(self, sums: Tensor, out: Tensor) -> None:
        """Step that is ``length`` times as long in the logarithm."""
        self.scaling = self.scaling.pow(self.memory).mul_(sums.pow(self.exponent))
        torch.mul(self.weights, self.scaling, out=out)

    def logarithm(self, sums: Tensor) -> Tensor:
        """Return the logarithm of the scaling for these sums."""
        return sums.to(self.exact).log().neg_()

    def size(self, sums: Tensor) -> Tensor:
        """Return the largest absolute logarithm."""
        return torch.stack(sums.aminmax()).log().abs().amax()

    def reach(self) -> float | Tensor:
        """Return the largest absolute logarithm of the sums that the absorbed part requires."""
        return 0.0


class _Relaxed(_Hard):
    """Half-step for a KL-relaxed marginal, scaling = (sums · exp(absorbed / rho))^(−power)."""

    power: Tensor

    def __init__(self, eps: Tensor, absorbed: Tensor, rho: float) -> None:
        super().__init__(eps)
        self.power = rho / (rho + eps)
        self.offset = -self.power * absorbed / rho

    def start(self, weights: Tensor, sums: Tensor | None, length: Tensor | None) -> None:
        super().start(weights, sums, length)
        self.plain = weights * self.offset.exp().to(weights.dtype)
        self.plain_exponent = -self.power.to(weights.dtype)
        if length is not None:
            self.factor = (length * self.offset).exp().to(weights.dtype)

    def step(self, sums: Tensor, out: Tensor) -> None:
        torch.mul(self.plain, sums.pow(self.plain_exponent), out=out)

    def stride(self, sums: Tensor, out: Tensor) -> None:
        self.scaling = self.scaling.pow(self.memory) * sums.pow(self.exponent) * self.factor
        torch.mul(self.weights, self.scaling, out=out)

    def logarithm(self, sums: Tensor) -> Tensor:
        return self.offset - self.power * sums.to(self.exact).log()

    def size(self, sums: Tensor) -> Tensor:
        return self.logarithm(sums).abs().amax().to(sums.dtype)

    def reach(self) -> Tensor:
        return self.offset.abs().amax()


def _log_sum_exp(exponents: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Like ``logsumexp(dim, keepdim=True)``, overwriting its argument; the exponentials are taken in ``dtype``."""
    highest = exponents.amax(dim=dim, keepdim=True).clamp_min(-torch.finfo(exponents.dtype).max)
    sums = exponents.sub_(highest).to(dtype).exp_().sum(dim=dim, keepdim=True)
    return sums.to(highest.dtype).log() + highest
