"""Vision-only encoders: DINOv2 (with and without registers), DINOv3, supervised ViTs, and similar models."""

from __future__ import annotations

from torch import Tensor

from modalign.core.errors import InputError
from modalign.encoders.base import Encoder

_REGISTERS = ("dinov2_with_registers", "dinov3_vit")
_CLASS_TOKEN = ("dinov2", "vit", *_REGISTERS, "clip_vision_model", "deit")


class VisionEncoder(Encoder):
    """Vision-only encoder; the vector of an image is the class token after the last layer norm.

    For networks without a class token, it is their pooled output.
    """

    def _forward(self, inputs: dict[str, Tensor], tokens: bool) -> tuple[Tensor, Tensor | None]:
        kind = self.model.config.model_type
        output = self.model(**inputs)
        vectors = getattr(output, "pooler_output", None)
        if vectors is None:
            if kind not in _CLASS_TOKEN:
                raise InputError(f"A '{kind}' network gives no vector of a whole image; use CLIP, SigLIP, DINO or ViT.")
            vectors = output.last_hidden_state[:, 0]
        if not tokens:
            return vectors.flatten(1), None
        if kind not in _CLASS_TOKEN:
            raise InputError(f"Patch tokens of a '{kind}' network are not supported; use CLIP, SigLIP or DINO.")
        before = 1 + (int(self.model.config.num_register_tokens) if kind in _REGISTERS else 0)
        return vectors.flatten(1), output.last_hidden_state[:, before:]

    def _width(self) -> int:
        config = self.model.config
        sizes = getattr(config, "hidden_sizes", None)  # of a network in stages
        return int(sizes[-1] if sizes else config.hidden_size)
