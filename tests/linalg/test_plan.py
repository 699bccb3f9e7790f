"""The numbers a plan reports about itself, against their definitions on the dense coupling."""

import math

import pytest
import torch

from modalign.linalg.sinkhorn import sinkhorn


@pytest.mark.parametrize("rho", [math.inf, (math.inf, 0.1), (0.2, 0.1)])
def test_statistics_are_those_of_the_dense_coupling(rho):
    cost = torch.rand(3, 2, 8, 5)
    a = torch.rand(8) + 0.1
    plan = sinkhorn(cost, 0.05, 7 * a / a.sum(), 7 * torch.ones(5) / 5, rho=rho)
    T = plan.coupling.double()
    rows, columns = plan.marginals
    assert torch.allclose(rows, T.sum(dim=-1), rtol=1e-6)
    assert torch.allclose(columns, T.sum(dim=-2), rtol=1e-6)
    assert torch.allclose(plan.cost, (T * cost).sum(dim=(-2, -1)), rtol=1e-6)
    p = T / T.sum(dim=(-2, -1), keepdim=True)
    assert torch.allclose(plan.entropy, -torch.xlogy(p, p).sum(dim=(-2, -1)), rtol=1e-6)


def test_entropy_of_an_assignment_and_of_a_uniform_plan():
    assignment = sinkhorn(1 - torch.eye(5), 1e-3)
    assert float(assignment.entropy) == pytest.approx(math.log(5), rel=1e-5)
    uniform = sinkhorn(torch.zeros(5, 5), 1e-3)
    assert float(uniform.entropy) == pytest.approx(math.log(25), rel=1e-6)


def test_potentials_make_the_coupling_and_certify_the_objective():
    """Weak duality: ⟨a, f⟩ + ⟨b, g⟩ is a lower bound that the optimum attains."""
    cost = torch.rand(8, 5).double()
    plan = sinkhorn(cost, 0.05, tolerance=1e-12)
    f, g = plan.potentials
    T = plan.a[:, None] * plan.b * ((f[:, None] + g - cost) / 0.05).exp()
    assert torch.allclose(plan.coupling, T, rtol=1e-10)
    objective = (T * cost).sum() + 0.05 * torch.xlogy(T, T / (plan.a[:, None] * plan.b)).sum()
    assert float(objective) == pytest.approx(float(plan.a @ f + plan.b @ g), rel=1e-9)


def test_the_cost_matrix_is_shared_not_copied_and_the_print_is_short():
    cost = torch.rand(8, 5)
    plan = sinkhorn(cost, 0.05)
    assert plan.cost_matrix.data_ptr() == cost.data_ptr()
    assert "tensor([[" not in repr(plan)
    assert "converged" in repr(plan)


def test_a_plan_is_shown_without_its_numbers():
    assert "tensor([" not in repr(sinkhorn(torch.rand(3, 4), 0.1))
