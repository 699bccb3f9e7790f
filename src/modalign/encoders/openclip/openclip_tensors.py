"""Names and shapes of the tensors of open_clip checkpoints, and their names in ``transformers``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from modalign.core.errors import InputError
from modalign.encoders.towers.resnet import ResNet, stored_shapes

Shape = tuple[int, ...]

_BIAS = "logit_bias"  # the same for all classes: no probability depends on it
_IDLE = (_BIAS, "attn_mask", "input_resolution", "context_length", "vocab_size", "num_batches_tracked")
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OTHERS = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def check_tensors(tensors: dict[str, Tensor], config: Mapping[str, Any], residual: ResNet | None, folder: Path) -> None:
    """Raise if tensors are missing, unexpected or of other shapes than configured; remove unused ones.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors by name in the checkpoint.
    config : mapping
        Configuration in the form of ``transformers``.
    residual : ResNet or None
        The image tower, if it is a ResNet.
    folder : Path
        Folder, for messages.
    """
    for name in [name for name in tensors if name.rpartition(".")[2] in _IDLE]:
        del tensors[name]
    if "logit_scale" in tensors and tensors["logit_scale"].numel() == 1:
        tensors["logit_scale"] = tensors["logit_scale"].reshape(())
    expected = dict(_text_shapes(config["text_config"], config["projection_dim"]))
    if residual is None:
        expected |= _vision_shapes(config["vision_config"], config["projection_dim"])
    else:
        expected |= {f"visual.{name}": tuple(shape) for name, shape in stored_shapes(residual).items()}
    wrong = [
        f"'{name}' {shape}, got {'none' if name not in tensors else tuple(tensors[name].shape)}"
        for name, shape in expected.items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    wrong += [f"no '{name}', got {tuple(tensors[name].shape)}" for name in tensors if name not in expected]
    if wrong:
        raise InputError(
            f"The weights in '{folder}' do not fit its open_clip_config.json; expected {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. They belong to another configuration or are "
            "incomplete."
        )


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of text tower and ViT to the names of a CLIPModel of ``transformers``.

    The joint projection of queries, keys and values is split into three, and projections become (outputs, inputs).
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _OTHERS:
            found[_OTHERS[name]] = tensor
        elif name in _TRANSPOSED:
            found[_TRANSPOSED[name]] = tensor.T
        else:
            side, _, rest = name.rpartition("transformer.resblocks.")
            layer, _, part = rest.partition(".")
            place = f"{'vision' if side else 'text'}_model.encoder.layers.{layer}"
            if part.startswith("attn.in_proj_"):
                kind = part.removeprefix("attn.in_proj_")
                for which, third in zip("qkv", tensor.chunk(3), strict=True):
                    found[f"{place}.self_attn.{which}_proj.{kind}"] = third
            else:
                module, _, kind = part.rpartition(".")
                found[f"{place}.{_BLOCK[module]}.{kind}"] = tensor
    return {name: tensor.float().contiguous() for name, tensor in found.items()}


def _text_shapes(text: Mapping[str, Any], dim: int) -> Iterator[tuple[str, Shape]]:
    width = text["hidden_size"]
    yield "logit_scale", ()
    yield "token_embedding.weight", (text["vocab_size"], width)
    yield "positional_embedding", (text["max_position_embeddings"], width)
    yield from _block_shapes("", text)
    yield from _norm_shapes("ln_final", width)
    yield "text_projection", (width, dim)


def _vision_shapes(vision: Mapping[str, Any], dim: int) -> Iterator[tuple[str, Shape]]:
    width, patch = vision["hidden_size"], vision["patch_size"]
    yield "visual.class_embedding", (width,)
    yield "visual.positional_embedding", (1 + (vision["image_size"] // patch) ** 2, width)
    yield "visual.conv1.weight", (width, 3, patch, patch)
    yield from _norm_shapes("visual.ln_pre", width)
    yield from _block_shapes("visual.", vision)
    yield from _norm_shapes("visual.ln_post", width)
    yield "visual.proj", (width, dim)


def _block_shapes(prefix: str, tower: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, inner = tower["hidden_size"], tower["intermediate_size"]
    maps = {"attn.out_proj": (width, width), "mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner)}
    for layer in range(tower["num_hidden_layers"]):
        place = f"{prefix}transformer.resblocks.{layer}"
        yield from _norm_shapes(f"{place}.ln_1", width)
        yield f"{place}.attn.in_proj_weight", (3 * width, width)
        yield f"{place}.attn.in_proj_bias", (3 * width,)
        yield from _norm_shapes(f"{place}.ln_2", width)
        for name, shape in maps.items():
            yield f"{place}.{name}.weight", shape
            yield f"{place}.{name}.bias", shape[:1]


def _norm_shapes(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
