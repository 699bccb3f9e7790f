"""Many views of one picture, cut from its decoded 8-bit pixels: decode once, resize small pieces, never the file again.

Pictures are uint8 tensors (3, H, W), batches (n, 3, H, W), as everywhere in torch. Resizing is that of torchvision:
bicubic with antialiasing like Pillow's, and at most 2 of 255 levels from it (both compute in fixed point, with other
roundings; on photos 0.3 % of the values differ, nearly all by one level). Randomness comes from the generator that
is handed in and from nothing else.

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
    """An RGB picture as a uint8 tensor (3, H, W), its channels interleaved in memory as resizing likes them best."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def empty_views(*shape: int, size: int, device: torch.device | None = None) -> Tensor:
    """Room for views, uint8 (…, 3, size, size): interleaved in memory, so that what is resized is copied in whole."""
    return torch.empty(*shape, size, size, 3, dtype=torch.uint8, device=device).movedim(-1, -3)


def resize(pixels: Tensor, height: int, width: int, filter: Filter = "bicubic") -> Tensor:
    """uint8 (…, 3, H, W) → (…, 3, height, width), with antialiasing.

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


def centre(pixels: Tensor, size: int) -> Tensor:
    """The view that CLIP is evaluated on: short side to ``size``, the middle square (…, 3, size, size).

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
    """Left and right exchanged."""
    return pixels.flip(-1)


def random_squares(
    height: int, width: int, n: int, *, scale: tuple[float, float] = (0.5, 0.9), generator: Generator
) -> Tensor:
    r"""n squares inside a picture as int64 rows (top, left, height, width).

    The side is :math:`\lfloor \lambda \min(H, W) \rfloor` with :math:`\lambda \sim U(\alpha, \beta)` (WCA and FAIR,
    equation 6), at least one pixel; the place is uniform over all that fit.

    Parameters
    ----------
    height : int
        H of the picture.
    width : int
        W of the picture.
    n : int
        How many.
    scale : tuple of (float, float)
        (α, β) in (0, 1].
    generator : Generator
        Where the randomness comes from.
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
    """n rectangles as int64 rows (top, left, height, width): the boxes of RandomResizedCrop.

    The area is uniform between ``scale`` of the picture's, the logarithm of the aspect ratio width / height uniform
    between those of ``ratio``, the place uniform. Sides that do not fit are cut to the picture, so that one draw
    always suffices.
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
    """The boxes (n, 4) of one picture (3, H, W), each resized to (n, 3, size, size).

    Cost is the pixels that are read and written and nothing else: about 0.2 ms a box at 224 on one core.

    Parameters
    ----------
    pixels : Tensor
        The decoded picture.
    boxes : Tensor
        Rows (top, left, height, width) inside it.
    size : int
        Side of the views.
    out : Tensor or None, default=None
        Where they are written, best made by :func:`empty_views`; new memory by default.
    """
    _check(pixels)
    views = empty_views(len(boxes), size=size, device=pixels.device) if out is None else out
    for view, (y, x, tall, wide) in zip(views, boxes.tolist(), strict=True):
        view.copy_(_resize(pixels[None, :, y : y + tall, x : x + wide], size, size)[0])
    return views


def random_crops(
    pixels: Tensor, n: int = 16, *, size: int, scale: tuple[float, float] = (0.5, 0.9), generator: Generator
) -> Tensor:
    """n random squares of a picture (3, H, W) at its own resolution, resized to (n, 3, size, size).

    Parameters
    ----------
    pixels : Tensor
        The decoded picture.
    n : int, default=16
        Crops, 16 in FAIR.
    size : int
        Side of the views.
    scale : tuple of (float, float)
        Range of their side in units of the picture's short side.
    generator : Generator
        Where the randomness comes from.
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
