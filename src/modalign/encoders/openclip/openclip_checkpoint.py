"""Checkpoint folder with open_clip_config.json and open_clip_model.safetensors.

A ViT is loaded as a :class:`~modalign.encoders.towers.clip_network.ClipNetwork`; a
:class:`~modalign.encoders.towers.resnet.ResNet` is combined with the text tower of that class. Other configurations are
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from modalign.core.errors import InputError
from modalign.encoders.catalog import OPEN_CLIP, OPEN_CLIP_WEIGHTS
from modalign.encoders.checkpoint import Checkpoint, check_weights
from modalign.encoders.openclip.openclip_config import translated
from modalign.encoders.openclip.openclip_tensors import check_tensors, renamed
from modalign.encoders.preprocess import Preprocessing
from modalign.encoders.towers.clip_network import TextConfig, TextModel
from modalign.encoders.towers.resnet import RESNET, ResNet, fold
from modalign.encoders.untrusted import check_counts, load_network, read_object, read_tensors

_FILTERS = {"bicubic": 3, "bilinear": 2, "random": 3}  # random is for training; images are then resized bicubically


@dataclass(frozen=True)
class OpenClipCheckpoint(Checkpoint):
    """open_clip checkpoint on disk; ``config`` is translated to that of ``transformers``.

    Attributes
    ----------
    pixels : mapping
        Entry ``preprocess_cfg``.
    """

    pixels: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> OpenClipCheckpoint:
        """Read a checkpoint folder; the error message names what is missing or not supported."""
        content = read_object(folder / OPEN_CLIP)
        model, pixels = content.get("model_cfg"), content.get("preprocess_cfg") or {}
        if not isinstance(model, dict) or not isinstance(pixels, dict):
            raise InputError(
                f"Expected the objects model_cfg and preprocess_cfg in '{folder / OPEN_CLIP}', got others."
            )
        config = translated(model, folder / OPEN_CLIP)
        weights = tuple(folder / name for name in OPEN_CLIP_WEIGHTS)
        check_weights(folder, weights)
        return cls(folder, config, weights, pixels)

    def load(self) -> nn.Module:
        """Load the network in float32, in evaluation mode, without gradients."""
        tensors = read_tensors(self.weights, self.folder)
        check_counts(self.config, len(tensors))
        residual = residual_of(self.config)
        check_tensors(tensors, self.config, residual, self.folder)
        if residual is None:
            return self.settled(load_network(self.config, renamed(tensors), self.folder))
        return self.settled(ResNetClip.of(self.config, residual, tensors))

    def preprocessing(self) -> Preprocessing:
        """Preprocessing of open_clip for inference."""
        where, pixels = f"'{self.folder / OPEN_CLIP}'", self.pixels
        mode, resample = pixels.get("resize_mode") or "shortest", pixels.get("interpolation") or "bicubic"
        if mode not in ("shortest", "squash") or resample not in tuple(_FILTERS):
            raise InputError(
                f"Expected resize_mode 'shortest' or 'squash' and interpolation 'bicubic' or 'bilinear' in {where}, "
                f"got {mode!r:.40} and {resample!r:.40}."
            )
        side = self.config["vision_config"]["image_size"]  # not preprocess_cfg's: open_clip goes by the network, too
        config = {
            "image_processor_type": "CLIPImageProcessor",  # has the usual mean and deviation
            "size": {"shortest_edge": side} if mode == "shortest" else {"height": side, "width": side},
            "do_center_crop": mode == "shortest",
            "crop_size": side,
            "resample": _FILTERS[resample],
            "image_mean": pixels.get("mean"),
            "image_std": pixels.get("std"),
        }
        return replace(Preprocessing.read(config, where), half="even")


class ResNetClip(nn.Module):
    """CLIP with a ResNet image tower and the interface of a CLIP with a ViT.

    Parameters
    ----------
    config : mapping
        Configuration in the form of ``transformers``.
    residual : ResNet
        The image tower.
    """

    def __init__(self, config: Mapping[str, Any], residual: ResNet) -> None:
        super().__init__()
        text, dim = TextConfig.read(config["text_config"]), config["projection_dim"]
        assert text is not None  # translated() has checked what is in it
        self.visual = residual
        self.text_model = TextModel(text)
        self.text_projection = nn.Linear(text.hidden_size, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.empty(()))
        vision = SimpleNamespace(**config["vision_config"])
        self.config = SimpleNamespace(model_type=RESNET, projection_dim=dim, text_config=text, vision_config=vision)

    @classmethod
    def of(cls, config: Mapping[str, Any], residual: ResNet, tensors: Mapping[str, Tensor]) -> ResNetClip:
        """Create the network from the tensors of an open_clip checkpoint, which must be complete."""
        with torch.device("meta"):
            network = cls(config, residual)
        prefix = "visual."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        words = renamed({name: t for name, t in tensors.items() if not name.startswith(prefix)})
        folded = {f"{prefix}{name}": tensor for name, tensor in fold(own, residual).items()}
        network.load_state_dict(words | folded, assign=True)
        return network

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, d), not normalized."""
        return self.visual(pixel_values)

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        """(B, d), not normalized."""
        return self.text_projection(self.text_model(input_ids).pooler_output)


def residual_of(config: Mapping[str, Any]) -> ResNet | None:
    """Return the ResNet of a configuration on the meta device, or None for a ViT."""
    vision = config["vision_config"]
    if "layers" not in vision:
        return None
    with torch.device("meta"):
        return ResNet(**vision, dim=config["projection_dim"])
