"""The shared descent is torch's AdamW; the memory for candidates keeps the first of the best."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modalign.linalg.optimizers import Descent, cosine_rates, descend
from modalign.methods.contract.best_candidate import Best
from modalign.methods.contract.training_steps import checkpoints, seeded


def test_descent_is_adamw_on_each_tensor():
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randn(4, 3, generator=generator) for _ in range(2)]
    starts = [torch.zeros(4, 3) for _ in range(2)]
    settings = [(cosine_rates(30, 0.1), 0.0), (cosine_rates(30, 0.02, warmup=5), 0.3)]
    descents = [Descent(w, *setting) for w, setting in zip(starts, settings, strict=True)]
    seen = []

    def gradients(step):
        return torch.stack([(w - t).square().sum() / 2 for w, t in zip(starts, targets, strict=True)]), [
            w - t for w, t in zip(starts, targets, strict=True)
        ]

    losses = descend(descents, gradients, seen.append, {1, 30})
    assert losses.shape == (30, 2)
    assert seen == [1, 30]
    for start, target, (rates, decay) in zip(starts, targets, settings, strict=True):
        W = torch.nn.Parameter(torch.zeros(4, 3))
        optimizer = torch.optim.AdamW([W], weight_decay=decay)
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            ((W - target).square().sum() / 2).backward()
            optimizer.step()
        torch.testing.assert_close(start, W.detach(), atol=1e-6, rtol=1e-5)


def test_no_steps_leave_everything_alone():
    W = torch.ones(2)
    assert descend([Descent(W, [], 0.1)], lambda step: (torch.zeros(1), [W])).shape == (0, 1)
    assert W.tolist() == [1, 1]


def test_rates_rise_and_fall():
    rates = cosine_rates(100, 2.0, warmup=10, lowest=0.5)
    assert len(rates) == 100
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] == pytest.approx(0.5, abs=1e-2)
    assert len(cosine_rates(3, 1.0, warmup=10)) == 3


def test_checkpoints_end_with_the_last_step_and_are_denser_at_the_start():
    found = sorted(checkpoints(1000, 10))
    assert (found[0], found[-1]) == (1, 1000)
    assert np.all(np.diff(found, 2) >= 0)
    assert checkpoints(0, 5) == set()
    assert checkpoints(7, 1) >= {7}


@pytest.mark.parametrize("criterion", ["log-loss", "accuracy"])
def test_the_first_of_equals_is_kept_and_copies_are_made_for_the_best_only(criterion):
    y = torch.tensor([0, 1, 1])
    good, bad = torch.eye(2)[y] * 0.3, torch.eye(2)[1 - y] * 0.3
    made = []
    best = Best(criterion, y)
    for name, scores in (("bad", bad), ("good", good), ("again", good.clone()), ("worse", bad)):
        best.offer(scores, lambda name=name: made.append(name) or name)
    assert best.choice == "good"
    assert made == ["bad", "good"]


def test_criteria_decide_differently_where_they_disagree():
    y = torch.tensor([0, 0, 0, 1])
    sure = torch.tensor([[0.2, 0.0], [0.2, 0.0], [0.0, 0.001], [0.0, 0.2]])  # three right, one barely wrong
    rash = torch.tensor([[0.001, 0.0], [0.001, 0.0], [0.001, 0.0], [0.0, 0.001]])  # all right, by nothing
    choices = {}
    for criterion in ("log-loss", "accuracy"):
        best = Best(criterion, y)
        best.offer(sure, lambda: "sure")
        best.offer(rash, lambda: "rash")
        choices[criterion] = best.choice
    assert choices == {"log-loss": "sure", "accuracy": "rash"}


def test_one_seed_one_draw():
    draws = [torch.rand(3, generator=seeded(5)) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(torch.rand(8, generator=seeded(None)), torch.rand(8, generator=seeded(None)))


@pytest.mark.parametrize(("repeats", "expected"), [(1, "start"), (100, "gain")])
def test_after_a_start_only_a_sure_gain_without_a_loss_of_accuracy_counts(repeats, expected):
    """The gains of four images: two large, one negative, none. The mean is the same on 400 images, but surer."""

    def scores(margins):
        return torch.tensor(margins * repeats)[:, None] * torch.tensor([1.0, 0.0])

    y = torch.zeros(4 * repeats, dtype=torch.int64)
    best = Best("log-loss", y)
    best.start(scores([0.05, 0.05, 0.05, -0.05]), "start")
    before = best.merit
    best.offer(scores([0.08, 0.08, 0.03, -0.05]), lambda: "gain")
    assert best.merit.log_likelihood > before.log_likelihood
    assert best.merit.accuracy == before.accuracy == 0.75
    assert best.choice == expected
    assert not best.offer(scores([0.9, 0.9, -0.001, -0.001]), lambda: "likelier, but less accurate", careful=True)
    assert best.merit.log_likelihood > before.log_likelihood
    assert not best.offer(scores([0.06, 0.06, 0.04, -0.05]), lambda: "careful", careful=True)
    assert best.choice == ("careful" if expected == "start" else expected)


def test_a_descent_ends_when_the_observer_stops_it():
    W = torch.ones(2)
    losses = descend([Descent(W, [0.1] * 9, 0.0)], lambda step: (torch.ones(1), [W.clone()]), lambda n: n == 4, {2, 4})
    assert len(losses) == 4
