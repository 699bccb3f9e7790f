"""Transport plan with its marginal error and convergence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from modalign.linalg.sweeps.kernel import Problems, density, tiles


class _Statistics(NamedTuple):
    cost: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class TransportPlan:
    """Transport plan or batch of plans, with convergence. ``...`` are the leading dimensions of the cost.

    The plan is stored by its potentials; the (..., n, m) ``coupling`` is computed on access.

    Attributes
    ----------
    cost_matrix : Tensor of shape (..., n, m)
        Cost C in the working dtype, not copied.
    epsilon : Tensor of shape (...,)
        Strength of the entropy.
    a, b : Tensor of shape (..., n)
        Requested marginals, (..., n) and (..., m).
    rho : tuple of (float, float)
        KL penalty of each marginal; infinite for a hard one.
    potentials : tuple of (Tensor, Tensor)
        f (..., n) and g (..., m) in float64, ``T = a ⊗ b · exp((f ⊕ g − C) / epsilon)``.
    marginal_error : Tensor of shape (...,)
        L1 distance between the row sums of the plan and the requested marginal, relative to their total; at most 2.
        Column sums are exact. For a KL-relaxed marginal, the distance from the optimality condition ``T 1 = a exp(−f /
        rho)``.
    iterations : Tensor of shape (...,)
        Number of sweeps; a sweep updates f and g once.
    converged : Tensor of shape (...,), bool
        ``marginal_error ≤ tolerance``.
    """

    cost_matrix: Tensor = field(repr=False)
    epsilon: Tensor
    a: Tensor = field(repr=False)
    b: Tensor = field(repr=False)
    rho: tuple[float, float]
    potentials: tuple[Tensor, Tensor] = field(repr=False)
    marginal_error: Tensor
    iterations: Tensor
    converged: Tensor

    @property
    def coupling(self) -> Tensor:
        """Plan T, (..., n, m), computed on every access."""
        flat = self.cost_matrix.new_empty(len(self.problems), *self.cost_matrix.shape[-2:])
        for which, rows, part in self._parts():
            flat[which, rows] = part
        return flat.view(self.cost_matrix.shape)

    @property
    def marginals(self) -> tuple[Tensor, Tensor]:
        """Row sums (..., n) and column sums (..., m) of the plan, in float64."""
        f, g = (torch.zeros_like(part) for part in self.flat_potentials)
        for which, rows, part in self._parts():
            part = part.to(f.dtype)
            f[which, rows, 0] = part.sum(dim=2)
            g[which, :, 0] += part.sum(dim=1)
        return f.view_as(self.potentials[0]), g.view_as(self.potentials[1])

    @property
    def cost(self) -> Tensor:
        """(...,) Σ T·C, in float64."""
        return self._statistics.cost

    @property
    def entropy(self) -> Tensor:
        """(...,) −Σ p log p in nats of the plan scaled to mass one; at most log(n m)."""
        return self._statistics.entropy

    @property
    def problems(self) -> Problems:
        """Return the problems with one leading dimension for the solver; a view if the cost is contiguous."""
        n, m = self.cost_matrix.shape[-2:]
        return Problems(
            self.cost_matrix.reshape(-1, n, m),
            self.a.reshape(-1, n, 1),
            self.b.reshape(-1, m, 1),
            self.epsilon.reshape(-1, 1, 1),
            self.rho,
        )

    @property
    def flat_potentials(self) -> tuple[Tensor, Tensor]:
        """(P, n, 1) and (P, m, 1) views of the potentials."""
        f, g = self.potentials
        return f.reshape(-1, f.shape[-1], 1), g.reshape(-1, g.shape[-1], 1)

    def _parts(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Iterate over the plan in blocks: problems, rows, entries."""
        everything, (f, g) = self.problems, self.flat_potentials
        for which in tiles(everything.cost):
            problems = everything.part(which)
            for rows in problems.blocks():
                part = density(problems, f[which], g[which], rows)
                yield which, rows, part * problems.a[:, rows] * problems.b.mT

    @cached_property
    def _statistics(self) -> _Statistics:
        mass = self.marginals[0].sum(dim=-1).reshape(-1)
        cost, entropy = torch.zeros_like(mass), torch.zeros_like(mass)
        flat = self.problems.cost
        for which, rows, part in self._parts():
            part = part.to(mass.dtype)
            cost[which] += (part * flat[which, rows]).sum(dim=(1, 2))
            entropy[which] += torch.special.entr(part / mass[which, None, None]).sum(dim=(1, 2))
        return _Statistics(cost.view(self.converged.shape), entropy.view(self.converged.shape))
