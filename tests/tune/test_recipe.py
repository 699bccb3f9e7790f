"""Schedules against their closed forms and against torch's schedulers stepped as Dassl steps them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from modalign.core.errors import InputError
from modalign.tune.recipe import Recipe, learning_rate


def recipe(**other):
    return Recipe(**{"epochs": 15, "batch_size": 8, "learning_rate": 0.0025, **other})


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_by_epoch_as_dassl_steps_it(warmup):
    """A constant scheduler for w epochs, then a successor that has not been stepped yet."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.0025)
    successor = CosineAnnealingLR(optimizer, 15)
    expected = []
    for epoch in range(15):
        if epoch < warmup:
            expected.append(1e-5)
        else:
            expected.append(successor.get_last_lr()[0])
            optimizer.step()
            successor.step()
    rate = learning_rate(recipe(warmup=warmup), 7)
    assert [rate(7 * epoch) for epoch in range(15)] == pytest.approx(expected, rel=1e-12)
    assert all(rate(7 * epoch) == rate(7 * epoch + 6) for epoch in range(15))


def test_published_rates():
    """methods.md: η(e) = ½ η (1 + cos(π (e − 1)/E)) after one epoch at 1e-5; the last epoch does not reach zero."""
    rate = learning_rate(recipe(), 1)
    assert rate(0) == 1e-5
    assert rate(1) == 0.0025
    assert rate(14) == pytest.approx(0.5 * 0.0025 * (1 + math.cos(math.pi * 13 / 15)))


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_by_step(warmup):
    rates = [learning_rate(recipe(schedule="cosine by step", warmup=warmup, final_rate=1e-4), 4)(s) for s in range(60)]
    assert rates[:warmup] == pytest.approx([0.0025 * (s + 1) / warmup for s in range(warmup)])
    rest = 60 - warmup
    expected = [1e-4 + 0.5 * 0.0024 * (1 + math.cos(math.pi * s / rest)) for s in range(rest)]
    assert rates[warmup:] == pytest.approx(expected)
    assert max(rates) == pytest.approx(0.0025)
    assert all(a > b for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))


def test_constant():
    rate = learning_rate(recipe(schedule="constant"), 3)
    assert {rate(step) for step in range(45)} == {0.0025}


def test_a_warmup_longer_than_the_run_never_divides_by_zero():
    assert learning_rate(recipe(epochs=2, schedule="cosine by step", warmup=9), 3)(5) == pytest.approx(0.0025 * 6 / 9)
    assert learning_rate(recipe(epochs=2, warmup=9), 3)(5) == 1e-5


@pytest.mark.parametrize(
    ("n", "drop", "steps"), [(16, False, 2), (17, False, 3), (17, True, 2), (3, False, 1), (8, True, 1)]
)
def test_steps_per_epoch(n, drop, steps):
    assert recipe(drop_last=drop).steps_per_epoch(n) == steps


@pytest.mark.parametrize(("n", "drop"), [(0, False), (7, True)])
def test_no_batch_is_refused(n, drop):
    with pytest.raises(InputError, match="at least one batch of 8"):
        recipe(drop_last=drop).steps_per_epoch(n)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.0),
        ("batch_size", True),
        ("accumulate", 0),
        ("warmup", -1),
        ("seed", -1),
        ("learning_rate", -0.1),
        ("learning_rate", math.nan),
        ("learning_rate", "fast"),
        ("weight_decay", math.inf),
        ("clip", 0.0),
        ("optimizer", "adam"),
        ("schedule", "cosine"),
        ("precision", "float16"),
    ],
)
def test_bad_values_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"Expected {name} to be"):
        recipe(**{name: value})
