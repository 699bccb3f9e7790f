"""What a checkpoint holds, and the ways in which a folder can fail to be one."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save
from small import Net, Vectors, recipe
from torch import nn

from modalign.core.errors import InputError
from modalign.tune.loop import train
from modalign.tune.training_state import FORMAT, trained_tensors


def trained(folder, **options):
    net = Net()
    history = train(net, net.loss, Vectors(), recipe(epochs=1, **options), checkpoint=folder)
    return net, history


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 2), ("adamw", 6)])
def test_the_state_is_what_training_changes_and_nothing_else(tmp_path, optimizer, moments):
    """SGD's momentum, or AdamW's two moments and counter, of two parameters; the frozen one is not there."""
    net, _ = trained(tmp_path, optimizer=optimizer)
    state = load_file(next(tmp_path.glob("state-*")))
    ours = {name.removeprefix("module.") for name in state if name.startswith("module.")}
    assert ours == {"weight", "bias", "average"} == set(trained_tensors(net))
    assert len(state) == 3 + moments
    assert torch.equal(state["module.weight"], net.weight)
    card = json.loads((tmp_path / FORMAT.file).read_text())
    assert card["step"] == 4
    assert card["run"]["recipe"]["optimizer"] == optimizer


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


def _rewrite(sealed=False, drop=(), **entries):
    def change(folder):
        card = json.loads((folder / FORMAT.file).read_text())
        card = {key: value for key, value in (card | entries).items() if key not in drop}
        if sealed:
            card = json.loads(FORMAT.sealed({k: v for k, v in card.items() if k not in ("digest", "format")}))
        (folder / FORMAT.file).write_text(json.dumps(card))

    return change


def _restate(change):
    """Other tensors under a right hash and digest, as somebody would who means to."""

    def rewrite(folder):
        tensors = load_file(next(folder.glob("state-*")))
        change(tensors)
        data = save(tensors)
        (folder / FORMAT.name_of(data)).write_bytes(data)
        _rewrite(sealed=True, state=FORMAT.name_of(data))(folder)

    return rewrite


PROGRESS = {"epochs": [], "sums": {}, "images": 0, "seconds": 0.0}
EPOCH = {"epoch": 0, "loss": 1.0, "rate": 0.1, "seconds": 1.0}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_change_a_byte, "do not match their hash"),
        (lambda folder: next(folder.glob("state-*")).unlink(), "does not exist"),
        (lambda folder: (folder / FORMAT.file).write_text("{"), "not valid JSON"),
        (lambda folder: (folder / FORMAT.file).write_text("[]"), "Expected a card of format 'modalign-training/2'"),
        (_rewrite(format="modalign-training/9"), "update modalign"),
        (_rewrite(step="4"), "wrong type str"),
        (_rewrite(state="../elsewhere.safetensors"), "outside its folder"),
        (_rewrite(more=1), "unknown entries: more"),
        (_rewrite(step=3), "does not match its digest"),
        (lambda folder: (folder / FORMAT.file).unlink() or (folder / "a.jpg").touch(), "holds other files"),
        (_rewrite(sealed=True, step=-1), "at most 4 steps"),
        (_rewrite(sealed=True, step=5), "at most 4 steps"),
        (_rewrite(sealed=True, step=2), "after 0 epochs"),
        (_rewrite(sealed=True, progress={}), "after 1 epochs"),
        (_rewrite(sealed=True, progress=PROGRESS), "after 1 epochs"),
        (_rewrite(sealed=True, progress=PROGRESS | {"epochs": [EPOCH | {"loss": "x"}]}), "after 1 epochs"),
        (_rewrite(sealed=True, progress=PROGRESS | {"epochs": [EPOCH | {"more": 1}]}), "after 1 epochs"),
        (_rewrite(sealed=True, progress=PROGRESS | {"epochs": [EPOCH], "sums": [1]}), "after 1 epochs"),
        (_restate(lambda tensors: tensors.pop("module.weight")), "it holds others"),
        (_restate(lambda tensors: tensors.update(x=torch.ones(1))), "it holds others"),
        (_restate(lambda tensors: tensors.update({"optimiser.momentum_buffer.x": torch.ones(1)})), "it holds others"),
        (
            _restate(lambda tensors: tensors.update({"optimiser.momentum_buffer.weight": torch.ones(1)})),
            "it holds others",
        ),
        (_restate(lambda tensors: tensors["module.weight"].fill_(torch.nan)), "NaN or infinity"),
    ],
)
def test_damage_is_one_sentence(tmp_path, damage, words):
    trained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        trained(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other/1"}'])
def test_a_damaged_card_names_the_way_on(tmp_path, content):
    trained(tmp_path)
    (tmp_path / FORMAT.file).write_text(content)
    with pytest.raises(InputError, match=r"\. Delete the folder to start again\.$"):
        trained(tmp_path)


def test_a_checkpoint_of_the_first_format_is_read(tmp_path):
    net, _ = trained(tmp_path)
    _rewrite(format="modalign-training/1", drop=["digest"])(tmp_path)
    again, history = trained(tmp_path)
    assert history.resumed_from == 4
    assert torch.equal(again.weight, net.weight)


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
