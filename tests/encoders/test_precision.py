"""Half precision is used only where it is faster and agrees; the first decision is kept."""

import json

import pytest
import torch

import modalign as ma
from modalign.encoders import precision
from modalign.encoders.precision import choose


@pytest.fixture
def large(monkeypatch):
    """Treat the small networks of these tests as worth a probe."""
    monkeypatch.setattr(precision, "SMALL", 0)


@pytest.fixture
def stopwatch(monkeypatch):
    """Let half precision seem ``gain`` times faster, in the matrix product and in the network."""

    def set_gain(product, network):
        calls = []

        def seconds(device, function, repeats=6):
            calls.append(function)
            gain = network if repeats == 1 else product
            return gain if len(calls) % 2 else 1.0  # float32 is timed first, half precision second

        monkeypatch.setattr(precision, "seconds_of", seconds)
        return calls

    return set_gain


def test_small_networks_are_not_even_timed(checkpoints, monkeypatch):
    monkeypatch.setattr(precision, "seconds_of", lambda *_: pytest.fail("timed"))
    assert ma.load_encoder(checkpoints("clip"), device="cpu").spec.dtype == "float32"
    assert ma.load_encoder("tiny", device="cpu").spec.dtype == "float32"


@pytest.mark.parametrize(
    ("product", "network", "dtype"),
    [(4.0, 4.0, "bfloat16"), (4.0, 1.2, "float32"), (0.2, 4.0, "float32"), (1.3, 1.3, "bfloat16")],
)
def test_taken_only_if_it_gains(product, network, dtype, checkpoints, large, stopwatch, monkeypatch):
    monkeypatch.setattr(precision, "AGREEMENT", 0.99)  # random weights agree a little less than trained ones
    calls = stopwatch(product, network)
    assert ma.load_encoder(checkpoints("clip"), device="cpu").spec.dtype == dtype
    assert len(calls) == (4 if product >= 1.3 else 2), "a slow product ends it before the network is run"


def test_taken_only_if_images_and_sentences_agree(checkpoints, large, stopwatch, monkeypatch):
    monkeypatch.setattr(precision, "AGREEMENT", 0.99)
    stopwatch(4.0, 4.0)
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", dtype="float32", cache=False)
    assert choose(encoder).spec.dtype == "bfloat16"

    def spoil(self, dtype):
        other = cast(self, dtype)
        for parameter in getattr(other.model, part).parameters():
            parameter.data.mul_(3)
        return other

    cast = type(encoder).cast
    monkeypatch.setattr(type(encoder), "cast", spoil)
    for part in ("vision_model", "text_model"):
        assert choose(encoder).spec.dtype == "float32", part
    part = "vision_model"
    monkeypatch.setattr(precision, "AGREEMENT", 0.5)
    for parameter in encoder.model.text_projection.parameters():
        parameter.data.fill_(torch.nan)
    assert choose(encoder).spec.dtype == "float32", "vectors that are not numbers agree with nothing"


def test_the_first_decision_stands_in_this_cache(checkpoints, large, stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "AGREEMENT", 0.99)
    stopwatch(4.0, 4.0)
    first = ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path / "a")
    calls = stopwatch(0.1, 0.1)
    again = ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path / "a")
    assert again.spec == first.spec
    assert again.spec.dtype == "bfloat16"
    assert not calls, "not timed again"
    note = next((tmp_path / "a" / "precision").glob("*.json"))
    assert json.loads(note.read_text())["dtype"] == "bfloat16"
    assert ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path / "b").spec.dtype == "float32"
    assert ma.load_encoder(checkpoints("dinov2"), device="cpu", cache=tmp_path / "a").spec.dtype == "float32"
    assert (
        ma.load_encoder(checkpoints("clip"), device="cpu", dtype="float32", cache=tmp_path / "a").spec.dtype
        == "float32"
    )


def test_of_two_that_decide_at_once_the_first_wins(checkpoints, large, stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "AGREEMENT", 0.99)
    stopwatch(4.0, 4.0)
    probe = precision._probe

    def overtaken(encoder):  # another process writes its decision while this one measures
        note = precision._note(encoder, encoder.store, "")
        note.parent.mkdir(parents=True)
        note.write_text('{"dtype": "float32"}')
        return probe(encoder)

    monkeypatch.setattr(precision, "_probe", overtaken)
    assert ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path).spec.dtype == "float32"
    assert len(list((tmp_path / "precision").iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"dtype": "load"}'])
def test_a_damaged_decision_is_made_again(checkpoints, large, stopwatch, monkeypatch, tmp_path, damage):
    monkeypatch.setattr(precision, "AGREEMENT", 0.99)
    stopwatch(4.0, 4.0)
    ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path)
    note = next((tmp_path / "precision").glob("*.json"))
    whole = note.read_text()
    note.write_text(damage)
    assert ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path).spec.dtype == "bfloat16"
    assert json.loads(note.read_text())["dtype"] == json.loads(whole)["dtype"]


def test_the_probe_measures_for_real(checkpoints, large):
    """The outcome depends on the machine; the decision ends and is reported."""
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", dtype="float32", cache=False)
    best, found = precision._probe(encoder)
    assert best.spec.dtype in ("float32", "bfloat16")
    assert found[0]["dtype"] == "torch.bfloat16"
    assert any(key.startswith("gain") and value > 0 for key, value in found[0].items())
