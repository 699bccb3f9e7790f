"""Our own CLIP computes what that of transformers does, from the same files, and leaves all other kinds to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

import modalign
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.towers.clip_network import ClipConfig, ClipNetwork

TINY = Path(modalign.__file__).parent / "encoders" / "weights" / "tiny"


def both(folder: Path) -> tuple[ClipNetwork, CLIPModel]:
    """The network as it is loaded, and the reference."""
    own = Checkpoint.open(folder).load()
    assert isinstance(own, ClipNetwork)
    return own, CLIPModel.from_pretrained(folder, attn_implementation="sdpa").eval()


@torch.inference_mode()
def assert_equal(own: ClipNetwork, reference: CLIPModel) -> None:
    config, draws = own.config, torch.Generator().manual_seed(0)
    side, words = config.vision_config.image_size, config.text_config.vocab_size
    pixels = torch.randn(3, config.vision_config.num_channels, side, side, generator=draws)
    ids = torch.randint(1, words - 1, (3, 7), generator=draws)
    for row, end in enumerate((3, 5, 6)):
        ids[row, end:] = words - 1  # end of text, which is also what is padded with
    for one, other in (
        (own.get_image_features(pixels), reference.get_image_features(pixels)),
        (own.get_text_features(ids), reference.get_text_features(input_ids=ids)),
        (own.vision_model(pixels), reference.vision_model(pixels)),
    ):
        torch.testing.assert_close(one.pooler_output, other.pooler_output, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.last_hidden_state, other.last_hidden_state, rtol=0, atol=1e-6)
    assert own.logit_scale == reference.logit_scale


def test_the_embedded_encoder_is_computed_alike() -> None:
    assert_equal(*both(TINY))


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("end", [2, None])
def test_activations_and_both_rules_for_the_end_of_a_sentence(checkpoint_copy, act: str, end: int | None) -> None:
    folder = checkpoint_copy("clip")
    config = json.loads((folder / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower] |= {"hidden_act": act, "layer_norm_eps": 1e-3}
    config["text_config"]["eos_token_id"] = end or config["text_config"]["vocab_size"] - 1
    (folder / "config.json").write_text(json.dumps(config))
    assert_equal(*both(folder))


def test_half_precision_files_are_read_as_numbers_of_32_bits(checkpoint_copy) -> None:
    folder = checkpoint_copy("clip")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}, folder / "model.safetensors"
    )
    own = Checkpoint.open(folder).load()
    assert isinstance(own, ClipNetwork)
    assert {p.dtype for p in own.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in own.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "siglip"}, {"projection_dim": "many"}, {"text_config": None},
        {"text_config_dict": {"vocab_size": 9}},
        {"vision_config": {"image_size": [32, 32]}}, {"text_config": {"hidden_act": "relu"}},
        {"vision_config": {"num_attention_heads": 5}}, {"text_config": {"eos_token_id": [1, 2]}},
        {"vision_config": {"num_hidden_layers": True}},
    ],
)  # fmt: skip
def test_another_configuration_is_left_to_transformers(change: dict) -> None:
    config = json.loads((TINY / "config.json").read_text())
    assert ClipConfig.read(config) is not None
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and key in config else value
    assert ClipConfig.read(config) is None


def test_transformers_names_missing_and_misshapen_weights() -> None:
    config, tensors = json.loads((TINY / "config.json").read_text()), load_file(TINY / "model.safetensors")
    assert ClipNetwork.of(config, tensors) is not None
    assert ClipNetwork.of(config, {**tensors, "logit_scale": torch.zeros(2)}) is None
    tensors.pop("text_model.final_layer_norm.bias")
    assert ClipNetwork.of(config, tensors) is None
