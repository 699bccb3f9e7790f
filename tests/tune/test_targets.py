"""What holds for every tuning target: it starts as the tower, learns all it has, and comes back from its state."""

from __future__ import annotations

import builtins

import pytest
import torch
from small_vision import DEPTH, WIDTH, pictures, small_clip, vit_b32
from torch.nn.functional import mse_loss

from modalign.core.errors import InputError, MissingExtraError
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.tune.prompts import accounting, count_parameters
from modalign.tune.targets import KAdaptation, LayerNorms, trainable_module

NAMES = ("layer_norms", "lora", "k_adaptation")
COUNTS = {"layer_norms": 39_936, "lora": 147_456, "k_adaptation": 40_960}


def made(name, vision, seed=1):
    if name == "lora":
        pytest.importorskip("peft", reason="LoRA is the extra lora")
    return trainable_module(name, vision, generator=torch.Generator().manual_seed(seed))


def trained(module, vision, steps=3):
    """Some steps towards random features; returns the gradients of the last."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0)
    goal = torch.randn(5, vision.dim, generator=torch.Generator().manual_seed(9))
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(module.tower(vision)(pictures()).pooled[0], goal).backward()
        optimizer.step()
    return {key: parameter.grad for key, parameter in module.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_starts_as_the_tower_itself_bit_for_bit(name):
    vision = VisionTower.of(small_clip())
    module = made(name, vision)
    assert torch.equal(module.tower(vision)(pictures(), tokens=True).tokens, vision(pictures(), tokens=True).tokens)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_it_learns_and_the_encoder_does_not(name):
    model = small_clip()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    vision = VisionTower.of(model)
    plain = vision(pictures()).pooled
    module = made(name, vision)
    start = {key: value.clone() for key, value in module.state_dict().items()}
    gradients = trained(module, vision)
    for key, value in module.state_dict().items():
        assert bool((gradients[key] != 0).any()), key
        assert not torch.equal(value, start[key]), key
    assert not torch.allclose(module.tower(vision)(pictures()).pooled, plain)
    assert torch.equal(vision(pictures()).pooled, plain)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_comes_back_from_its_state_without_peft(name, monkeypatch):
    vision = VisionTower.of(small_clip())
    module = made(name, vision)
    trained(module, vision)
    without_peft(monkeypatch)
    again = trainable_module(name, vision)
    assert not torch.equal(again.tower(vision)(pictures()).pooled, module.tower(vision)(pictures()).pooled)
    again.load_state_dict({key: value.clone() for key, value in module.state_dict().items()})
    assert torch.equal(again.tower(vision)(pictures()).pooled, module.tower(vision)(pictures()).pooled)


@pytest.mark.parametrize("name", NAMES)
def test_one_generator_one_start(name):
    vision = VisionTower.of(small_clip())
    state = torch.get_rng_state()
    first, same, other = (made(name, vision, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first) is (name != "layer_norms")


@pytest.mark.parametrize("name", NAMES)
def test_counts_at_vit_b32(name):
    assert count_parameters(made(name, VisionTower.of(vit_b32()))) == COUNTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_they_go_together(name):
    vision = VisionTower.of(small_clip())
    norms, module = LayerNorms(vision), made(name, vision)
    trained(norms, vision)
    trained(module, vision)
    there = module.tower(norms.tower(vision))(pictures()).pooled
    if name == "layer_norms":  # the later one stands
        assert torch.equal(there, module.tower(vision)(pictures()).pooled)
    else:
        assert torch.equal(there, norms.tower(module.tower(vision))(pictures()).pooled)
        assert not torch.allclose(there, norms.tower(vision)(pictures()).pooled)


def test_layer_norms_are_those_of_the_model():
    model = small_clip()
    module = LayerNorms(VisionTower.of(model))
    with torch.no_grad():
        for value in module.values():
            value += 0.3
    vision = model.vision_model
    theirs = {"pre": vision.pre_layrnorm, "post": vision.post_layernorm}
    for i, layer in enumerate(vision.encoder.layers):
        theirs |= {f"{i}_norm1": layer.layer_norm1, f"{i}_norm2": layer.layer_norm2}
    assert set(module) == {f"{name}_{part}" for name in theirs for part in ("weight", "bias")}
    there = module.tower(VisionTower.of(model))(pictures()).pooled[0]
    with torch.no_grad():
        for norm in theirs.values():
            norm.weight += 0.3
            norm.bias += 0.3
    torch.testing.assert_close(there, model.get_image_features(pictures()).pooler_output, rtol=1e-5, atol=1e-5)
    assert count_parameters(module) == (4 * DEPTH + 4) * WIDTH


def test_names_by_which_a_state_is_kept():
    vision = VisionTower.of(small_clip())
    lora = accounting(trainable_module("lora", vision))
    assert lora == {f"{i}_{part}_{factor}": 4 * WIDTH for i in range(DEPTH) for part in "qv" for factor in "AB"}
    sides = [f"{part}_{speed}_{side}" for part in "qv" for speed in ("slow", "fast") for side in ("left", "right")]
    assert list(accounting(trainable_module("k_adaptation", vision))) == sides


def test_a_sentence_where_peft_is_absent(monkeypatch):
    vision = VisionTower.of(small_clip())
    without_peft(monkeypatch)
    with pytest.raises(MissingExtraError, match=r"'peft'.*pip install 'modalign\[lora\]'"):
        trainable_module("lora", vision, generator=torch.Generator())


def test_other_names():
    vision = VisionTower.of(small_clip())
    with pytest.raises(InputError, match="did you mean 'lora'"):
        trainable_module("lore", vision)
    assert isinstance(trainable_module("k_adaptation", vision), KAdaptation)
    with pytest.raises(InputError, match="option of target 'lora' 'rnak'; did you mean 'rank'"):
        trainable_module("lora", vision, rnak=8)
    with pytest.raises(InputError, match="option of target 'layer_norms'"):
        trainable_module("layer_norms", vision, rank=8)


def without_peft(monkeypatch):
    """As on a machine that has no such package."""
    found = builtins.__import__

    def importing(name, *args, **options):
        if name.split(".")[0] == "peft":
            raise ModuleNotFoundError("No module named 'peft'")
        return found(name, *args, **options)

    def import_module(name):
        return importing(name, fromlist=["*"])

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr("modalign.core.errors.importlib.import_module", import_module)
