"""The transport against alternating normalisation written out, against the batched solver, and at its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from modalign.linalg import semidual as gpua_transport
from modalign.linalg.semidual import match
from modalign.linalg.sinkhorn import sinkhorn


def scores(n: int, K: int, seed: int = 0, spread: float = 0.05) -> torch.Tensor:
    """Cosines of a weak classifier on uneven classes."""
    generator = torch.Generator().manual_seed(seed)
    R = spread * torch.randn(n, K, generator=generator)
    owner = (torch.rand(n, generator=generator) ** 2 * K).long()
    R[torch.arange(n), owner] += 3 * spread
    return R


def blocks(R: torch.Tensor, size: int = 97):
    return lambda: ((slice(i, i + size), R[i : i + size]) for i in range(0, len(R), size))


def uniform(K: int) -> torch.Tensor:
    return torch.full((K,), 1 / K)


def test_equals_alternating_normalization_written_out():
    R = scores(60, 5)
    P = np.exp((R.numpy() / 0.02).astype(np.float64))
    for _ in range(3000):
        for k in range(5):
            P[:, k] *= (1 / 5) / P[:, k].sum()
        for i in range(60):
            P[i] *= (1 / 60) / P[i].sum()
    found = match(blocks(R), 60, 0.02, uniform(5))
    np.testing.assert_allclose(found.rows(R).numpy() / 60, P, atol=1e-7)


@pytest.mark.parametrize("rho", [math.inf, 0.03])
@pytest.mark.parametrize(("n", "K"), [(40, 3), (500, 20), (3000, 50)])
def test_equals_the_batched_solver(n, K, rho):
    R = scores(n, K, seed=n)
    b = torch.linspace(1, 4, K) / torch.linspace(1, 4, K).sum()
    found = match(blocks(R), n, 0.01, b, rho=rho)
    cost = 0.01 * b.double().log() - R.double()  # there the entropy is relative to b, here it is the plain one
    plan = sinkhorn(cost, 0.01, b=b.double(), rho=(math.inf, rho), tolerance=1e-9, max_sweeps=20_000)
    np.testing.assert_allclose(found.rows(R).numpy() / n, plan.coupling.numpy(), atol=2e-5 / n)


@pytest.mark.parametrize("n", [160, 752, 1600, 5000, 20_000])
def test_the_marginal_error_is_below_the_tolerance_at_every_size(n):
    R = scores(n, 40)
    found = match(blocks(R, 4096), n, 0.01, uniform(40), tolerance=1e-5)
    assert found.converged
    P = found.rows(R).double() / n
    assert float((P.sum(dim=0) - 1 / 40).abs().sum()) < 2e-5
    np.testing.assert_allclose(P.sum(dim=1).numpy(), 1 / n, rtol=1e-5)
    assert found.passes < 30


def test_a_starved_and_a_greedy_class_are_brought_to_their_shares():
    """One class nearest to all images, one to none, thirty e-folds apart."""
    R = scores(400, 4)
    R[:, 0] += 0.3
    R[:, 3] -= 0.3
    found = match(blocks(R), 400, 0.01, uniform(4))
    assert found.converged
    np.testing.assert_allclose(found.rows(R).mean(dim=0).numpy(), 0.25, atol=1e-5)


def test_more_than_newton_can_hold_is_done_by_sinkhorn(monkeypatch):
    R = scores(300, 6, spread=0.02)
    expected = match(blocks(R), 300, 0.02, uniform(6)).rows(R)
    monkeypatch.setattr(gpua_transport, "MAX_NEWTON", 5)
    found = match(blocks(R), 300, 0.02, uniform(6), max_passes=2000)
    assert found.converged
    np.testing.assert_allclose(found.rows(R).numpy(), expected.numpy(), atol=2e-5)
    relaxed = match(blocks(R), 300, 0.02, uniform(6), rho=0.05, max_passes=2000)
    monkeypatch.undo()
    newton = match(blocks(R), 300, 0.02, uniform(6), rho=0.05)
    np.testing.assert_allclose(relaxed.rows(R).numpy(), newton.rows(R).numpy(), atol=2e-5)


def test_what_adds_to_a_row_or_to_a_column_changes_nothing():
    R = scores(200, 7).double().float()
    rows, columns = torch.randn(200, 1) * 0.1, torch.randn(7) * 0.05
    expected = match(blocks(R), 200, 0.02, uniform(7)).rows(R)
    moved = R + rows + columns
    np.testing.assert_allclose(match(blocks(moved), 200, 0.02, uniform(7)).rows(moved), expected, atol=1e-4)


def test_no_number_of_a_plan_is_denormal():
    """Products with denormal numbers take up to a hundred times as long."""
    R = scores(200, 7, spread=0.3)
    found = match(blocks(R), 200, 0.01, uniform(7))
    assert found.rows(R).min() >= torch.finfo(torch.float32).tiny
    assert ((R + found.g.float()) / 0.01).softmax(dim=1).min() < torch.finfo(torch.float32).tiny


def test_a_weak_penalty_leaves_the_softmax_and_a_strong_one_is_the_constraint():
    R = scores(200, 7)
    free = match(blocks(R), 200, 0.02, uniform(7), rho=1e-7).rows(R)
    np.testing.assert_allclose(free, (R / 0.02).softmax(dim=1), atol=1e-4)
    hard = match(blocks(R), 200, 0.02, uniform(7)).rows(R)
    np.testing.assert_allclose(match(blocks(R), 200, 0.02, uniform(7), rho=1e4).rows(R), hard, atol=1e-4)


def test_a_good_start_needs_fewer_passes():
    R = scores(2000, 20)
    first = match(blocks(R), 2000, 0.01, uniform(20))
    again = match(blocks(R + 1e-4 * torch.randn(R.shape)), 2000, 0.01, uniform(20), start=first.g)
    assert again.passes < first.passes
    assert match(blocks(R), 2000, 0.01, uniform(20), start=first.g).passes <= 2


def test_too_few_passes_are_reported():
    R = scores(300, 10)
    found = match(blocks(R), 300, 0.005, uniform(10), max_passes=2)
    assert not found.converged
    assert found.marginal_error > 1e-6


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_scores_are_read_as_often_as_reported_and_allowed(most):
    R, reads = scores(300, 10), []

    def counted():
        reads.append(1)
        return blocks(R)()

    found = match(counted, 300, 0.005, uniform(10), max_passes=most)
    assert len(reads) == found.passes == most


@pytest.mark.parametrize("rho", [math.inf, 0.7])
def test_gradient_and_hessian_of_the_semidual_are_those_of_finite_differences(rho):
    K, epsilon = 5, 0.05
    R, x = scores(40, K, spread=0.2), torch.randn(K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = torch.tensor([0.4, 0.1, 0.2, 0.2, 0.1], dtype=torch.float64)
    problem = gpua_transport._Problem(
        lambda: ((rows, R_.double()) for rows, R_ in blocks(R)()), 40, epsilon, c, rho, True
    )
    at = problem.evaluate(x)
    gradient = at.mass - at.target
    basis = torch.eye(K, dtype=torch.float64) * 1e-5
    ahead, behind = ([problem.evaluate(x + sign * e) for e in basis] for sign in (1, -1))
    slope = [(a.value - b.value) / 2e-5 for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(gradient, slope, atol=1e-9)
    rows = [((a.mass - a.target) - (b.mass - b.target)) / 2e-5 for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(at.hessian, torch.stack(rows), atol=1e-8)


@pytest.mark.parametrize("rho", [math.inf, 0.03])
def test_a_hessian_in_bfloat16_changes_the_step_and_not_the_answer(rho, monkeypatch):
    R, b = scores(2000, 40), torch.linspace(1, 4, 40) / torch.linspace(1, 4, 40).sum()
    exact = match(blocks(R), 2000, 0.01, b, rho=rho)
    P = exact.rows(R)
    monkeypatch.setattr(gpua_transport, "HALF", 1)
    monkeypatch.setattr(gpua_transport, "_multiplies_bfloat16", lambda: True)
    rounded = gpua_transport._gram(P).float()
    assert 0 < (rounded - P.T @ P).abs().max() <= 2**-7 * (P.T @ P).max()
    found = match(blocks(R), 2000, 0.01, b, rho=rho)
    assert found.converged
    assert found.passes <= exact.passes + 1
    torch.testing.assert_close(found.rows(R), P, rtol=0, atol=1e-5)
