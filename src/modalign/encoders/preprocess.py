"""Preprocessing of images, equal to the image processor of the checkpoint.

Images are resized and cropped individually as 8-bit pixels, in any thread; normalization is applied per batch on the
device. Sizes, crops and filters are those of transformers. The resampling is torch's for bytes, which transformers uses
with torchvision; it differs from Pillow's, which transformers uses otherwise, by at most 2 of 255 levels (on photos 0.3
% of the values differ). ``preprocessor_config.json`` is read here instead of by ``transformers.AutoImageProcessor``,
because some of its processors need torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modalign.core.errors import InputError
from modalign.data.views import Filter, resize, to_pixels

VERSION = 2
"""Part of every encoder's fingerprint: increase it whenever decoding or preprocessing changes a pixel.

1: every picture is decoded whole. 2: JPEGs at a fraction of their size where that is enough.
"""

_CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_BICUBIC, _BILINEAR, _NEAREST = 3, 2, 0
_FILTERS: dict[int, Filter] = {_BICUBIC: "bicubic", _BILINEAR: "bilinear"}
_LARGEST = 2**14  # pixels of a side, or patches
_LONG = 16  # times the crop: resized pictures with a longer side are never made
_SHORT = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224, "resample": _BICUBIC}

# Defaults of a processor class for missing entries (in old checkpoints of the hub). First match by prefix.
_FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP": {**_SHORT, **_CLIP},
    "ChineseCLIP": {**_SHORT, **_CLIP},
    "Bit": {**_SHORT, **_CLIP},
    "Siglip2": {"resample": _BILINEAR, "patch_size": 16, "max_num_patches": 256, **_HALF},
    "Siglip": {"size": {"height": 224, "width": 224}, "resample": _BICUBIC, **_HALF},
    "DINOv3ViT": {"size": {"height": 224, "width": 224}, "resample": _BILINEAR, **_IMAGENET},
    "ViT": {"size": {"height": 224, "width": 224}, "resample": _BILINEAR, **_HALF},
    "DeiT": {**_SHORT, "size": {"height": 256, "width": 256}, **_IMAGENET},
}
_DINOV2 = {**_SHORT, "size": {"shortest_edge": 256}, **_IMAGENET}
_OF_MODEL: dict[str, dict[str, Any]] = {
    "clip": _FAMILIES["CLIP"],
    "metaclip_2": _FAMILIES["CLIP"],
    "siglip": _FAMILIES["Siglip"],
    "siglip2": _FAMILIES["Siglip2"],
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
    "dinov3_vit": _FAMILIES["DINOv3ViT"],
    "vit": _FAMILIES["ViT"],
}


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a checkpoint.

    Attributes
    ----------
    resize : {"short", "exact", "patches", "none"}
        ``"short"``: resize the short side to ``size[0]`` and the long side proportionally (rounded down); ``"exact"``:
        resize to ``size`` = (height, width); ``"patches"``: resize to the largest grid of `max_patches` patches that
        keeps the aspect ratio.
    size, crop : tuple of (int, int)
        See `resize`; (height, width) of the center crop, padded with black if the image is smaller, None for no crop.
    resample : int
        Filter as numbered in Pillow.
    mean, std, factor : tuple of (float, float, float) and float
        Mean and standard deviation of the channels, in units of `factor` · pixel.
    patch, max_patches : int, default=0
        Patch size and maximum number of patches for ``resize="patches"``.
    version : int, default=VERSION
        Version of decoding and preprocessing, at most :data:`VERSION`; models fitted with an earlier version keep it.
    half : {"down", "even"}, default="down"
        Rounding of the origin of the crop: ``"down"`` as transformers, ``"even"`` as torchvision and open_clip.
    """

    resize: Literal["short", "exact", "patches", "none"]
    size: tuple[int, int]
    crop: tuple[int, int] | None
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    factor: float = 1 / 255
    patch: int = 0
    max_patches: int = 0
    version: int = VERSION
    half: Literal["down", "even"] = "down"

    def __post_init__(self) -> None:
        sides = (*self.size, *(self.crop or ()), self.patch, self.max_patches)
        numbers = (*self.mean, *self.std, self.factor)
        sound = (
            all(0 <= side <= _LARGEST for side in sides)
            and (self.resize not in ("short", "exact") or min(self.size) > 0)
            and (self.crop is None or min(self.crop) > 0)
            and (self.resize != "patches" or min(self.patch, self.max_patches) > 0)
            and self.resample in range(6)
            and len(self.mean) == len(self.std) == 3
            and all(map(math.isfinite, numbers))
            and min(*self.std, self.factor) > 0
        )
        if not sound:
            raise ValueError("sizes, filter, mean or deviation out of range")

    def prepare(self, image: Image.Image, view: str = "center") -> np.ndarray:
        """Resize and crop an RGB image: uint8 (H, W, 3), or (rows, columns, patch·patch·3) for patches.

        ``view="mirror"`` flips the result left to right.
        """
        target = self._size_of(image.width, image.height)
        if self.crop is None:
            pixels = self._resized(image, target)
        else:
            # Down is toward the top left where it crops, away where it pads.
            over = (have - want for have, want in zip(target[::-1], self.crop, strict=True))
            top, left = (more // 2 if self.half == "down" else round(more / 2) for more in over)
            tall, wide = self.crop
            if max(target) > _LONG * max(self.crop) and min(top, left) >= 0:
                # A panorama or a one-pixel line: whole it could fill the memory, so only what is kept is computed.
                across, down = image.width / target[0], image.height / target[1]
                box = (left * across, top * down, (left + wide) * across, (top + tall) * down)
                pixels = np.array(image.resize((wide, tall), resample=self.resample, box=box))
            else:
                pixels = self._resized(image, target)
                if min(top, left) < 0:
                    ends = (top + tall - target[1], left + wide - target[0])
                    border = [(max(0, -start), max(0, end)) for start, end in zip((top, left), ends, strict=True)]
                    pixels = np.pad(pixels, [*border, (0, 0)])
                pixels = pixels[max(0, top) :, max(0, left) :][:tall, :wide]
        if view == "mirror":
            pixels = pixels[:, ::-1]
        if self.resize == "patches":
            rows, columns, p = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch, self.patch
            pixels = pixels.reshape(rows, p, columns, p, 3).transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1)
        return np.ascontiguousarray(pixels)

    def inputs(self, prepared: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return a batch of prepared images as keyword arguments of the vision tower, on its device in its dtype."""
        if self.resize == "patches":
            return self._patch_inputs(prepared, device, dtype)
        batch = torch.from_numpy(np.stack(prepared))
        if device.type == "cuda":
            batch = batch.pin_memory().to(device, non_blocking=True)
        return {"pixel_values": self.normalize(batch.to(device).permute(0, 3, 1, 2)).to(dtype)}

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 (..., 3, H, W) → float32 (factor · x − mean) / std, as one multiplication and one addition."""
        scale, shift = (v[:, None, None] for v in self.affine(pixels.device))
        floats = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device).copy_(pixels)
        return torch.addcmul(shift, floats, scale, out=floats)  # in place: new memory costs more than the arithmetic

    def affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(3,) factors and (3,) summands of :meth:`normalize`, float32."""
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (self.mean, self.std))
        return (self.factor / std).float().to(device), (-mean / std).float().to(device)

    def _patch_inputs(
        self, prepared: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        shapes = torch.tensor([p.shape[:2] for p in prepared])
        values = torch.zeros(len(prepared), self.max_patches, prepared[0].shape[2])
        mask = torch.zeros(len(prepared), self.max_patches, dtype=torch.int32)
        scale, shift = self.affine(torch.device("cpu"))
        for row, patches in enumerate(prepared):
            n = patches.shape[0] * patches.shape[1]
            pixels = torch.from_numpy(patches).reshape(n, -1, 3).float()
            values[row, :n] = torch.addcmul(shift, pixels, scale).reshape(n, -1)
            mask[row, :n] = 1
        return {
            "pixel_values": values.to(device, dtype),
            "pixel_attention_mask": mask.to(device),
            "spatial_shapes": shapes.to(device),
        }

    def _resized(self, image: Image.Image, target: tuple[int, int]) -> np.ndarray:
        """The whole picture at (width, height) ``target``."""
        if target == image.size or self.resample not in _FILTERS:  # Pillow copies where nothing is to be resized
            return np.array(image.resize(target, resample=self.resample))
        return resize(to_pixels(image), target[1], target[0], _FILTERS[self.resample]).permute(1, 2, 0).numpy()

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that an image is resized to, for :func:`~modalign.data.decoding.decode.decode`.

        It is the original size if every pixel may have an effect: without resizing, with the nearest-pixel filter, and
        in version 1.
        """
        whole = self.resample == _NEAREST or self.version == 1
        return (width, height) if whole else self._size_of(width, height)

    def _size_of(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after resizing."""
        if self.resize == "short":
            short = self.size[0]
            if width <= height:
                return short, int(short * height / width)
            return int(short * width / height), short
        if self.resize == "exact":
            return self.size[1], self.size[0]
        if self.resize == "patches":
            return self._grid(width, height)
        return width, height

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Return the largest grid with the aspect ratio of the image and at most ``max_patches`` patches."""

        def patches(side: int, scale: float) -> int:
            return max(1, math.ceil(scale * side / self.patch))

        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            scale = (low + high) / 2
            fits = patches(width, scale) * patches(height, scale) <= self.max_patches
            low, high = (scale, high) if fits else (low, scale)
        return self.patch * patches(width, low), self.patch * patches(height, low)

    def card(self) -> dict[str, Any]:
        """Return everything that affects the pixels, for the fingerprint."""
        card = asdict(self)
        if self.half == "down":  # cards that are older than this field
            del card["half"]
        return card

    @classmethod
    def read(cls, config: Mapping[str, Any], where: str) -> Preprocessing:
        """Read the content of a ``preprocessor_config.json``; ``where`` names it in messages."""
        try:
            return cls._read(config, where)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"Expected the numbers of an image processor in {where}, got others: {error}.") from None

    @classmethod
    def _read(cls, config: Mapping[str, Any], where: str) -> Preprocessing:
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        family = next((v for prefix, v in _FAMILIES.items() if kind.startswith(prefix)), {})
        c = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **family}
        c |= {key: value for key, value in config.items() if value is not None}
        odd = [key for key in ("do_pad", "crop_pct", "do_split_image", "do_image_splitting") if c.get(key)]
        missing = [key for key in ("image_mean", "image_std", "resample") if key not in c]
        if odd or missing:
            raise InputError(
                f"Expected an image processor that resizes, crops and normalizes ({where}), got {kind or 'one'} with "
                f"{f'the unsupported {odd[0]}' if odd else f'no {missing[0]}'}; use a CLIP, SigLIP, DINO or ViT one."
            )
        normalize = c["do_normalize"]
        common: dict[str, Any] = {
            "resample": int(c["resample"]),
            "mean": tuple(map(float, c["image_mean"])) if normalize else (0.0,) * 3,
            "std": tuple(map(float, c["image_std"])) if normalize else (1.0,) * 3,
            "factor": float(c["rescale_factor"]) if c["do_rescale"] else 1.0,
        }
        if "max_num_patches" in c:
            common |= {"patch": int(c["patch_size"]), "max_patches": int(c["max_num_patches"])}
            return cls("patches", (0, 0), None, **common)
        crop = _sides(c["crop_size"], where) if c.get("do_center_crop") else None
        if not c["do_resize"]:
            return cls("none", (0, 0), crop, **common)
        size = c.get("size")
        if isinstance(size, int):  # before sizes had names
            short = "shortest_edge" in family.get("size", ())
            size = {"shortest_edge": size} if short else {"height": size, "width": size}
        if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
            return cls("short", (int(size["shortest_edge"]),) * 2, crop, **common)
        return cls("exact", _sides(size, where), crop, **common)

    @classmethod
    def of_model(cls, model_type: str, image_size: int | None, patch: int | None) -> Preprocessing | None:
        """Return the usual preprocessing of a model type, or None."""
        if model_type not in _OF_MODEL:
            return None
        config = dict(_OF_MODEL[model_type])
        if "max_num_patches" in config:
            config["patch_size"] = patch or config["patch_size"]
        elif image_size is not None and not (model_type.startswith("dinov2") and image_size == 518):
            # DINOv2's own, last trained at 518, are by convention used at 224 of a short side of 256.
            short = "shortest_edge" in config["size"]
            config["size"] = {"shortest_edge": image_size} if short else {"height": image_size, "width": image_size}
            config["crop_size"] = image_size
        return cls.read(config, f"defaults of {model_type}")


def _sides(size: Any, where: str) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    raise InputError(f"Expected a size as height and width or shortest_edge in {where}, got {size}.")
