"""Unit features of the patches of windows, of a vision-language or a vision-only network."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.data.views import resize
from modalign.encoders.base import Encoder
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.linalg.similarity import unit
from modalign.segmentation.calibrated import Calibration, calibrated
from modalign.segmentation.dense import FEATURES, LAST_LAYERS, by_proxy, of_last_layer

COARSE = 32
"""Patches of this side or more are too coarse; dense methods are known to fail on such networks."""
_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")  # transformers interpolates their positions


class PatchFeatures:
    """The features of an encoder's patches that are compared with names.

    Parameters
    ----------
    encoder : Encoder
        Encoder with a text tower.
    features : str
        One of :data:`~modalign.segmentation.dense.FEATURES`.
    calibration : Calibration
        Constants of ``scclip``.
    guide : Encoder or None
        The vision-only encoder of ``proxy``.

    Attributes
    ----------
    side : int
        Pixels of the encoder's pictures.
    patch : int
        Pixels of the side of a patch; the whole picture for ``window``.
    lost : int
        Patches so far whose features were zero or not finite; they have cosine 0 with everything.

    Raises
    ------
    InputError
        The encoder has no text, or not these features.
    """

    def __init__(self, encoder: Encoder, features: str, calibration: Calibration, guide: Encoder | None) -> None:
        if features not in FEATURES:
            raise UnknownNameError("features", str(features), FEATURES)
        if not encoder.has_text:
            raise InputError(f"Expected an encoder with a text tower, '{encoder.name}' has no text tower; use a CLIP.")
        if (guide is None) == (features == "proxy"):
            wanted = "a vision-only encoder (vfm) together with" if guide is None else "vfm only with"
            raise InputError(
                f"Expected {wanted} {argument('features', 'proxy')}, got {argument('features', features)}."
            )
        self.encoder, self.features, self.calibration, self.guide = encoder, features, calibration, guide
        self.lost = 0
        self._tower: VisionTower | None = None
        if features == "window":
            self.side = _side(encoder)
            self.patch = 1
        else:
            try:
                self._tower = VisionTower(encoder)
            except InputError:
                raise InputError(
                    f"The encoder '{encoder.name}' supports {argument('features', 'window')} only."
                ) from None
            self.side, self.patch = self._tower.image_size, self._tower.patch_size

    def notes(self) -> tuple[str, ...]:
        """Messages about features of this encoder."""
        found = []
        if self._tower is not None and self.patch >= COARSE:
            found.append(
                f"'{self.encoder.name}' has patches of {self.patch} pixels; dense features are known to fail on "
                f"patches of {COARSE} pixels and more, use one of 16"
            )
        if self._tower is not None and self.features == "scclip" and self._tower.depth != 12:
            found.append(
                f"'{self.encoder.name}' has {self._tower.depth} layers and not the 12 of SC-CLIP, whose layers are "
                "taken as shares of the depth"
            )
        patches = (self.side // self.patch) ** 2
        if self._tower is not None and self.features == "scclip" and patches <= self.calibration.neighbors:
            found.append(
                f"a window has {patches} patches, so that outliers are found among {patches - 1} neighbors instead of "
                f"{self.calibration.neighbors}"
            )
        return tuple(found)

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> Tensor:
        """Unit features (B, rows, columns, d) in float32 of the patches of uint8 windows (B, 3, h, w)."""
        if self._tower is None:
            pictures = (Image.fromarray(window) for window in windows.permute(0, 2, 3, 1).cpu().numpy())
            prepared = [self.encoder.preprocessing.prepare(picture) for picture in pictures]
            return self._sound(self.encoder.encode(prepared)[0][:, None, None])
        pixels = self.encoder.preprocessing.normalize(windows.to(self.encoder.device))
        if self.features == "scclip":
            found = calibrated(self._tower, pixels, self.calibration)
        elif self.guide is not None:
            guide = vision_patches(self.guide, windows)
            return self._sound(by_proxy(self._tower, pixels, guide).unflatten(1, tuple(guide.shape[1:3])))
        else:
            found = of_last_layer(self._tower, pixels, LAST_LAYERS[self.features])
        return self._sound(found.unflatten(1, self.grid(windows)))

    def grid(self, windows: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of windows."""
        return windows.shape[2] // self.patch, windows.shape[3] // self.patch

    def _sound(self, found: Tensor) -> Tensor:
        """Unit rows; zeros for what has no direction, which is counted."""
        found = found.float()
        lost = ~found.isfinite().all(dim=-1) | (found == 0).all(dim=-1)
        if bool(lost.any()):
            self.lost += int(lost.sum())
            found = found.masked_fill(lost[..., None], 0)
        return unit(found)


@torch.inference_mode()
def vision_patches(encoder: Encoder, windows: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Unit features (B, rows, columns, D) of the patches of windows by a vision-only network.

    Networks for pictures of any size get windows with the requested number of patches; the features of others, which
    have a fixed size, are interpolated.

    Parameters
    ----------
    encoder : Encoder
        DINOv2, DINOv3 or a ViT.
    windows : Tensor
        Uint8 (B, 3, h, w), normalized here for that network.
    grid : tuple of (int, int) or None, default=None
        Rows and columns; None for the network's own.
    """
    config = encoder.model.config
    if config.model_type in _ANY_SIZE:
        patch = int(config.patch_size)
        rows, columns = grid or (max(1, windows.shape[2] // patch), max(1, windows.shape[3] // patch))
        size = (rows * patch, columns * patch)
    else:
        size = (_side(encoder),) * 2
    if size != tuple(windows.shape[2:]):
        windows = resize(windows, *size, "bilinear")
    prepared = list(windows.permute(0, 2, 3, 1).cpu().numpy())
    tokens = encoder.encode(prepared, tokens=True)[1]
    assert tokens is not None
    if config.model_type in _ANY_SIZE:
        return tokens.unflatten(1, (rows, columns))
    own = math.isqrt(tokens.shape[1])
    square = tokens.unflatten(1, (own, own))
    if grid is None or grid == (own, own):
        return square
    image = F.interpolate(square.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
    return unit(image.permute(0, 2, 3, 1))


def _side(encoder: Any) -> int:
    """Side of the pictures of an encoder; for any number of patches, that of the largest square."""
    preprocessing = encoder.preprocessing
    if preprocessing.resize == "patches":
        return int(preprocessing.patch * math.isqrt(preprocessing.max_patches))
    size = preprocessing.crop or preprocessing.size
    vision = getattr(encoder.model.config, "vision_config", encoder.model.config)
    return int(min(size) or getattr(vision, "image_size", 224))
