"""What a checkpoint holds, and the ways in which a folder can fail to be one."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from small import Net, Vectors, recipe
from torch import nn

from modalign.errors import InputError
from modalign.tune.checkpoint import trained_tensors
from modalign.tune.loop import train


def trained(folder, **options):
    net = Net()
    history = train(net, net.loss, Vectors(), recipe(epochs=1, **options), checkpoint=folder)
    return net, history


@pytest.mark.parametrize(("optimiser", "moments"), [("sgd", 2), ("adamw", 6)])
def test_the_state_is_what_training_changes_and_nothing_else(tmp_path, optimiser, moments):
    """SGD's momentum, or AdamW's two moments and counter, of two parameters; the frozen one is not there."""
    net, _ = trained(tmp_path, optimiser=optimiser)
    state = load_file(next(tmp_path.glob("state-*")))
    ours = {name.removeprefix("module.") for name in state if name.startswith("module.")}
    assert ours == {"weight", "bias", "average"} == set(trained_tensors(net))
    assert len(state) == 3 + moments
    assert torch.equal(state["module.weight"], net.weight)
    card = json.loads((tmp_path / "training.json").read_text())
    assert card["step"] == 4
    assert card["run"]["recipe"]["optimiser"] == optimiser


def test_a_shared_parameter_is_kept_once_and_a_passing_buffer_not_at_all():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = self.a
            self.register_buffer("passing", torch.zeros(1), persistent=False)
            self.register_buffer("kept", torch.zeros(1))

    assert set(trained_tensors(Tied())) == {"a.weight", "a.bias", "kept"}


def _change_a_byte(folder):
    path = next(folder.glob("state-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _rewrite(**entries):
    def change(folder):
        card = json.loads((folder / "training.json").read_text())
        (folder / "training.json").write_text(json.dumps(card | entries))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_change_a_byte, "does not match its hash"),
        (lambda folder: next(folder.glob("state-*")).unlink(), "is damaged"),
        (lambda folder: (folder / "training.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "training.json").write_text("[]"), "format 'modalign-training/1'"),
        (_rewrite(format="modalign-training/9"), "format 'modalign-training/1'"),
        (_rewrite(step="4"), "format 'modalign-training/1'"),
        (_rewrite(state="../elsewhere.safetensors"), "format 'modalign-training/1'"),
        (_rewrite(more=1), "format 'modalign-training/1'"),
        (lambda folder: (folder / "training.json").unlink() or (folder / "a.jpg").touch(), "holds other files"),
    ],
)
def test_damage_is_one_sentence(tmp_path, damage, words):
    trained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        trained(tmp_path)
    assert words in str(caught.value)


def test_a_file_in_the_way_is_refused_before_any_step(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match="is a file"):
        trained(tmp_path / "run")


def test_a_model_of_another_shape_is_refused_and_left_alone(tmp_path):
    trained(tmp_path)
    net = Net(classes=4)
    before = net.weight.detach().clone()
    with pytest.raises(InputError, match="it holds others"):
        train(net, net.loss, Vectors(), recipe(epochs=1), checkpoint=tmp_path)
    assert torch.equal(net.weight, before)


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    tmp_path.joinpath(f"state-{'0' * 64}.safetensors").touch()
    tmp_path.joinpath(".modalign-0123456789abcdef.tmp").touch()
    _, history = trained(tmp_path)
    assert history.resumed_from == 0
    assert len(list(tmp_path.iterdir())) == 2
