"""Crops and flips of decoded 8-bit images, so that a file is decoded once for many views.

Images are uint8 tensors (3, H, W), batches (n, 3, H, W). Resizing is bicubic with antialiasing as in torchvision, and
differs from Pillow by at most 2 of 255 levels (both use fixed-point arithmetic with different rounding; on photos 0.3 %
of the values differ, nearly all by one level). The generator passed is the only source of randomness.

This file and :mod:`~modalign.data.augment` are the only ones in ``data`` that need torch; nothing there imports them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from modalign.core.errors import InputError

Filter = Literal["bicubic", "bilinear"]


def to_pixels(image: Image.Image) -> Tensor:
    """Convert an RGB image to uint8 (3, H, W) with channels last in memory, the fastest layout for resizing."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def empty_views(*shape: int, size: int, device: torch.device | None = None) -> Tensor:
    """Allocate uint8 views (…, 3, size, size) with channels last in memory."""
    return torch.empty(*shape, size, size, 3, dtype=torch.uint8, device=device).movedim(-1, -3)


def resize(pixels: Tensor, height: int, width: int, filter: Filter = "bicubic") -> Tensor:
    """Resize uint8 (…, 3, H, W) to (…, 3, height, width), with antialiasing.

    On the CPU torch has a fixed-point path for bytes, several times faster than Pillow. Elsewhere the two axes are
    resized one after the other in floating point and rounded in between, which is what Pillow does.
    """
    _check(pixels)
    small = _resize(pixels.reshape(-1, *pixels.shape[-3:]), height, width, filter)
    return small.reshape(*pixels.shape[:-2], height, width)


def _resize(batch: Tensor, height: int, width: int, filter: Filter = "bicubic") -> Tensor:
    if batch.device.type != "cpu":
        return _resize_in_floats(batch, height, width, filter)
    # Interleaved channels are what the fast path is written for; a slice of a picture is not contiguous.
    batch = batch.contiguous(memory_format=torch.channels_last)
    return interpolate(batch, (height, width), mode=filter, antialias=True)


def _resize_in_floats(batch: Tensor, height: int, width: int, filter: Filter = "bicubic") -> Tensor:
    for size in ((batch.shape[-2], width), (height, width)):
        batch = interpolate(batch.float(), size, mode=filter, antialias=True).round().clamp(0, 255)
    return batch.to(torch.uint8)


def center(pixels: Tensor, size: int) -> Tensor:
    """Resize the short side to ``size`` and crop the center square, (…, 3, size, size), as in the evaluation of CLIP.

    The long side becomes ⌊size · long / short⌋, and an odd remainder is cut off at the end, as the preprocessing of
    CLIP checkpoints does.
    """
    _check(pixels)
    height, width = pixels.shape[-2:]
    short = min(height, width)
    tall, wide = int(size * height / short), int(size * width / short)
    top, left = (tall - size) // 2, (wide - size) // 2
    return resize(pixels, tall, wide)[..., top : top + size, left : left + size]


def mirror(pixels: Tensor) -> Tensor:
    """Flip horizontally."""
    return pixels.flip(-1)


def random_squares(
    height: int, width: int, n: int, *, scale: tuple[float, float] = (0.5, 0.9), generator: Generator
) -> Tensor:
    r"""Draw n squares inside an image, as int64 rows (top, left, height, width).

    The side is :math:`\lfloor \lambda \min(H, W) \rfloor` with :math:`\lambda \sim U(\alpha, \beta)` (WCA and FAIR,
    equation 6), at least one pixel; the position is uniform.

    Parameters
    ----------
    height : int
        H of the picture.
    width : int
        W of the picture.
    n : int
        Number of squares.
    scale : tuple of (float, float)
        (α, β) in (0, 1].
    generator : Generator
        Random number generator.
    """
    low, high = check_scale(scale)
    draws = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    side = ((low + (high - low) * draws[:, 0]) * min(height, width)).long().clamp_min(1)
    top = (draws[:, 1] * (height - side + 1)).long()
    left = (draws[:, 2] * (width - side + 1)).long()
    return torch.stack((top, left, side, side), dim=1)


def random_rectangles(
    height: int,
    width: int,
    n: int,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: Generator,
) -> Tensor:
    """Draw the n boxes of RandomResizedCrop, as int64 rows (top, left, height, width).

    Area (as a share of the image, within ``scale``), logarithm of the aspect ratio width / height (within ``ratio``)
    and position are uniform. Sides larger than the image are clipped, so one draw is sufficient.
    """
    low, high = check_scale(scale)
    draws = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    area = (low + (high - low) * draws[:, 0]) * height * width
    narrow, broad = torch.tensor(ratio, dtype=torch.float64).log()
    aspect = torch.exp(narrow + (broad - narrow) * draws[:, 1])
    tall = (area / aspect).sqrt().round().long().clamp(1, height)
    wide = (area * aspect).sqrt().round().long().clamp(1, width)
    top = (draws[:, 2] * (height - tall + 1)).long()
    left = (draws[:, 3] * (width - wide + 1)).long()
    return torch.stack((top, left, tall, wide), dim=1)


def cut(pixels: Tensor, boxes: Tensor, size: int, *, out: Tensor | None = None) -> Tensor:
    """Crop boxes (n, 4) of an image (3, H, W) and resize them to (n, 3, size, size).

    Cost: proportional to the pixels read and written, about 0.2 ms per box at 224 on one core.

    Parameters
    ----------
    pixels : Tensor
        The decoded picture.
    boxes : Tensor
        Rows (top, left, height, width) inside it.
    size : int
        Side of the views.
    out : Tensor or None, default=None
        Output, preferably from :func:`empty_views`; allocated by default.
    """
    _check(pixels)
    views = empty_views(len(boxes), size=size, device=pixels.device) if out is None else out
    for view, (y, x, tall, wide) in zip(views, boxes.tolist(), strict=True):
        view.copy_(_resize(pixels[None, :, y : y + tall, x : x + wide], size, size)[0])
    return views


def random_crops(
    pixels: Tensor, n: int = 16, *, size: int, scale: tuple[float, float] = (0.5, 0.9), generator: Generator
) -> Tensor:
    """Crop n random squares of an image (3, H, W) at full resolution and resize them to (n, 3, size, size).

    Parameters
    ----------
    pixels : Tensor
        The decoded picture.
    n : int, default=16
        Number of crops, 16 in FAIR.
    size : int
        Side of the views.
    scale : tuple of (float, float)
        Range of the side as a share of the short side of the image.
    generator : Generator
        Random number generator.
    """
    _check(pixels)
    height, width = pixels.shape[-2:]
    return cut(pixels, random_squares(height, width, n, scale=scale, generator=generator), size)


def _check(pixels: Tensor) -> None:
    if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-3] != 3 or 0 in pixels.shape:
        raise InputError(f"Expected 8-bit pixels (…, 3, H, W), got {pixels.dtype} {tuple(pixels.shape)}.")


def check_scale(scale: tuple[float, float]) -> tuple[float, float]:
    low, high = scale
    if not 0 < low <= high <= 1:
        raise InputError(f"Expected a range of scales with 0 < low ≤ high ≤ 1, got {scale}.")
    return low, high
