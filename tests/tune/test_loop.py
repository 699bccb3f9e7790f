"""The training loop against a loop written out by hand, its invariances, its resumption, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import Mean, Net, Vectors, recipe

from modalign.core.errors import InputError
from modalign.core.randomness import epoch_order, generator
from modalign.tune.loop import train
from modalign.tune.prompts import count_parameters

KILLED = ("sgd", "by time", "adamw", "half", "written", "half written")


def trained(net, *, data=None, **options):
    keep = {
        name: options.pop(name) for name in ("checkpoint", "every", "run", "on_epoch", "threads") if name in options
    }
    return train(net, net.loss, Vectors() if data is None else data, recipe(**options), **keep)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """What interrupted_training.py found."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "interrupted_training.py", tmp_path_factory.mktemp("interrupted")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("where", KILLED)
def test_a_killed_run_ends_as_the_undisturbed_one_bit_for_bit(interrupted, where):
    for killed, same, _, files in interrupted[where]:
        assert killed
        assert same
        assert files == 2  # one card, one state, nothing left of what was torn


def test_resumption_does_not_start_over(interrupted):
    resumed = [row[2] for where in KILLED for row in interrupted[where]]
    assert sum(step > 0 for step in resumed) > len(resumed) / 2
    assert any(step % 4 for step in resumed)  # also within an epoch


@pytest.mark.parametrize("how", ["two", "three, in parts, clipped"])
def test_several_processes_train_as_one(interrupted, how):
    assert interrupted[how]["equal"]
    assert interrupted[how]["apart"] < 1e-6


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_sgd_written_out(decay):
    """v ← 0.9 v + g + wd·θ, θ ← θ − η v, with Dassl's rates and the loop's own order."""
    data, net = Vectors(), Mean()
    W, b = net.weight.detach().clone().double(), net.bias.detach().clone().double()
    vW, vb = torch.zeros_like(W), torch.zeros_like(b)
    means = []
    for epoch in range(4):
        rate = 1e-5 if epoch == 0 else 0.05 * (1 + math.cos(math.pi * (epoch - 1) / 4))
        order, total = epoch_order(23, 1, epoch), 0.0
        for start in range(0, 23, 6):
            x, y = data.batch(order[start : start + 6], epoch)
            p = (x.double() @ W.T + b).softmax(1)
            total -= float(p[range(len(y)), y].log().sum())
            slope = (p - torch.eye(3)[y]) / len(y)
            vW = 0.9 * vW + slope.T @ x.double() + decay * W
            vb = 0.9 * vb + slope.sum(0) + decay * b
            W, b = W - rate * vW, b - rate * vb
        means.append(total / 23)
    history = trained(net, weight_decay=decay)
    torch.testing.assert_close(net.weight.double(), W, rtol=0, atol=1e-6)
    torch.testing.assert_close(net.bias.double(), b, rtol=0, atol=1e-6)
    np.testing.assert_allclose(history.losses, means, rtol=1e-6)


@pytest.mark.parametrize("parts", [2, 3, 6, 9])
def test_parts_of_a_batch_are_the_whole(parts):
    """9 parts of at most 6 images leave some empty; the last batch has 5 images, which no 2 or 3 divide."""
    whole, divided = Mean(), Mean()
    a, b = trained(whole), trained(divided, accumulate=parts)
    torch.testing.assert_close(divided.weight, whole.weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-6)


def test_drop_last_leaves_the_rest_out():
    seen = []

    class Watched(Vectors):
        def batch(self, indices, epoch):
            seen.append((epoch, indices.tolist()))
            return super().batch(indices, epoch)

    history = trained(Mean(), data=Watched(), drop_last=True, epochs=2)
    assert history.steps == 6
    assert sorted((epoch, len(indices)) for epoch, indices in seen) == [(0, 6)] * 3 + [(1, 6)] * 3
    for e in range(2):
        in_epoch = [i for epoch, indices in seen if epoch == e for i in indices]
        assert in_epoch == epoch_order(23, 1, e)[:18].tolist()


def test_what_is_frozen_stays_and_what_is_undecayed_does_not_decay():
    net = Mean()
    before = net.frozen.clone()
    with torch.no_grad():
        net.bias.fill_(1)

    def nothing(batch):
        return 0 * (net.weight.sum() + net.bias.sum())

    train(net, nothing, Vectors(), recipe(weight_decay=0.1, undecayed=("bias",), warmup=0))
    assert torch.equal(net.frozen, before)
    assert torch.equal(net.bias, torch.ones(3))
    assert net.weight.norm() < 0.9 * Mean().weight.norm()


def test_clipping_bounds_the_step():
    net = Mean()
    trained(net, clip=1e-3, weight_decay=0.0, epochs=1, warmup=0)
    moved = torch.cat([(net.weight - Mean().weight).flatten(), net.bias - Mean().bias]).norm()
    assert 0 < moved <= 0.1 * 1e-3 * 4 * 10  # 4 steps of 0.1 · 0.001, momentum 0.9 at most ten times that


def test_the_seed_decides_and_nothing_outside_does():
    nets = [Net() for _ in range(3)]
    histories = []
    for net, seed, outside in zip(nets, (1, 1, 2), (0, 1, 0), strict=True):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        histories.append(trained(net, seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert histories[0].losses == histories[1].losses
    assert not torch.equal(nets[0].weight, nets[2].weight)


def test_bfloat16_computes_in_half_and_keeps_parameters_in_float32():
    types = set()
    net = Mean()

    def loss(batch):
        scores = batch[0] @ net.weight.T
        types.add(scores.dtype)
        return scores.float().square().mean()

    train(net, loss, Vectors(), recipe(precision="bfloat16"))
    assert types == {torch.bfloat16}
    assert net.weight.dtype == torch.float32


def test_a_precision_that_is_left_open_is_not_trained_in():
    with pytest.raises(InputError, match="got 'auto', which is decided before a training"):
        trained(Mean(), precision="auto")


def test_history_and_notes():
    calls = []

    def on_epoch(epoch):
        calls.append(epoch.epoch)
        return {"norm": 2.0 + epoch.epoch}

    net = Net()
    history = trained(net, on_epoch=on_epoch)
    assert calls == [0, 1, 2, 3]
    assert [epoch.notes["norm"] for epoch in history.epochs] == [2, 3, 4, 5]
    assert history.rates == pytest.approx([1e-5, 0.1, 0.05 * (1 + math.cos(math.pi / 4)), 0.05])
    assert history.parameters == count_parameters(net) == 18
    assert all(0 < epoch.terms["cross"] < 10 for epoch in history.epochs)
    assert history.losses[-1] < history.losses[0]


def test_a_finished_run_is_only_read(tmp_path):
    first, again = Net(), Net()
    a = trained(first, checkpoint=tmp_path / "run", on_epoch=lambda epoch: {"share": 0.5})

    def never(batch):
        raise AssertionError("nothing is left to compute")

    b = train(again, never, Vectors(), recipe(), checkpoint=tmp_path / "run")
    assert b.resumed_from == b.steps == a.steps
    assert b.epochs == a.epochs
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.average, again.average)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.2}, "recipe learning_rate is 0.1 there and 0.2 here"),
        ({"data": Vectors(noise=0.2)}, "data is"),
        ({"run": {"method": "coop"}}, "method method is null there"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, words):
    trained(Net(), checkpoint=tmp_path, epochs=1)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="of another run") as caught:
        trained(Net(), checkpoint=tmp_path, **{"epochs": 1, **change})
    assert words in str(caught.value)
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(tmp_path, bad):
    net, losses = Mean(), []

    def loss(batch):
        losses.append(net.weight.detach().clone())
        return net.loss(batch) * (bad if len(losses) == 7 else 1)

    with pytest.raises(InputError, match=r"finite loss, it is (nan|inf) at step 7 .* lower the learning rate"):
        train(net, loss, Vectors(), recipe(), checkpoint=tmp_path, every=1)
    assert torch.equal(net.weight, losses[-1])
    assert json.loads((tmp_path / "training.json").read_text())["step"] == 6


def test_parameters_that_are_not_finite_after_the_last_step_are_refused(tmp_path):
    net = Mean()
    whole = recipe(epochs=1, batch_size=len(Vectors()))  # one step, of a finite loss with an infinite gradient

    def loss(batch):
        return net.loss(batch) + 0 * (net.weight.sum() - net.weight.detach().sum()).abs().sqrt()

    with pytest.raises(InputError, match=r"finite parameters, got NaN .* after step 1 .* lower the learning rate or"):
        train(net, loss, Vectors(), whole, checkpoint=tmp_path)
    assert not (tmp_path / "training.json").exists()


def _without_parameters(net):
    return net.requires_grad_(False)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_without_parameters, "none with requires_grad"),
        (lambda net: net.bfloat16(), "in float32, got bfloat16"),
        (lambda net: net.register_parameter("more", torch.nn.Parameter(torch.zeros(1).double())), "one type"),
    ],
)
def test_what_cannot_be_trained_is_refused(prepare, words):
    net = Mean()
    prepare(net)
    with pytest.raises(InputError, match=words):
        trained(net)


@pytest.mark.parametrize(
    "loss",
    [
        lambda net: None,
        lambda net: 1.0,
        lambda net: net.weight,
        lambda net: torch.zeros(()),
        lambda net: {"a": net.weight.sum()},
    ],
)
def test_a_loss_that_is_none_is_refused(loss):
    net = Mean()
    with pytest.raises(InputError, match="Expected the loss to be one number"):
        train(net, lambda batch: loss(net), Vectors(), recipe())


@pytest.mark.parametrize("name", ["every", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_every_and_threads_are_checked(name, value):
    with pytest.raises(InputError, match=f"{name} to be an integer"):
        trained(Mean(), **{name: value})


def test_a_run_is_described_by_plain_values(tmp_path):
    with pytest.raises(InputError, match="numbers, text and lists of them, got object"):
        trained(Mean(), checkpoint=tmp_path, run={"encoder": object()})
    assert not list(tmp_path.iterdir())


def test_threads_are_as_requested_and_restored():
    before, seen, net = torch.get_num_threads(), set(), Mean()

    def loss(batch):
        seen.add(torch.get_num_threads())
        return net.loss(batch)

    train(net, loss, Vectors(), recipe(epochs=1), threads=before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_an_error_in_the_data_reaches_the_caller():
    class Broken(Vectors):
        def batch(self, indices, epoch):
            if epoch == 1:
                raise OSError("the disk is gone")
            return super().batch(indices, epoch)

    with pytest.raises(OSError, match="the disk is gone"):
        trained(Mean(), data=Broken())


def test_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    assert sorted(epoch_order(50, 0, 0).tolist()) == list(range(50))
    assert torch.equal(epoch_order(50, 3, 2), epoch_order(50, 3, 2))
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_keys_of_a_draw_do_not_run_together():
    draws = [torch.rand(2, generator=generator(*keys)).tolist() for keys in ((1, 23), (12, 3), (123,), ("1", 23))]
    assert len({tuple(draw) for draw in draws}) == 4
