"""Transport between families of sets against problems solved one by one, POT, and finite differences."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch

from modalign.core.errors import InputError
from modalign.linalg import set_transport as module
from modalign.linalg.set_transport import set_transport


def problem(P=3, J=7, Q=5, L=6, d=5, dtype=torch.float64, seed=0):
    """Left sets, right sets of lengths 1…L with holes in their masks."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(P, J, d, generator=generator, dtype=dtype)
    right = torch.randn(Q, L, d, generator=generator, dtype=dtype)
    mask = torch.rand(Q, L, generator=generator) < 0.6
    mask[:, 2] = True
    mask[0] = True
    return left, right, mask


def cosine_cost(x, y):
    x, y = (part / part.norm(dim=1, keepdim=True) for part in (x, y))
    return 1 - x @ y.T


def pot_plan(cost, epsilon):
    n, m = cost.shape
    uniform = np.full(n, 1 / n), np.full(m, 1 / m)
    return ot.sinkhorn(*uniform, cost.numpy(), epsilon, stopThr=1e-11, numItermax=50_000)


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.03])  # the last one is too small for plain kernels
def test_every_pair_equals_pot(epsilon):
    left, right, mask = problem()
    found = set_transport(left, right, epsilon, mask=mask, tolerance=1e-10, max_sweeps=50_000)
    for p, x in enumerate(left):
        for q, y in enumerate(right):
            cost = cosine_cost(x, y[mask[q]])
            plan = pot_plan(cost, epsilon)
            assert found.cost[p, q].item() == pytest.approx((plan * cost.numpy()).sum(), abs=1e-8)
            assert found.entropy[p, q].item() == pytest.approx(-(plan * np.log(plan)).sum(), abs=1e-7)
    assert found.marginal_error.max() <= 1e-10


@pytest.mark.parametrize("epsilon", [0.3, 0.1, 0.03])
def test_the_gradient_is_that_of_the_regularized_value(epsilon):
    """Envelope theorem: central differences of ⟨T, C⟩ − ε h(T) against what backward gives for ⟨T, C⟩."""
    left, right, mask = problem(P=2, J=4, Q=3, L=3, d=4)
    weights = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 1.5]], dtype=torch.float64)

    def solved(x, y):
        return set_transport(x, y, epsilon, mask=mask[:3, :3], tolerance=1e-11, max_sweeps=20_000)

    left.requires_grad_(), right.requires_grad_()
    gradients = torch.autograd.grad((weights * solved(left, right).cost).sum(), (left, right))

    def value(x, y):
        found = solved(x, y)
        return (weights * (found.cost - epsilon * found.entropy)).sum().item()

    rng = np.random.default_rng(0)
    with torch.no_grad():
        for which, gradient in enumerate(gradients):
            for index in rng.integers(0, gradient.shape, (4, 3)).tolist():
                sides = []
                for step in (1e-5, -1e-5):
                    moved = [left.clone(), right.clone()]
                    moved[which][tuple(index)] += step
                    sides.append(value(*moved))
                assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(gradient[tuple(index)].item(), abs=1e-6)


def test_absent_elements_never_matter():
    left, right, mask = problem()
    right.requires_grad_()
    found = set_transport(left, right, mask=mask)
    found.cost.sum().backward()
    assert right.grad[~mask].abs().max() == 0
    assert right.grad[mask].abs().sum() > 0
    other = torch.where(mask[..., None], right.detach(), 1e3 * torch.randn_like(right))
    assert torch.equal(set_transport(left, other, mask=mask).cost, found.cost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_and_blocks_do_not_change_the_result(dtype, monkeypatch):
    left, right, mask = problem(P=5, Q=9, dtype=dtype)
    left.requires_grad_(), right.requires_grad_()

    def run():
        found = set_transport(left, right, mask=mask, tolerance=0, max_sweeps=30)
        gradients = torch.autograd.grad(found.cost.square().sum(), (left, right))
        return [part.detach() for part in (found.cost, found.entropy, found.marginal_error)], gradients

    whole, whole_gradients = run()
    monkeypatch.setitem(module._TILE, "cpu", 90)
    monkeypatch.setitem(module._PRODUCT, "cpu", 7)
    parts, gradients = run()
    close = {"atol": 1e-5 if dtype == torch.float32 else 1e-12, "rtol": 0}
    for a, b in zip((*whole, *whole_gradients), (*parts, *gradients), strict=True):
        torch.testing.assert_close(a, b, **close)


def test_torch_and_numpy_sweeps_agree(monkeypatch):
    """What an accelerator runs, on the CPU."""
    left, right, mask = problem()
    expected = set_transport(left, right, mask=mask, tolerance=1e-9, max_sweeps=1000)
    monkeypatch.setattr(module, "numpy_multiplies", lambda tensor: False)
    found = set_transport(left, right, mask=mask, tolerance=1e-9, max_sweeps=1000)
    torch.testing.assert_close(found.cost, expected.cost, atol=1e-12, rtol=0)
    assert torch.equal(found.sweeps, expected.sweeps)


def test_scaling_and_order_are_free():
    left, right, mask = problem()
    found = set_transport(left, right, mask=mask, tolerance=1e-10)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = set_transport(3 * left.flip(1), 0.1 * right[order], mask=mask[order], tolerance=1e-10)
    torch.testing.assert_close(turned.cost, found.cost[:, order], atol=1e-9, rtol=0)


def test_large_epsilon_gives_the_uniform_plan():
    left, right, mask = problem()
    found = set_transport(left, right, 1e4, mask=mask, tolerance=1e-12)
    expected = [[cosine_cost(x, y[m]).mean() for y, m in zip(right, mask, strict=True)] for x in left]
    torch.testing.assert_close(found.cost, torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)
    most = (left.shape[1] * mask.sum(dim=1)).double().log().expand_as(found.entropy)
    torch.testing.assert_close(found.entropy, most, atol=1e-6, rtol=0)


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_float32_is_right_at_any_epsilon(epsilon):
    left, right, mask = problem(dtype=torch.float32)
    options = {"mask": mask, "tolerance": 1e-4, "max_sweeps": 2000}
    single = set_transport(left, right, epsilon, **options)
    double = set_transport(left.double(), right.double(), epsilon, **options)
    torch.testing.assert_close(single.cost.double(), double.cost, atol=3e-4, rtol=0)
    assert single.marginal_error.max() <= 2e-4


def test_half_precision_and_autocast_are_computed_in_float32():
    left, right, mask = problem(dtype=torch.float32)
    expected = set_transport(left, right, mask=mask).cost
    assert set_transport(left.half(), right.half(), mask=mask).cost.dtype == torch.float32
    left.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = set_transport(left, right, mask=mask).cost
        found.sum().backward()
    torch.testing.assert_close(found, expected)
    assert left.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": torch.ones(2, 3, 4)}, "of one width"),
        ({"left": torch.ones(3, 5)}, "of one width"),
        ({"epsilon": 0.0}, "positive, finite epsilon"),
        ({"mask": torch.zeros(5, 6, dtype=torch.bool)}, "at least one element"),
        ({"mask": torch.ones(5, 6)}, "bool mask"),
        ({"right": torch.full((5, 6, 5), math.nan)}, "finite numbers in right"),
        ({"tolerance": -1.0}, "tolerance ≥ 0"),
    ],
)
def test_mistakes_are_named(change, message):
    left, right, _ = problem()
    with pytest.raises(InputError, match=message):
        set_transport(**({"left": left, "right": right} | change))
