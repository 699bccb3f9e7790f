"""The fast loop is the plain loop: gradients against autograd, every loss of a run against module + AdamW."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modalign.methods.cmm.cmm_parameters import CMMParameters, CMMStack, Objective
from modalign.methods.cmm.cmm_training import CMMRun, Record, Schedule, map_rows
from modalign.methods.contract.training_steps import batch_order


def problem(seed: int = 0, n: int = 40, d: int = 12, C: int = 5, layers: int = 1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    X = F.normalize(torch.randn(n, d, generator=g, dtype=dtype), dim=1)
    y = torch.randint(C, (n,), generator=g)
    T = F.normalize(torch.randn(C, d, generator=g, dtype=dtype), dim=1)
    weights = [torch.randn(d, d, generator=g, dtype=dtype) / d**0.5 for _ in range(layers)]
    return X, y, T, weights


def plain_loss(x, y, weights, T, frozen, aim: Objective):
    """Equations 6–16 of CMM, one image after the other, with autograd's own operations."""
    total = x.new_zeros(())
    for image, label in zip(x, y.tolist(), strict=True):
        f = image
        for layer, W in enumerate(weights):
            f = torch.relu(f) if layer else f
            f = f @ W + f
        similarity = torch.stack([F.cosine_similarity(f, t, dim=0) for t in T])
        logits = aim.logit_scale * (similarity + aim.zero_shot_weight * torch.stack([image @ t for t in frozen]))
        cross_entropy = -(logits - torch.logsumexp(logits, 0))[label]
        positive = 1 - similarity[label]
        negative = min(1 - similarity[c] for c in range(len(T)) if c != label)
        total = total + cross_entropy + aim.triplet_weight * torch.relu(positive - negative + aim.margin)
    return total / len(x)


AIMS = [
    Objective(),
    Objective(logit_scale=10.0, zero_shot_weight=0.0),
    Objective(logit_scale=30.0, margin=0.1),
    Objective(logit_scale=3.0, margin=0.0, triplet_weight=7.0, zero_shot_weight=0.5),
    Objective(triplet_weight=0.0),
]


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("aim", AIMS)
def test_gradient_and_loss_equal_autograd_on_the_equations(aim, layers):
    X, y, T, weights = problem(layers=layers)
    T = T * torch.linspace(0.5, 3, len(T), dtype=T.dtype)[:, None]  # the learned T is not of unit length
    frozen = F.normalize(torch.roll(T, 1, 0), dim=1)
    leaves = [p.clone().requires_grad_() for p in (*weights, T)]
    expected = plain_loss(X, y, leaves[:-1], leaves[-1], frozen, aim)
    expected.backward()

    learner = CMMParameters(weights, T, aim)
    target = F.one_hot(y, len(T)).to(X.dtype)
    stack = CMMStack([learner])
    batch = X, aim.logit_scale * aim.zero_shot_weight * X @ frozen.T, target, y[:, None]
    truth, hinge = stack.differentiate(*(part[None] for part in batch))
    found = (aim.triplet_weight * hinge.clamp_min(0) - truth).mean()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
    if aim.margin < 0.5 and aim.triplet_weight:
        assert 0 < (hinge > 0).sum() < hinge.numel()  # both sides of the hinge are in this batch
    gradients = (*stack.weight_gradients, stack.text_gradient)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        torch.testing.assert_close(gradient[0], leaf.grad, rtol=1e-9, atol=1e-11)


class Plain(nn.Module):
    """What one would write first."""

    def __init__(self, weights, T):
        super().__init__()
        self.maps = nn.ModuleList()
        for W in weights:
            self.maps.append(nn.Linear(len(W), len(W), bias=False))
            self.maps[-1].weight.data = W.T.clone()
        self.text = nn.Parameter(T.clone())

    def forward(self, x):
        for layer, linear in enumerate(self.maps):
            x = F.relu(x) if layer else x
            x = x + linear(x)
        return F.normalize(x, dim=1) @ F.normalize(self.text, dim=1).T


def plain_run(X, y, weights, T, order, schedule: Schedule, aim: Objective):
    model = Plain(weights, T)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    losses = []
    for step, rows in enumerate(order):
        warm = (step + 1) / schedule.warmup_steps if step < schedule.warmup_steps else None
        cosine = math.cos(math.pi * (step - schedule.warmup_steps) / (schedule.steps - schedule.warmup_steps))
        low, high = schedule.min_learning_rate, schedule.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = high * warm if warm is not None else low + (high - low) * (1 + cosine) / 2
        x, label = X[rows], y[rows]
        similarity = model(x)
        loss = F.cross_entropy(aim.logit_scale * (similarity + aim.zero_shot_weight * (x @ T.T)), label)
        others = similarity.masked_fill(F.one_hot(label, len(T)).bool(), -torch.inf)
        hinge = (1 - similarity.gather(1, label[:, None])[:, 0]) - (1 - others.max(1).values) + aim.margin
        loss = loss + aim.triplet_weight * F.relu(hinge).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, torch.tensor(losses)


def trained(learner: CMMParameters, X, y, order, schedule: Schedule) -> Record:
    """The record of a whole run; the result is in ``learner``."""
    run = CMMRun(learner, X, y, order, schedule)
    run.advance(len(order))
    return run.record()


@pytest.mark.parametrize(("layers", "learning_rate"), [(1, 1e-4), (1, 3e-3), (3, 1e-3)])
def test_a_run_equals_the_plain_loop_at_every_step(layers, learning_rate):
    X, y, T, weights = problem(n=70, d=32, C=11, layers=layers, dtype=torch.float32)
    schedule = Schedule(steps=500, learning_rate=learning_rate)
    order = batch_order(len(X), 8, schedule.steps, torch.Generator().manual_seed(3))
    model, expected = plain_run(X, y, weights, T, order, schedule, Objective())
    learner = CMMParameters(weights, T, Objective())
    record = trained(learner, X, y, order, schedule)
    assert (record.losses - expected).abs().max() < 1e-4
    assert expected[-50:].mean() < 0.95 * expected[:50].mean()  # it learned something that could have come apart
    torch.testing.assert_close(learner.text, model.text.data, rtol=0, atol=1e-4)
    for found, linear in zip(learner.weights, model.maps, strict=True):
        torch.testing.assert_close(found, linear.weight.data.T, rtol=0, atol=1e-4)


def test_runs_that_go_together_are_the_runs_one_by_one():
    """Of other images, other starts and, in a team of its own, another number of classes; some end earlier."""

    def runs():
        for seed, classes in enumerate((7, 7, 5, 7)):
            X, y, T, weights = problem(n=40 + 3 * seed, C=classes, dtype=torch.float32)
            order = batch_order(len(X), 8, 100, torch.Generator().manual_seed(seed))
            yield CMMRun(
                CMMParameters([(1 + seed) * W for W in weights], T, Objective()), X, y, order, Schedule(steps=100)
            )

    joined, alone = list(runs()), list(runs())
    CMMRun.together(joined)
    for step in (30, 100):
        for one, other in zip(joined, alone, strict=True):
            one.advance(step)
            other.advance(step)
            assert one.steps == other.steps == step
            torch.testing.assert_close(one.learner.flat, other.learner.flat, rtol=1e-4, atol=1e-5)
    for one, other in zip(joined, alone, strict=True):
        torch.testing.assert_close(one.record().losses, other.record().losses, rtol=1e-4, atol=1e-4)


def test_learning_rates_follow_warm_up_and_cosine():
    rates = Schedule(steps=1000, learning_rate=1e-3, min_learning_rate=1e-5, warmup_steps=50).rates()
    assert len(rates) == 1000
    assert rates[0] == pytest.approx(1e-3 / 50)
    assert rates[49] == rates[50] == pytest.approx(1e-3)
    assert rates[525] == pytest.approx((1e-3 + 1e-5) / 2)  # half way down the cosine
    assert rates[999] == pytest.approx(1e-5, rel=1e-3)
    assert all(a > b for a, b in itertools.pairwise(rates[50:]))
    assert Schedule(steps=0).rates() == []
    assert len(Schedule(steps=20, warmup_steps=50).rates()) == 20
    assert Schedule(steps=3, warmup_steps=0).rates()[0] == 1e-4


def test_batches_go_through_all_rows_before_any_comes_again():
    order = batch_order(30, 8, 100, torch.Generator().manual_seed(0))
    assert order.shape == (100, 8)
    for epoch in order.flatten()[: 800 // 30 * 30].view(-1, 30):
        assert epoch.sort().values.tolist() == list(range(30))
    assert not torch.equal(order.flatten()[:30], order.flatten()[30:60])
    torch.testing.assert_close(order, batch_order(30, 8, 100, torch.Generator().manual_seed(0)))
    assert batch_order(30, 8, 0, torch.Generator()).shape == (0, 8)


def test_a_run_can_be_paused_after_any_step():
    X, y, T, weights = problem(dtype=torch.float32)
    order = batch_order(len(X), 8, 130, torch.Generator().manual_seed(0))
    learner = CMMParameters(weights, T, Objective())
    paused, seen = CMMRun(learner, X, y, order, Schedule(steps=130)), {}
    for step in (1, 64, 65, 130):
        paused.advance(step)
        seen[step] = learner.flat.clone()
    for step, expected in seen.items():
        short = CMMParameters(weights, T, Objective())
        trained(short, X, y, order[:step], Schedule(steps=130))
        torch.testing.assert_close(short.flat, expected, rtol=0, atol=0)


def test_zero_rows_and_zero_texts_give_no_nan():
    X, y, T, weights = problem(dtype=torch.float32)
    X[3], T[2] = 0, 0
    learner = CMMParameters(weights, T, Objective())
    record = trained(learner, X, y, batch_order(len(X), 8, 40, torch.Generator().manual_seed(0)), Schedule(steps=40))
    assert torch.isfinite(learner.flat).all()
    assert torch.isfinite(record.losses).all()


def test_share_of_active_triplets():
    """With margin 1 the hinge stays active until the cosines differ by more than 1, which unit noise never does."""
    X, y, T, weights = problem(dtype=torch.float32)
    order = batch_order(len(X), 8, 20, torch.Generator().manual_seed(0))
    always = trained(CMMParameters(weights, T, Objective()), X, y, order, Schedule(steps=20))
    assert always.triplet_active.tolist() == [1.0] * 20
    partly = trained(CMMParameters(weights, T, Objective(margin=0.1)), X, y, order, Schedule(steps=20))
    assert 0 < partly.triplet_active.mean() < 1


def test_map_is_residual_and_nonlinear_between_layers():
    X, _, _, (A, B) = problem(layers=2)
    identity = torch.eye(len(A), dtype=A.dtype)
    torch.testing.assert_close(map_rows([A], X), X @ (A + identity))
    torch.testing.assert_close(map_rows([A, B], X), torch.relu(X @ (A + identity)) @ (B + identity))
    torch.testing.assert_close(map_rows([torch.zeros_like(A)], X), X)
