"""Sweeps of the scaling iteration that neither over- nor underflow at any eps.

Potentials f, g live in float64. Between two looks at the numbers the iteration runs on the kernel
``K = exp((f + g - C) / eps)`` in the precision of the cost with two matrix-vector products a sweep, and changes only
the scalings ``u, v``. Once f and g solve each other's equation, no later sweep changes either of them (in units of
eps) by more than the sweep before: the map is non-expansive in the sup norm. So the number of sweeps that is safe
until the scalings must be absorbed, ``f += eps log u``, is known beforehand; and where not even one is safe, a sweep is
made with logarithms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modalign.linalg._kernel import LIMIT, Kernel, Problems

_CAUTION = 4.0  # how much faster than the last change long strides may grow


class Iteration:
    """The state of P problems between sweeps; one sweep solves for f, then for g.

    With a kernel the potentials are ``f + eps log_u``, ``g + eps log_v``, and ``row_sums`` are those of the newest v.
    A side of KL strength rho solves ``u = (K b v)^(-w)``, ``w = rho / (rho + eps)``, up to what has been absorbed.
    """

    def __init__(self, problems: Problems, f: Tensor, g: Tensor) -> None:
        self.problems, self.f, self.g = problems, f, g
        self.kernel: Kernel | None = None
        self._known_sizes: tuple[float, float] | None = None
        self.fresh = True  # f and g do not solve each other's equation yet, so the next change has no known bound
        self.shift = torch.zeros_like(problems.eps)  # a known change to come beside the residual
        self.stride = torch.ones_like(problems.a[:, :1])  # how far each half-step goes, 1 = to its solution

    def sweep(self, count: int, *, striding: bool = False) -> None:
        """``count`` sweeps; if so asked, all but the last of a run go ``stride`` times as far (over-relaxation).

        The last one leaves g solving its equation, so that one error describes the state, and damps what overshot.

        Waits for the device once per run of safe sweeps, not per sweep.
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
            before = self.log_u, self.log_v, self.row_sums
            self._exponential_sweeps(safe, striding)
            count -= safe
            if (self.fresh or striding) and not self._sizes()[1] <= 1.25 * limit:  # no bound was known: too far
                self.log_u, self.log_v, self.row_sums = before
                self._logarithmic_sweep()
                striding = False
            self.fresh = False

    def set_eps(self, eps: Tensor) -> None:
        """Go on at another eps from the same potentials."""
        self._absorb()
        old = self.problems
        self.problems = Problems(old.cost, old.a, old.b, eps, old.rho)
        self.fresh = True

    def select(self, keep: Tensor) -> Iteration:
        """The state of some of the problems."""
        self._absorb()
        rest = Iteration(self.problems.part(keep), self.f[keep], self.g[keep])
        rest.fresh, rest.shift, rest.stride = self.fresh, self.shift[keep], self.stride[keep]
        return rest

    def potentials(self) -> tuple[Tensor, Tensor]:
        """f (P, n, 1) and g (P, m, 1)."""
        if self.kernel is None:
            return self.f, self.g
        return self.f + self.problems.eps * self.log_u, self.g + self.problems.eps * self.log_v

    def error(self) -> Tensor:
        """(P,) L1 distance of the row sums of the plan from what f asks for, relative; its column sums are exact."""
        self._require_kernel()
        target, rho = self.problems.a.to(self.f.dtype), self.problems.rho[0]
        if math.isfinite(rho):
            target = target * (-self.potentials()[0] / rho).exp()
        off = (target * torch.expm1(self._residual()).abs()).sum((1, 2)) / target.sum((1, 2))
        return off.nan_to_num(nan=math.inf)

    def balance(self) -> None:
        """Move a constant between f and g to where the dual of a KL-relaxed problem is highest.

        Sweeps alone find that constant at the rate rho / (rho + eps) only. See Séjourné, Vialard and Peyré, Faster
        unbalanced optimal transport: translation invariant Sinkhorn and 1-D Frank-Wolfe, 2022.
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
        """How much log u or log v may change in one sweep, and how large they are.

        The change is infinite where a relaxed side would ask the kernel for sums that its type cannot hold.
        """
        if self._known_sizes is None:
            self._require_kernel()
            rows, columns = self._side(0), self._side(1)
            change = (rows.power * self._residual().abs() + self.shift).amax()
            size = torch.maximum(self.log_u.abs().amax(), self.log_v.abs().amax())
            offset = torch.maximum(rows.offset.abs().amax(), columns.offset.abs().amax())
            change = change.where(offset <= 2 * LIMIT[self.problems.cost.dtype], math.inf)
            self._known_sizes = tuple(torch.stack([change, size]).tolist())
        return self._known_sizes

    def _residual(self) -> Tensor:
        """(P, n, 1) log of the row sums over what f asks for; zero at the solution."""
        residual = self.row_sums.to(self.f.dtype).log() + self.log_u
        if math.isfinite(self.problems.rho[0]):
            residual = residual + (self.f + self.problems.eps * self.log_u) / self.problems.rho[0]
        return residual

    def _side(self, side: int) -> _Side:
        weights = (self.problems.a, self.problems.b)[side]
        return _Side(weights, (self.f, self.g)[side], self.problems.eps, self.problems.rho[side])

    def _require_kernel(self) -> None:
        if self.kernel is None:
            self.kernel = Kernel(self.problems, self.f, self.g)
            self.log_u, self.log_v = torch.zeros_like(self.f), torch.zeros_like(self.g)
            self.row_sums = torch.empty_like(self.problems.a)
            self.kernel.times(self.problems.b, out=self.row_sums)
            self._known_sizes = None

    def _absorb(self) -> None:
        self.f, self.g = self.potentials()
        self.kernel = self._known_sizes = None

    def _exponential_sweeps(self, count: int, striding: bool) -> None:
        rows, columns, kernel = self._side(0), self._side(1), self.kernel
        if striding:
            rows.start(self.log_u, self.stride)
            columns.start(self.log_v, self.stride)
        u, v = torch.empty_like(rows.weights), torch.empty_like(columns.weights)
        pending, used, sums = self.row_sums, torch.empty_like(u), torch.empty_like(v)
        for left in range(count - 1, -1, -1):
            far = striding and left > 0
            (rows.stride if far else rows.step)(pending, out=u)
            kernel.transposed_times(u, out=sums)
            (columns.stride if far else columns.step)(sums, out=v)
            pending, used = used, pending
            kernel.times(v, out=pending)
        self.row_sums, self.log_u, self.log_v = pending, rows.logarithm(used), columns.logarithm(sums)
        self.shift = torch.zeros_like(self.shift)
        self._known_sizes = None

    def _logarithmic_sweep(self) -> None:
        """One sweep that forms no exponential of a large number."""
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


class _Side:
    """The half-step of one side: from the sums of the other side to weights × scaling.

    ``scaling = (sums · exp(absorbed / rho))^(-power)``, ``power = rho / (rho + eps)``: ``1 / sums`` for a hard side.
    """

    def __init__(self, weights: Tensor, absorbed: Tensor, eps: Tensor, rho: float) -> None:
        self.weights, self.dtype = weights, absorbed.dtype
        self.hard = math.isinf(rho)
        self.power = torch.ones_like(eps) if self.hard else rho / (rho + eps)
        self.offset = torch.zeros_like(eps) if self.hard else -self.power * absorbed / rho
        if not self.hard:
            self.factor = weights * self.offset.exp().to(weights.dtype)
            self.exponent = -self.power.to(weights.dtype)

    def step(self, sums: Tensor, out: Tensor) -> None:
        if self.hard:
            torch.div(self.weights, sums, out=out)
        else:
            torch.mul(self.factor, sums.pow(self.exponent), out=out)

    def start(self, log_scaling: Tensor, length: Tensor) -> None:
        """Prepare strides: steps ``length`` times as far in the logarithm, the first one from this scaling."""
        dtype = self.weights.dtype
        self.scaling = log_scaling.exp().to(dtype)
        self.memory = 1 - length
        self.stride_exponent = (-length * self.power).to(dtype)
        self.stride_factor = (length * self.offset).exp().to(dtype)

    def stride(self, sums: Tensor, out: Tensor) -> None:
        self.scaling = self.scaling.pow(self.memory) * sums.pow(self.stride_exponent) * self.stride_factor
        torch.mul(self.weights, self.scaling, out=out)

    def logarithm(self, sums: Tensor) -> Tensor:
        """log of the scaling that a plain step makes of these sums."""
        return self.offset - self.power * sums.to(self.dtype).log()


def _log_sum_exp(exponents: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Like ``logsumexp(dim, keepdim=True)``, overwriting its argument; the exponentials are taken in ``dtype``."""
    highest = exponents.amax(dim=dim, keepdim=True).clamp_min(-torch.finfo(exponents.dtype).max)
    sums = exponents.sub_(highest).to(dtype).exp_().sum(dim=dim, keepdim=True)
    return sums.to(highest.dtype).log() + highest
