"""A transport plan and the numbers that say how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from modalign.linalg._kernel import Problems, density, tiles


class _Statistics(NamedTuple):
    cost: Tensor
    entropy: Tensor
    total_variation: Tensor


@dataclass(frozen=True)
class TransportPlan:
    """A transport plan, or a batch of them, and how far to trust it. ``...`` are the leading dimensions of the cost.

    The plan is held by its potentials; the (..., n, m) ``coupling`` is formed when it is asked for.

    Attributes
    ----------
    cost_matrix : Tensor of shape (..., n, m)
        C as it was given, in the working type, not copied.
    epsilon : Tensor of shape (...,)
        Strength of the entropy.
    a, b : Tensor of shape (..., n)
        And (..., m) the marginals asked for.
    rho : tuple of (float, float)
        KL strength of each marginal; infinite for a hard one.
    potentials : tuple of (Tensor, Tensor)
        f (..., n) and g (..., m) in float64, ``T = a ⊗ b · exp((f ⊕ g − C) / epsilon)``. What
        ``start`` takes.
    marginal_error : Tensor of shape (...,)
        L1 distance between the row sums of the plan and what was asked for, relative to their total: 2 means nothing is
        where it belongs. Column sums are exact. Under a KL-relaxed marginal, the distance from the optimality condition
        ``T 1 = a exp(−f / rho)``.
    iterations : Tensor of shape (...,)
        Sweeps made; one sweep is one update of f and one of g.
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
        """(..., n, m) the plan T itself, formed anew at every access."""
        flat = self.cost_matrix.new_empty(len(self.problems), *self.cost_matrix.shape[-2:])
        for which, rows, part in self._parts():
            flat[which, rows] = part
        return flat.view(self.cost_matrix.shape)

    @property
    def marginals(self) -> tuple[Tensor, Tensor]:
        """The row sums (..., n) and column sums (..., m) that the plan has, in float64."""
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
        """(...,) −Σ p log p in nats of the plan scaled to mass one; log(n m) is the most there is."""
        return self._statistics.entropy

    @property
    def total_variation(self) -> Tensor:
        """(...,) ½ Σ |p − p₁ ⊗ p₂|, how far the plan is from the product of its own marginals.

        0: the transport does nothing that a uniform plan would not do. Towards 1: it is an assignment.
        """
        return self._statistics.total_variation

    @property
    def objective(self) -> Tensor:
        """(...,) ⟨T, C⟩ + epsilon KL(T | a ⊗ b) + Σ rho KL(marginal | asked for), in float64.

        KL(p | q) = Σ p log(p / q) − p + q; a hard marginal adds nothing.
        """
        (f, g), (rows, columns) = self.potentials, self.marginals
        mass = rows.sum(dim=-1)
        product = self.a.to(f.dtype).sum(dim=-1) * self.b.to(f.dtype).sum(dim=-1)
        value = (rows * f).sum(dim=-1) + (columns * g).sum(dim=-1) - self.epsilon * (mass - product)
        for rho, got, wanted in zip(self.rho, (rows, columns), (self.a, self.b), strict=True):
            if math.isfinite(rho):
                wanted = wanted.to(got.dtype)
                ratio = torch.where(wanted > 0, got / wanted, 1)
                value = value + rho * (torch.xlogy(got, ratio) - got + wanted).sum(dim=-1)
        return value

    @property
    def problems(self) -> Problems:
        """The same with one leading dimension, as the solver has it; a view wherever the cost is contiguous."""
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
        """The plan in pieces: which problems, which rows, their entries."""
        everything, (f, g) = self.problems, self.flat_potentials
        for which in tiles(everything.cost):
            problems = everything.part(which)
            for rows in problems.blocks():
                part = density(problems, f[which], g[which], rows)
                yield which, rows, part * problems.a[:, rows] * problems.b.mT

    @cached_property
    def _statistics(self) -> _Statistics:
        rows_sums, column_sums = (part.reshape(-1, part.shape[-1]) for part in self.marginals)
        mass = rows_sums.sum(dim=1)
        p_rows, p_columns = rows_sums / mass[:, None], column_sums / mass[:, None]
        cost, entropy, variation = (torch.zeros_like(mass) for _ in range(3))
        flat = self.problems.cost
        for which, rows, part in self._parts():
            part = part.to(mass.dtype)
            cost[which] += (part * flat[which, rows]).sum(dim=(1, 2))
            p = part / mass[which, None, None]
            entropy[which] += torch.special.entr(p).sum(dim=(1, 2))
            product = p_rows[which, rows, None] * p_columns[which, None, :]
            variation[which] += (p - product).abs_().sum(dim=(1, 2)) / 2
        return _Statistics(*(part.view(self.converged.shape) for part in (cost, entropy, variation)))
