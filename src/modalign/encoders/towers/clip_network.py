"""Implementation of CLIP whose parameters have the names in its checkpoints.

It performs the same operations as ``CLIPModel`` of transformers, in the same order, for images and sentences without a
mask. Modules have the same names and attributes, so the tuning towers support both. Importing it does not import the
modeling code of transformers, which takes three seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ACTIVATIONS = ("quick_gelu", "gelu")


class Encoded(NamedTuple):
    """Output of a tower: (B, T, width) after the last layer, and (B, d) of the class or end-of-text token."""

    last_hidden_state: Tensor
    pooler_output: Tensor


@dataclass
class _TowerConfig:
    """Entries of ``config.json`` that the network depends on, with their default values."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @classmethod
    def read(cls, given: Any) -> Self | None:
        """None where an entry is not of the plain kind."""
        if not isinstance(given, Mapping):
            return None
        values = {field.name: given.get(field.name, getattr(cls, field.name)) for field in fields(cls)}
        known: dict[type, Any] = {int: int, str: str, float: (int, float)}
        plain = all(
            isinstance(value, known[type(getattr(cls, name))]) and not isinstance(value, bool)
            for name, value in values.items()
        )
        counts = [value for value in values.values() if isinstance(value, int)]
        if not plain or min(counts) < 1 or values["hidden_act"] not in _ACTIVATIONS:
            return None
        return None if values["hidden_size"] % values["num_attention_heads"] else cls(**values)


@dataclass
class TextConfig(_TowerConfig):
    """Of the text tower."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407


@dataclass
class VisionConfig(_TowerConfig):
    """Of the vision tower."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32


@dataclass
class ClipConfig:
    """Configuration of the network, with the names of transformers."""

    model_type: str
    projection_dim: int
    text_config: TextConfig
    vision_config: VisionConfig

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ClipConfig | None:
        """Read the content of ``config.json``; None if it requests unsupported features."""
        text, vision = TextConfig.read(config.get("text_config")), VisionConfig.read(config.get("vision_config"))
        dim = config.get("projection_dim", 512)
        former = any(config.get(f"{tower}_config_dict") for tower in ("text", "vision"))  # which transformers merges
        if config.get("model_type") != "clip" or former or not isinstance(dim, int) or text is None or vision is None:
            return None
        return cls("clip", dim, text, vision)


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Skipped, as in the next two classes: on the meta device it would import the compiler of torch."""


class _Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        pass


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        pass


class QuickGELU(nn.Module):
    """x·σ(1.702x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Attention(nn.Module):
    def __init__(self, config: _TowerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads, self.head_dim = config.num_attention_heads, width // config.num_attention_heads
        self.k_proj, self.v_proj = _Linear(width, width), _Linear(width, width)
        self.q_proj, self.out_proj = _Linear(width, width), _Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        parts = (part(x).unflatten(-1, (self.num_heads, -1)) for part in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (part.transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=self.head_dim**-0.5)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, config: _TowerConfig) -> None:
        super().__init__()
        self.activation_fn = QuickGELU() if config.hidden_act == "quick_gelu" else nn.GELU()
        self.fc1 = _Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = _Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class _Layer(nn.Module):
    def __init__(self, config: _TowerConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = _Attention(config), _MLP(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class _Layers(nn.Module):
    def __init__(self, config: _TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)
        return x


class _VisionEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch, self.image_size = config.hidden_size, config.patch_size, config.image_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = _Conv2d(config.num_channels, width, patch, stride=patch, bias=False)
        self.position_embedding = _Embedding((self.image_size // patch) ** 2 + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(pixels.shape[0], 1, -1), patches], dim=1)
        return tokens + self.position_embedding.weight


class _VisionModel(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings, self.encoder = _VisionEmbeddings(config), _Layers(config)
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)

    def forward(self, pixel_values: Tensor) -> Encoded:
        states = self.encoder(self.pre_layrnorm(self.embeddings(pixel_values)))
        return Encoded(states, self.post_layernorm(states[:, 0]))


class _TextEmbeddings(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = _Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = _Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class TextModel(nn.Module):
    """CLIP's text tower, without its projection."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings, self.encoder = _TextEmbeddings(config), _Layers(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self._end = config.eos_token_id

    def forward(self, input_ids: Tensor) -> Encoded:
        states = self.final_layer_norm(self.encoder(self.embeddings(input_ids), causal=True))
        # Old configurations have 2 for a token that is the last of the vocabulary.
        ends = input_ids if self._end == 2 else (input_ids == self._end).int()
        return Encoded(states, states[torch.arange(len(states), device=states.device), ends.argmax(dim=1)])


class ClipNetwork(nn.Module):
    """Vision tower, text tower and their projections into one space; see the module.

    Parameters
    ----------
    config : ClipConfig
        Sizes.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model, self.vision_model = TextModel(config.text_config), _VisionModel(config.vision_config)
        self.visual_projection = _Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = _Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.empty(()))

    @classmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ClipNetwork | None:
        """Create the network of a checkpoint; None if the network is not supported or weights are missing.

        Parameters
        ----------
        config : mapping
            The content of ``config.json``.
        tensors : mapping
            Tensors of the checkpoint by name; not copied.
        """
        read = ClipConfig.read(config)
        if read is None:
            return None
        with torch.device("meta"):
            network = cls(read)
        own = {name: parameter.shape for name, parameter in network.named_parameters()}
        if any(name not in tensors or tensors[name].shape != shape for name, shape in own.items()):
            return None
        network.load_state_dict({name: tensors[name] for name in own}, assign=True)
        return network

    def get_image_features(self, pixel_values: Tensor) -> Encoded:
        """Embed images (B, 3, size, size) as (B, d) in the joint space, not normalized."""
        found = self.vision_model(pixel_values)
        return found._replace(pooler_output=self.visual_projection(found.pooler_output))

    def get_text_features(self, input_ids: Tensor) -> Encoded:
        """Embed token ids (B, T) as (B, d) in the joint space, not normalized."""
        found = self.text_model(input_ids)
        return found._replace(pooler_output=self.text_projection(found.pooler_output))


__all__ = ["ClipConfig", "ClipNetwork", "Encoded", "TextConfig", "TextModel"]
