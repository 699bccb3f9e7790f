"""Training in half precision only where it is faster and agrees; the first decision is kept and has no side effects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import Mean, Net, Vectors, recipe
from torch import nn

import modalign as ma
from modalign.encoders.features.store import FeatureStore
from modalign.tune import training_precision
from modalign.tune.loop import train
from modalign.tune.training_precision import compare_precisions, settled_precision


@pytest.fixture
def encoder(tmp_path):
    found = ma.load_encoder("tiny", cache=False, dtype="float32")
    found.store = FeatureStore(tmp_path / "cache")
    return found


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the small networks of these tests as worth a probe, on a processor that has bfloat16."""
    monkeypatch.setattr(training_precision, "SMALL", 0)
    monkeypatch.setattr(training_precision, "gain_of_product", lambda *_: 4.0)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch):
    """Let a step in bfloat16 seem ``gain`` times faster; the calls are counted."""

    def set_gain(gain: float) -> list[Any]:
        calls: list[Any] = []

        def seconds(device: torch.device, function: Any, repeats: int) -> float:
            calls.append(function)
            return gain if len(calls) % 2 else 1.0  # float32 is timed first

        monkeypatch.setattr(training_precision, "seconds_of", seconds)
        return calls

    return set_gain


def settled(encoder, net: nn.Module | None = None, loss=None, **options: Any) -> str:
    net = Mean() if net is None else net
    options = {"purpose": "test"} | options
    left = recipe(precision=options.pop("precision", "auto"))
    made = settled_precision(net, loss or net.loss, Vectors(), left, encoder=encoder, **options)
    return made.precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_given_is_taken(precision, encoder, large, monkeypatch) -> None:
    monkeypatch.setattr(training_precision, "decided", lambda *_: pytest.fail("decided"))
    assert settled(encoder, precision=precision) == precision


def test_small_networks_are_not_even_timed(encoder, monkeypatch) -> None:
    monkeypatch.setattr(training_precision, "decided", lambda *_: pytest.fail("decided"))
    assert settled(encoder) == "float32"


@pytest.mark.parametrize(("gain", "precision"), [(1.3, "bfloat16"), (1.1, "float32")])
def test_taken_only_if_it_gains(gain, precision, encoder, large, stopwatch) -> None:
    stopwatch(gain)
    assert settled(encoder) == precision


def test_without_instructions_no_step_is_tried(encoder, large, stopwatch, monkeypatch) -> None:
    monkeypatch.setattr(training_precision, "gain_of_product", lambda *_: 0.1)
    calls = stopwatch(2.0)
    assert settled(encoder) == "float32"
    assert calls == []


@pytest.mark.parametrize("wrong", ["gradient", "loss", "nan"])
def test_taken_only_if_loss_and_gradient_agree(wrong: str, encoder, large, stopwatch) -> None:
    stopwatch(2.0)
    net = Mean()

    def loss(batch: Any) -> torch.Tensor:
        value = net.loss(batch)
        if not torch.is_autocast_enabled("cpu"):
            return value
        if wrong == "gradient":  # of the same value
            other = net.weight.sum() * 5
            return value + other - other.detach()
        return value + (0.02 * value.detach() if wrong == "loss" else float("nan"))

    assert settled(encoder, net, loss) == "float32"
    assert settled(encoder, purpose="the honest one") == "bfloat16"


def test_the_first_decision_stands_for_encoder_and_purpose(encoder, large, stopwatch) -> None:
    stopwatch(2.0)
    assert settled(encoder) == "bfloat16"
    calls = stopwatch(0.5)
    assert settled(encoder) == "bfloat16"
    assert calls == []
    assert settled(encoder, purpose="another method") == "float32"
    encoder.store = None
    assert settled(encoder) == "float32"


def test_a_training_goes_on_in_the_precision_it_was_begun_in(encoder, large, stopwatch, tmp_path) -> None:
    net = Mean()
    train(net, net.loss, Vectors(), recipe(precision="bfloat16"), checkpoint=tmp_path / "state")
    stopwatch(0.5)
    assert settled(encoder, checkpoint=tmp_path / "state") == "bfloat16"
    assert settled(encoder, checkpoint=tmp_path / "none") == "float32"


def test_deciding_changes_nothing() -> None:
    """A loss that draws and moves an average: parameters, buffers, gradients and generators are as before."""
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    draws = torch.get_rng_state()
    found = compare_precisions(net, net.loss, Vectors(), recipe())
    assert found["cosine"] > 0.99
    assert found["loss"] < 0.01
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
