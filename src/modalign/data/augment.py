"""RandAugment of 8-bit image batches in torch.

Every operation computes the same result as in Pillow (``ImageEnhance``, ``ImageOps``, ``Image.transform``), batched.
Source: Cubuk et al., RandAugment, CVPR Workshops 2020; ranges as in torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad


def blend(low: Tensor, high: Tensor, factor: Tensor) -> Tensor:
    """Pillow's ``Image.blend`` of 8-bit pictures: low + factor · (high − low), cut to 0…255 and toward zero."""
    mixed = high.float().sub_(low).mul_(factor[:, None, None, None]).add_(low)
    return mixed.clamp_(0, 255).to(torch.int16).to(torch.uint8)  # vectorized; from float to bytes at once is not


def gray(x: Tensor) -> Tensor:
    """Luma of ITU-R 601-2 as Pillow rounds it, (n, 1, H, W) float."""
    r, g, b = x.to(torch.int32).unbind(1)
    return ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16)[:, None].float()


def brightness(x: Tensor, strength: Tensor) -> Tensor:
    """Toward black or away from it: ``ImageEnhance.Brightness(1 + 0.9 s)``."""
    return blend(torch.zeros(1, device=x.device), x, 1 + 0.9 * strength)


def color(x: Tensor, strength: Tensor) -> Tensor:
    """Toward gray or away from it: ``ImageEnhance.Color(1 + 0.9 s)``."""
    return blend(gray(x), x, 1 + 0.9 * strength)


def contrast(x: Tensor, strength: Tensor) -> Tensor:
    """Toward the mean gray or away from it: ``ImageEnhance.Contrast(1 + 0.9 s)``."""
    mean = (gray(x).mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    return blend(mean, x, 1 + 0.9 * strength)


def sharpness(x: Tensor, strength: Tensor) -> Tensor:
    """Toward the smoothed picture or away from it: ``ImageEnhance.Sharpness(1 + 0.9 s)``; the rim stays."""
    smooth = x.float()
    if min(x.shape[-2:]) > 2:
        # The kernel is (nine ones and four more in the middle) / 13; sums of bytes are exact in 16 bits.
        small = x.to(torch.int16)
        rows = small[..., :-2, :] + small[..., 1:-1, :] + small[..., 2:, :]
        square = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * small[..., 1:-1, 1:-1]
        smooth[..., 1:-1, 1:-1] = (square / 13 + 0.5).floor()
    return blend(smooth, x, 1 + 0.9 * strength)


def posterize(x: Tensor, strength: Tensor) -> Tensor:
    """Keep 8 − round(4 |s|) bits of every channel: ``ImageOps.posterize``."""
    bits = (4 * strength.abs()).round().to(torch.int32)[:, None, None, None]
    return ((x.to(torch.int32) >> bits) << bits).to(torch.uint8)


def solarize(x: Tensor, strength: Tensor) -> Tensor:
    """Invert what is at least 256 (1 − |s|): ``ImageOps.solarize``."""
    bright = x >= (256 * (1 - strength.abs()))[:, None, None, None]
    return x ^ (255 * bright.to(torch.uint8))  # 255 − x is x with all its bits turned


def autocontrast(x: Tensor, strength: Tensor) -> Tensor:
    """Stretch every channel to 0…255: ``ImageOps.autocontrast``; a constant channel stays."""
    low, high = (f(x.flatten(2), dim=2).double() for f in (torch.amin, torch.amax))
    scale = 255 / (high - low).clamp_min(1)
    levels = torch.arange(256, device=x.device)
    stretched = (levels * scale[..., None] + (-low * scale)[..., None]).clamp(0, 255)
    return look_up(torch.where((high > low)[..., None], stretched, levels), x.flatten(2).long()).reshape(x.shape)


def equalize(x: Tensor, strength: Tensor) -> Tensor:
    """Flatten the histogram of every channel: ``ImageOps.equalize``; a channel of one value stays."""
    flat = x.flatten(2).long()
    histogram = torch.zeros(*flat.shape[:2], 256, dtype=torch.long, device=x.device)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    last = histogram.gather(2, x.flatten(2).amax(2, keepdim=True).long())
    step = (flat.shape[2] - last) // 255
    before = histogram.cumsum(2) - histogram
    table = ((before + step // 2) // step.clamp_min(1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return look_up(table, flat).reshape(x.shape)


def look_up(table: Tensor, flat: Tensor) -> Tensor:
    """The bytes that a table (n, 3, 256) of levels has for the pixels (n, 3, H·W) int64."""
    return table.to(torch.uint8).gather(2, flat)


def transform(x: Tensor, matrices: Tensor) -> Tensor:
    """``Image.transform(…, AFFINE)`` to the nearest pixel: out(x, y) = in(a x + b y + c, d x + e y + f), else black.

    Parameters
    ----------
    x : Tensor of shape (n, 3, H, W)
        The images.
    matrices : Tensor of shape (n, 6)
        Rows a…f, in pixels, acting on the centers of pixels.
    """
    n, _, height, width = x.shape
    rows = torch.arange(height, device=x.device, dtype=torch.float64)[:, None] + 0.5
    columns = torch.arange(width, device=x.device, dtype=torch.float64)[None] + 0.5
    a, b, c, d, e, f = matrices.double().T[:, :, None, None]
    across = (a * columns + b * rows).add_(c).floor_().clamp_(-1, width)
    down = (d * columns + e * rows).add_(f).floor_().clamp_(-1, height)
    rimmed = pad(x, (1, 1, 1, 1))  # what lies outside falls on a black rim
    index = (down + 1).mul_(width + 2).add_(across + 1).long().reshape(n, 1, -1).expand(-1, 3, -1)
    return rimmed.flatten(2).gather(2, index).reshape(x.shape)


def _affine(fill: Callable[[Tensor, int, int], tuple[Tensor | float, ...]]) -> Callable[[Tensor, Tensor], Tensor]:
    def operation(x: Tensor, strength: Tensor) -> Tensor:
        entries = fill(strength, *x.shape[-2:])
        columns = [torch.as_tensor(v, dtype=torch.float64, device=x.device).expand(len(x)) for v in entries]
        return transform(x, torch.stack(columns, dim=1))

    return operation


def _rotation(strength: Tensor, height: int, width: int) -> tuple[Tensor | float, ...]:
    """By 30° · s around the middle, as ``Image.rotate``."""
    angle = -strength.double() * math.radians(30)
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, s: x,
    "shear x": _affine(lambda s, h, w: (1.0, 0.3 * s, 0.0, 0.0, 1.0, 0.0)),
    "shear y": _affine(lambda s, h, w: (1.0, 0.0, 0.0, 0.3 * s, 1.0, 0.0)),
    "translate x": _affine(lambda s, h, w: (1.0, 0.0, (s * w * 150 / 331).round(), 0.0, 1.0, 0.0)),
    "translate y": _affine(lambda s, h, w: (1.0, 0.0, 0.0, 0.0, 1.0, (s * h * 150 / 331).round())),
    "rotate": _affine(_rotation),
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""RandAugment's fourteen: (batch, signed strength in −1…1 for each picture) → batch."""


def rand_augment(batch: Tensor, draws: Sequence[Generator], *, operations: int = 2, magnitude: float = 0.3) -> Tensor:
    """Apply random operations in sequence to each picture of (b, 3, H, W), drawn uniformly.

    Operations with a sign (rotation, shear, translation, brightness, …) use both signs with equal probability.

    Parameters
    ----------
    batch : Tensor of shape (b, 3, H, W)
        Pictures, uint8.
    draws : sequence of Generator
        A generator for each picture, so that a picture does not depend on the others.
    operations : int, default=2
        RandAugment's N.
    magnitude : float, default=0.3
        RandAugment's M as a share of its full range, 0…1 (9 of 30 by default).
    """
    names, batch = list(OPERATIONS), batch.clone(memory_format=torch.contiguous_format)
    for picture, draw in zip(batch.split(1), draws, strict=True):  # single pictures stay in the processor's cache
        for _ in range(operations):
            name = names[int(torch.randint(len(names), (1,), generator=draw))]
            sign = int(torch.randint(2, (1,), generator=draw)) * 2 - 1
            picture.copy_(OPERATIONS[name](picture, torch.tensor([sign * magnitude])))
    return batch
