"""Sinkhorn: POT, the exact linear programme, a literal transcription, laws, limits, failure points.

``textbook`` below is the iteration as it is written in the literature, with logarithms and in float64; everything
faster is measured against it.
"""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.linalg.sinkhorn import sinkhorn
from modalign.linalg.sweeps import kernel, solver

INF = math.inf


def textbook(cost, epsilon, a, b, sweeps, rho=(INF, INF)):
    """f ← −w ε log Σ_j b_j exp((g_j − C_ij)/ε), the same for g, w = ρ/(ρ + ε); returns the plan."""
    cost, a, b = cost.double(), a.double(), b.double()
    weight = [1.0 if math.isinf(r) else r / (r + epsilon) for r in rho]
    f, g = torch.zeros(len(a)).double(), torch.zeros(len(b)).double()
    for _ in range(sweeps):
        f = -weight[0] * epsilon * ((g[None, :] - cost) / epsilon + b.log()[None, :]).logsumexp(dim=1)
        g = -weight[1] * epsilon * ((f[:, None] - cost) / epsilon + a.log()[:, None]).logsumexp(dim=0)
    return a[:, None] * b[None, :] * ((f[:, None] + g[None, :] - cost) / epsilon).exp()


def uniform(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def weights(n, zeros=0):
    w = torch.rand(n, dtype=torch.float64) + 0.1
    w[:zeros] = 0
    return w / w.sum()


def points(n, m, dtype=torch.float64):
    """Squared distances between two clouds in the plane, of range about one."""
    return torch.cdist(torch.rand(n, 2, dtype=torch.float64), torch.rand(m, 2, dtype=torch.float64)).square().to(dtype)


def largest(tensor):
    return float(tensor.abs().max())


# Against independent implementations


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01])
def test_pot_agrees_with_hard_marginals(epsilon):
    cost, a, b = points(30, 20), weights(30), weights(20)
    expected = ot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), epsilon, "sinkhorn_log", 20_000, 1e-12)
    plan = sinkhorn(cost, epsilon, a, b, tolerance=1e-10, max_sweeps=5000)
    assert plan.converged
    assert largest(plan.coupling - torch.from_numpy(expected)) < 1e-10
    assert float(plan.cost) == pytest.approx(float((expected * cost.numpy()).sum()), rel=1e-8)


@pytest.mark.parametrize("rho", [(0.5, 0.5), (INF, 0.1), (0.02, INF), (3.0, 0.01)])
def test_pot_agrees_with_relaxed_marginals(rho):
    cost, a, b = points(15, 10), weights(15), 1.5 * weights(10)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        a.numpy(), b.numpy(), cost.numpy(), 0.05, rho, "sinkhorn", numItermax=20_000, stopThr=1e-14
    )
    plan = sinkhorn(cost, 0.05, a, b, rho=rho, tolerance=1e-11)
    assert plan.converged
    assert largest(plan.coupling - torch.from_numpy(expected)) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("sweeps", [1, 2, 7, 40])
def test_zero_tolerance_makes_the_textbook_sweeps(dtype, epsilon, sweeps):
    cost, a, b = points(12, 9, dtype), weights(12), weights(9)
    plan = sinkhorn(cost, epsilon, a, b, max_sweeps=sweeps, tolerance=0)
    expected = textbook(cost, epsilon, a, b, sweeps)
    assert int(plan.iterations) == sweeps or float(plan.marginal_error) == 0
    assert largest(plan.coupling - expected) < (5e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("rho", [(0.5, 0.05), (INF, 0.01)])
def test_relaxed_sweeps_reach_what_the_textbook_reaches(rho):
    cost, a, b = points(12, 9), weights(12), weights(9)
    expected = textbook(cost, 0.05, a, b, 5000, rho)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-6)):
        plan = sinkhorn(cost.to(dtype), 0.05, a, b, rho=rho, tolerance=max(tolerance / 10, 1e-12))
        assert largest(plan.coupling - expected) < tolerance


@pytest.mark.parametrize("epsilon", [1e-3, 1e-4])
def test_float32_at_tiny_epsilon_is_the_float64_iteration(epsilon):
    """exp(−C/ε) is zero in float32 for all but a few entries here, and float32 exponents of 1e4 have three digits."""
    cost = points(40, 25, torch.float32)
    cost = cost / (cost.max() - cost.min())
    plan = sinkhorn(cost, epsilon, max_sweeps=300, tolerance=0)
    expected = textbook(cost, epsilon, uniform(40), uniform(25), 300)
    assert largest(plan.coupling - expected) < 2e-6
    assert largest(plan.coupling.sum(dim=0) - 1 / 25) < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_epsilon_approaches_the_exact_linear_programme(dtype):
    cost, a, b = points(30, 25, dtype), weights(30), weights(25)
    exact = ot.emd2(a.numpy(), b.numpy(), cost.double().numpy())
    spread = float(cost.max() - cost.min())
    previous = INF
    for epsilon in (1e-1, 1e-2, 1e-3, 1e-4):
        plan = sinkhorn(cost, epsilon * spread, a, b, max_sweeps=4000, tolerance=1e-5)
        gap = float(plan.cost) - exact
        assert torch.isfinite(plan.coupling).all()
        assert float(plan.marginal_error) < 1e-3
        assert -1e-3 * spread < gap < min(previous, epsilon * spread * math.log(30 * 25))
        previous = gap + 1e-4 * spread
    assert abs(gap) < 1e-3 * spread


@pytest.mark.parametrize("rho", [INF, (0.3, INF), (0.05, 0.2)])
def test_large_epsilon_gives_the_product_plan(rho):
    cost, a, b = points(8, 6), weights(8), weights(6)
    plan = sinkhorn(cost, 1e6, a, b, rho=rho)
    assert largest(plan.coupling - a[:, None] * b[None, :]) < 1e-6
    assert float(plan.entropy) == pytest.approx(float(torch.special.entr(a[:, None] * b).sum()), rel=1e-5)


# Laws


def test_orders_of_rows_and_columns_and_transposition():
    cost, a, b = points(14, 9), weights(14), weights(9)
    plan = sinkhorn(cost, 0.05, a, b, tolerance=1e-12).coupling
    rows, columns = torch.randperm(14), torch.randperm(9)
    shuffled = sinkhorn(cost[rows][:, columns], 0.05, a[rows], b[columns], tolerance=1e-12).coupling
    assert largest(shuffled - plan[rows][:, columns]) < 1e-12
    assert largest(sinkhorn(cost.T, 0.05, b, a, tolerance=1e-12).coupling.T - plan) < 1e-11


def test_potentials_added_to_the_cost_do_not_change_the_plan():
    cost = points(14, 9)
    plan = sinkhorn(cost, 0.05, tolerance=1e-12).coupling
    tilted = cost + 3 * torch.randn(14, 1).double() + 3 * torch.randn(1, 9).double() + 1000
    assert largest(sinkhorn(tilted, 0.05, tolerance=1e-12).coupling - plan) < 1e-11


def test_units_of_cost_and_of_mass():
    cost, a, b = points(14, 9, torch.float32), weights(14), weights(9)
    plan = sinkhorn(cost, 0.05, a, b)
    assert largest(sinkhorn(1024 * cost, 51.2, a, b).coupling - plan.coupling) < 1e-7
    heavy = sinkhorn(cost, 0.05, 1e5 * a, 1e5 * b)
    assert largest(heavy.coupling / 1e5 - plan.coupling) < 1e-7
    assert float(heavy.marginal_error) <= 1e-6


def test_a_row_split_in_two_shares_its_plan_and_an_empty_one_gets_none():
    cost, a, b = points(6, 5), weights(6), weights(5)
    plan = sinkhorn(cost, 0.05, a, b, tolerance=1e-12).coupling
    halves = torch.cat([a[:1] * 0.3, a[:1] * 0.7, a[1:]])
    split = sinkhorn(torch.cat([cost[:1], cost]), 0.05, halves, b, tolerance=1e-12).coupling
    assert largest(split[0] + split[1] - plan[0]) < 1e-12
    assert largest(split[2:] - plan[1:]) < 1e-12
    assert largest(split[0] / 0.3 - split[1] / 0.7) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_marginals_with_zeros(dtype, epsilon):
    cost, a, b = points(10, 8, dtype), weights(10, zeros=3), weights(8, zeros=2)
    plan = sinkhorn(cost, epsilon, a, b, max_sweeps=3000, tolerance=1e-5)
    T = plan.coupling
    assert torch.equal(T[:3], torch.zeros_like(T[:3]))
    assert torch.equal(T[:, :2], torch.zeros_like(T[:, :2]))
    inner = sinkhorn(cost[3:, 2:], epsilon, a[3:], b[2:], max_sweeps=3000, tolerance=1e-5).coupling
    assert largest(T[3:, 2:] - inner) < 1e-5
    assert all(torch.isfinite(part).all() for part in plan.potentials)


def test_one_row_or_one_column_leaves_no_choice():
    a = weights(7)
    for cost, left, right in ((torch.rand(7, 1), a, None), (torch.rand(1, 7), None, a), (torch.rand(1, 1), None, None)):
        plan = sinkhorn(cost, 0.01, left, right)
        assert plan.converged
        assert largest(plan.coupling.flatten() - (a if cost.numel() > 1 else 1)) < 1e-6
    constant = sinkhorn(torch.full((5, 4), 3.0), 1e-3)
    assert largest(constant.coupling - 1 / 20) < 1e-8


def test_strength_goes_from_hard_to_free():
    cost, a, b = points(10, 8), weights(10), weights(8)
    hard = sinkhorn(cost, 0.1, a, b, tolerance=1e-12).coupling
    nearly = sinkhorn(cost, 0.1, a, b, rho=1e6, tolerance=1e-12)
    assert largest(nearly.coupling - hard) < 1e-6
    assert nearly.converged, "the constant between f and g must not be left to the sweeps"
    free = sinkhorn(cost, 0.1, a, b, rho=1e-9, tolerance=1e-9).coupling
    assert largest(free - a[:, None] * b * (-cost / 0.1).exp()) < 1e-7


@pytest.mark.parametrize("rho", [(INF, INF), (0.2, INF), (0.1, 0.4)])
def test_no_plan_near_by_has_a_lower_objective(rho):
    """The objective written out, at the plan and at positive perturbations that respect hard marginals."""
    cost, a, b = points(7, 6), weights(7), weights(6)

    def divergence(p, q):
        return float((torch.xlogy(p, p / q) - p + q).sum())

    def objective(T):
        value = float((T * cost).sum()) + 0.1 * divergence(T, a[:, None] * b)
        for strength, got, wanted in zip(rho, (T.sum(dim=1), T.sum(dim=0)), (a, b), strict=True):
            value += 0.0 if math.isinf(strength) else strength * divergence(got, wanted)
        return value

    plan = sinkhorn(cost, 0.1, a, b, rho=rho, tolerance=1e-12)
    best, T = objective(plan.coupling), plan.coupling
    for _ in range(30):
        direction = torch.randn(7, 6).double()
        if math.isinf(rho[0]):
            direction -= direction.mean(dim=1, keepdim=True)
        if math.isinf(rho[1]):
            direction -= direction.mean(dim=0, keepdim=True)
        step = 0.1 * float(T.min()) / largest(direction)
        assert objective(T + step * direction) > best


# What the result says about itself


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sweeps", [10, 60, 5000])
def test_the_reported_error_is_the_error_of_the_coupling(dtype, sweeps):
    cost, a, b = points(20, 15, dtype), weights(20), weights(15)
    plan = sinkhorn(cost, 0.01, a, b, max_sweeps=sweeps)
    T = plan.coupling.double()
    assert float(plan.marginal_error) == pytest.approx(float((T.sum(dim=1) - a).abs().sum()), abs=3e-7)
    assert largest(T.sum(dim=0) - b) < 1e-7
    assert bool(plan.converged) == (float(plan.marginal_error) <= 1e-6) == (sweeps == 5000)


def test_each_problem_stops_by_itself_and_does_not_notice_the_others():
    easy, hard = 0.01 * points(20, 15, torch.float32), points(20, 15, torch.float32)
    both = sinkhorn(torch.stack([easy, hard, easy]), 0.01, max_sweeps=30)
    assert both.converged.tolist() == [True, False, True]
    assert both.iterations[0] < both.iterations[1] == 30
    for k, cost in enumerate((easy, hard)):
        alone = sinkhorn(cost, 0.01, max_sweeps=30)
        assert int(alone.iterations) == int(both.iterations[k])
        assert largest(alone.coupling - both.coupling[k]) < 1e-6


def test_leading_dimensions_and_an_epsilon_and_marginals_for_each_problem():
    cost = torch.stack([points(9, 7, torch.float32) for _ in range(6)]).view(2, 3, 9, 7)
    epsilon = torch.tensor([[0.02], [0.2]])
    a, b = weights(9), torch.stack([weights(7) for _ in range(3)])
    plan = sinkhorn(cost, epsilon, a, b)
    assert plan.coupling.shape == (2, 3, 9, 7)
    assert plan.converged.shape == plan.iterations.shape == plan.cost.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            single = sinkhorn(cost[i, j], float(epsilon[i, 0]), a, b[j])
            assert largest(plan.coupling[i, j] - single.coupling) < 1e-6


@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_tiles_and_blocks_of_any_size_give_the_same(monkeypatch, epsilon):
    cost = torch.stack([points(9, 30, torch.float32) for _ in range(7)])
    whole = sinkhorn(cost, epsilon)
    monkeypatch.setitem(kernel._TILE, "cpu", 600)
    monkeypatch.setattr(kernel, "_BLOCK", 100)
    pieces = sinkhorn(cost, epsilon)
    assert largest(pieces.coupling - whole.coupling) < 2e-6
    assert largest(pieces.cost - whole.cost) < 1e-6


@pytest.mark.parametrize("rho", [INF, (INF, 0.05), (0.3, 0.1)])
@pytest.mark.parametrize("epsilon", [0.1, 2e-3])
def test_all_three_ways_to_multiply_give_the_same(monkeypatch, rho, epsilon):
    """BLAS a problem; summed over problems side by side; torch, as on an accelerator."""
    cost = torch.stack([points(9, 5, torch.float32) for _ in range(6)])
    a, b = weights(9, zeros=1), weights(5)
    options = {"rho": rho, "max_sweeps": 60, "tolerance": 0}
    plans = [sinkhorn(cost, epsilon, a, b, **options).coupling]
    monkeypatch.setattr(kernel, "_MANY", 1)
    plans.append(sinkhorn(cost, epsilon, a, b, **options).coupling)
    monkeypatch.setattr(kernel, "numpy_multiplies", lambda _: False)
    plans.append(sinkhorn(cost, epsilon, a, b, **options).coupling)
    assert all(largest(plan - plans[0]) < 2e-6 for plan in plans[1:])


def test_slow_problems_are_sped_up_without_changing_the_answer():
    cost = torch.rand(40, 6).double()
    fast = sinkhorn(cost, 2e-3, tolerance=1e-10, max_sweeps=3000)
    assert fast.converged
    expected = textbook(cost, 2e-3, uniform(40), uniform(6), 5 * int(fast.iterations))
    assert largest(expected.sum(dim=1) - 1 / 40) > 1e-10, "the textbook needs more than five times as many sweeps"
    expected = textbook(cost, 2e-3, uniform(40), uniform(6), 8000)
    assert largest(fast.coupling - expected) < 1e-9


@pytest.mark.parametrize("rho", [0.5, 1.0, 3.0])
def test_over_relaxation_saves_sweeps_of_relaxed_marginals(rho, monkeypatch):
    cost = points(40, 30)
    fast = sinkhorn(cost, 0.01, rho=rho, tolerance=1e-9, max_sweeps=5000)
    monkeypatch.setattr(solver, "_set_stride", lambda *_: False)
    plain = sinkhorn(cost, 0.01, rho=rho, tolerance=1e-9, max_sweeps=5000)
    assert int(fast.iterations) < 0.7 * int(plain.iterations)
    assert largest(fast.coupling - plain.coupling) < 1e-8


def test_a_decreasing_epsilon_saves_sweeps_at_a_small_one(monkeypatch):
    costs = torch.stack([points(20, 15) for _ in range(6)])

    def sweeps():
        return int(sinkhorn(costs, 5e-4, tolerance=1e-3, max_sweeps=5000).iterations.sum())

    scaled = sweeps()
    monkeypatch.setattr(solver, "_LADDER_ABOVE", INF)
    assert scaled < 0.8 * sweeps()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_plan_of_the_same_numbers(dtype):
    cost = points(20, 15, dtype)
    plan = sinkhorn(cost, 1e-3)
    assert plan.coupling.dtype == torch.float32
    assert torch.equal(plan.coupling, sinkhorn(cost.float(), 1e-3).coupling)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    log_epsilon=st.floats(-6, 3),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    rho=st.sampled_from([INF, (INF, 0.01), (1.0, INF), (0.1, 3.0)]),
    zeros=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_for_any_input_the_plan_is_finite_and_its_error_is_reported(n, m, log_epsilon, scale, rho, zeros, seed):
    generator = torch.Generator().manual_seed(seed)
    cost = scale * torch.rand(n, m, generator=generator)
    a, b = torch.rand(n, generator=generator) + 0.01, torch.rand(m, generator=generator) + 0.01
    if zeros:
        a[1:] *= torch.rand(n - 1, generator=generator) > 0.5
    a, b = a / a.sum(), b / b.sum()
    rho = tuple(scale * r for r in rho) if isinstance(rho, tuple) else rho
    plan = sinkhorn(cost, scale * 10**log_epsilon, a, b, rho=rho, max_sweeps=100)
    T = plan.coupling.double()
    assert torch.isfinite(T).all()
    assert (T >= 0).all()
    assert torch.isfinite(plan.marginal_error)
    for value in (plan.cost, plan.entropy):
        assert torch.isfinite(value)
    if rho == INF:
        assert largest(T.sum(dim=0) - b) < 1e-6
        assert float(plan.marginal_error) == pytest.approx(float((T.sum(dim=1) - a).abs().sum()), abs=1e-6)


# Wrong input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda C: sinkhorn(C * float("nan"), 0.1), "finite numbers in cost"),
        (lambda C: sinkhorn(C + float("inf"), 0.1), "finite numbers in cost"),
        (lambda C: sinkhorn(C[0], 0.1), r"\(\.\.\., n, m\)"),
        (lambda C: sinkhorn(C[:, :0], 0.1), "n, m ≥ 1"),
        (lambda C: sinkhorn(C.numpy(), 0.1), "torch tensor"),
        (lambda C: sinkhorn(C, 0.0), "positive, finite epsilon"),
        (lambda C: sinkhorn(C, -1.0), "positive, finite epsilon"),
        (lambda C: sinkhorn(C, float("nan")), "positive, finite epsilon"),
        (lambda C: sinkhorn(C, torch.ones(3)), "epsilon to fit"),
        (lambda C: sinkhorn(C, 0.1, torch.ones(5) / 5), "a to fit"),
        (lambda C: sinkhorn(C, 0.1, torch.ones(4)), "equal mass"),
        (lambda C: sinkhorn(C, 0.1, torch.zeros(4), torch.zeros(3)), "positive sum"),
        (lambda C: sinkhorn(C, 0.1, b=torch.tensor([1.5, -0.5, 0])), "non-negative"),
        (lambda C: sinkhorn(C, 0.1, b=torch.tensor([1.0, float("nan"), 0])), "finite numbers in b"),
        (lambda C: sinkhorn(C, 0.1, rho=0.0), "rho > 0"),
        (lambda C: sinkhorn(C, 0.1, rho=(1.0, -1.0)), "rho > 0"),
        (lambda C: sinkhorn(C, 0.1, rho=(1.0, 1.0, 1.0)), "rho > 0"),
        (lambda C: sinkhorn(C, 0.1, max_sweeps=0), "max_sweeps ≥ 1"),
        (lambda C: sinkhorn(C, 0.1, tolerance=float("nan")), "tolerance ≥ 0"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.rand(4, 3))


def test_numpy_is_left_as_it_was():
    before = np.geterr()
    sinkhorn(torch.rand(4, 3), 1e-5)
    assert np.geterr() == before
