"""Image tower of a ResNet CLIP, with the interface of tower methods but without prompts or updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor

from modalign.core.errors import InputError
from modalign.encoders.towers.resnet import RESNET
from modalign.encoders.towers.vision_tower import VisionOutput, VisionTower


class ResNetTower(VisionTower):
    """Frozen ResNet with attention pooling and the interface of a :class:`VisionTower`.

    Methods that train the text side only support it. Tokens are the positions of the last feature map after the
    attention pooling, with each position as query. Attributes of transformers (layers, layer norms, token width) raise
    an error on access.

    Parameters
    ----------
    encoder : object
        CLIP encoder with a ResNet.

    Attributes
    ----------
    dim : int
        Dimension of the features.
    patches : int
        Number of positions of the last feature map.
    image_size : int
        Side of the images in pixels.
    dtype : torch.dtype
        Data type of weights and results.
    device : torch.device
        Device of weights and results.
    """

    def __init__(self, encoder: Any) -> None:
        self._name = encoder.name
        self._network = encoder.model.visual
        pool = self._network.attnpool
        self.dim = pool.c_proj.out_features
        self.patches = len(pool.positional_embedding) - 1
        self.image_size = self._network.image_size
        self.dtype, self.device = pool.c_proj.weight.dtype, pool.c_proj.weight.device

    def __call__(
        self, pixels: Tensor, prompts: Sequence[Tensor] = (), *, tokens: bool = False, checkpoint: bool = False
    ) -> VisionOutput:
        """Like :class:`VisionTower`, with G = 1; ``prompts`` must be empty."""
        if len(prompts):
            self._refuse()
        self._check_pixels(pixels, 3)
        pool = self._network.attnpool
        x = pool(self._network.features(pixels.to(self.device, self.dtype)), tokens=tokens)[None]
        projected = pool.c_proj(x)
        return VisionOutput(projected[:, :, 0], projected if tokens else None, x[:, :, 0])

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"Expected a CLIP with a vision transformer for a method that changes the image side, got '{self._name}', "
            "a ResNet, which has no place for visual prompts or updates; take a method that learns on the text side "
            "(CoOp, CoCoOp, PLOT) or on vectors, or another encoder."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_name", "_network"):  # while it is copied, before the attribute exists
            raise AttributeError(name)
        self._refuse()


def vision_tower(encoder: Any) -> VisionTower:
    """Return the image tower of ``encoder``: a :class:`VisionTower` or a :class:`ResNetTower`."""
    config = getattr(getattr(encoder, "model", None), "config", None)
    return ResNetTower(encoder) if getattr(config, "model_type", None) == RESNET else VisionTower(encoder)
