"""Translation of the ``model_cfg`` of open_clip to a CLIP configuration of ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalign.core.arrays import is_integer, is_number
from modalign.core.errors import InputError

_READ = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    "text_cfg": {"layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size"},
}
# Entries for training, other kinds of network, or the choice of a tokenizer by name.
_IDLE = {
    *("patch_dropout", "output_tokens", "output_dict", "cast_dtype", "init_logit_scale", "init_logit_bias"),
    *("nonscalar_logit_scale", "attn_pooler_queries", "attn_pooler_heads", "timm_pool", "timm_proj", "timm_drop"),
    *("pad_id", "eos_id", "hf_tokenizer_name", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
}
_USUAL = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}
_USUAL["block_type"] = ("default",)
_LARGEST = 2**20


def translated(model: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Translate a ``model_cfg`` to the configuration of ``transformers``.

    The vision part of a ResNet has ``layers`` (blocks of the four stages), ``width``, ``heads`` and ``image_size``.

    Parameters
    ----------
    model : mapping
        The ``model_cfg``.
    path : Path
        Path of the file, for messages.

    Raises
    ------
    InputError
        The network is not supported, or an entry is missing.
    """
    whole, vision, text = (_Part(name, model if name == "model_cfg" else model.get(name), path) for name in _READ)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    words = text.transformer(text.number("layers", 12), text.number("heads", 8), activation) | {
        "vocab_size": text.number("vocab_size", 49408),
        "max_position_embeddings": text.number("context_length", 77),
        "eos_token_id": 2,  # transformers then reads the vector off the token of the largest number, as open_clip does
        "bos_token_id": 0,
        "pad_token_id": 0,
    }
    width, head = vision.number("width", 768), vision.number("head_width", 64)
    if isinstance(vision.content.get("layers"), list):
        settings = vision.residual(width, head)
    else:
        heads = max(1, width // head)
        settings = vision.transformer(vision.number("layers", 12), heads, activation, width) | {
            "image_size": vision.number("image_size", 224),
            "patch_size": vision.number("patch_size", 16),
        }
    return {
        "model_type": "clip",
        "projection_dim": whole.number("embed_dim"),
        "text_config": words,
        "vision_config": settings,
    }


class _Part:
    """One object of a ``model_cfg``; raises for unsupported entries."""

    def __init__(self, name: str, content: Any, path: Path) -> None:
        self.path = path
        if not isinstance(content, dict):
            raise self._expected(f"{name} as an object", content)
        self.content = content
        for key, value in content.items():
            if key in _READ[name] or key in _IDLE or not value or value in _USUAL.get(key, ()):
                continue
            raise InputError(
                f"Expected a ResNet or a plain vision transformer beside CLIP's own text tower in '{path}', got {name} "
                f"with {key} = {value!r:.60}, which is not supported; use this network in Hugging Face format."
            )

    def number(self, key: str, usual: int | None = None) -> int:
        """A positive integer; a list of two equal ones, a height and a width, counts as one."""
        return self._positive(key, self.content.get(key, usual))

    def transformer(self, layers: int, heads: int, activation: str, usual_width: int = 512) -> dict[str, Any]:
        """The entries that both towers of ``transformers``' CLIP have."""
        width, ratio = self.number("width", usual_width), self.content.get("mlp_ratio", 4.0)
        if not is_number(ratio) or not 0 < ratio < 100:
            raise self._expected("mlp_ratio as a number above 0", ratio)
        if width % heads:
            raise self._expected(f"a width that {heads} heads divide", width)
        return {
            "hidden_size": width,
            "intermediate_size": int(width * ratio),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,
        }

    def residual(self, width: int, head: int) -> dict[str, Any]:
        """The entries of a ResNet."""
        blocks, size = [self._positive("layers", n) for n in self.content["layers"]], self.number("image_size", 224)
        if len(blocks) != 4 or width % 2 or width * 32 % head:
            raise self._expected(f"four layers, and an even width that heads of {head} divide", f"{blocks}, {width}")
        if size % 32:
            raise self._expected("an image_size that 32 divides", size)
        return {"layers": blocks, "width": width, "heads": width * 32 // head, "image_size": size}

    def _positive(self, key: str, value: Any) -> int:
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if not is_integer(value) or not 1 <= value <= _LARGEST:
            raise self._expected(f"{key} as an integer from 1 to {_LARGEST:,}", value)
        return value

    def _expected(self, what: str, got: object) -> InputError:
        return InputError(f"Expected {what} in '{self.path}', got {got!r:.60}.")
