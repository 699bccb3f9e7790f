"""Windows of photos: resizing, positions, and averaging of overlapping maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError, UndecodableError, argument, require_choice
from modalign.data.views import resize, to_pixels

LONGEST = 2048
"""The longer side of a resized photo is at most this, as in mmsegmentation's (2048, s) …"""
LONGEST_STRIP = 2**15
"""… unless the shorter one would fall below a patch; then at most this."""
CHUNK = 2**22
"""Numbers of interpolated windows, or of a strip of the photo, that are held at a time: 16 MB."""


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """Settings of resizing and windows.

    Attributes
    ----------
    window, stride : int
        Pixels of the side of a window and between two.
    short_side : int
        Shorter side of a resized photo.
    patch : int
        Pixels of the side of a patch, the smallest side of a resized photo.
    resize : str, default="antialias"
        ``"antialias"``, the filter of Pillow's and torch's bilinear; or ``"opencv"``, bilinear without antialiasing,
        which published pipelines use.
    """

    window: int
    stride: int
    short_side: int
    patch: int
    resize: str = "antialias"

    def __post_init__(self) -> None:
        for name, least in (("patch", 1), ("window", self.patch), ("short_side", self.patch), ("stride", 1)):
            value = getattr(self, name)
            if not is_integer(value) or value < least:
                what = "a patch, " if least > 1 else ""
                raise InputError(
                    f"Expected {argument(name)} as a number of pixels of at least {what}{least}, got {value!r}."
                )
        if self.stride > self.window:
            raise InputError(
                f"Expected a stride of at most the window ({self.window} pixels), got {self.stride}; pixels between "
                "two windows would have no class."
            )
        require_choice("resize", self.resize, ("antialias", "opencv"))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a resized photo: the factor min(2048 / longer, s / shorter), sides rounded.

        Where that makes the shorter side less than a patch, it becomes one patch.

        Raises
        ------
        UndecodableError
            The longer side would then be beyond :data:`LONGEST_STRIP`.
        """
        short, long = sorted((height, width))
        factor = max(min(LONGEST / long, self.short_side / short), self.patch / short)
        if factor * long > LONGEST_STRIP:
            raise UndecodableError(
                f"too narrow: {width} × {height} pixels would be {round(factor * long)} long at a width of one patch "
                f"({self.patch}), the limit is {LONGEST_STRIP}; cut it into pieces"
            )
        tall, wide = (max(int(side * factor + 0.5), self.patch) for side in (height, width))
        return tall, wide

    def prepare(self, picture: Image.Image) -> Tensor:
        """The picture resized, uint8 (3, h, w)."""
        tall, wide = self.resized(picture.height, picture.width)
        pixels = to_pixels(picture)
        if (tall, wide) == tuple(pixels.shape[1:]):
            return pixels
        if self.resize == "antialias":
            return resize(pixels, tall, wide, "bilinear")
        plain = F.interpolate(pixels[None].float(), (tall, wide), mode="bilinear", align_corners=False)
        return plain[0].round().clamp(0, 255).to(torch.uint8)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the windows of a resized photo: smaller than ``window`` where the photo is."""
        return min(self.window, height), min(self.window, width)

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """(top, left) of the windows of a resized photo, row by row."""
        tops, lefts = (starts(side, self.window, self.stride) for side in (height, width))
        return [(top, left) for top in tops for left in lefts]


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every ``stride``, and a last one shifted back to the border."""
    count = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, side - window), 0) for i in range(count)]


def cut_windows(pixels: Tensor, places: Sequence[tuple[int, int]], shape: tuple[int, int]) -> Tensor:
    """(N, 3, *shape) windows of one picture (3, h, w)."""
    return torch.stack([pixels[:, y : y + shape[0], x : x + shape[1]] for y, x in places])


def average_windows(
    maps: Tensor, places: Sequence[tuple[int, int]], shape: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Maps of windows as one map (M, h, w) of the picture: bilinear to pixels, and the mean where windows overlap.

    Parameters
    ----------
    maps : Tensor of shape (N, M, rows, columns)
        A value per name and patch.
    places, shape : sequence of tuple of (int, int)
        Of the windows.
    size : tuple of (int, int)
        (h, w) of the picture.
    """
    M = maps.shape[1]
    canvas, counts = maps.new_zeros(M, *size), maps.new_zeros(size)
    step = max(1, CHUNK // (M * shape[0] * shape[1]))
    for begin in range(0, len(places), step):
        some = F.interpolate(maps[begin : begin + step], shape, mode="bilinear", align_corners=False)
        for (y, x), window in zip(places[begin : begin + step], some, strict=True):
            canvas[:, y : y + shape[0], x : x + shape[1]] += window
            counts[y : y + shape[0], x : x + shape[1]] += 1
    return canvas.div_(counts)


def upsampled_strips(canvas: Tensor, size: tuple[int, int], most: int = CHUNK) -> Iterator[tuple[int, Tensor]]:
    """The canvas (M, h, w) at another size, in strips of rows: (first row, (M, rows, width)).

    Each strip has the values of ``interpolate(canvas, size, mode="bilinear")`` of the whole, which would take
    M · height · width numbers.

    Parameters
    ----------
    canvas : Tensor of shape (M, h, w)
        Values of every class on the grid.
    size : tuple of (int, int)
        (height, width).
    most : int, default=CHUNK
        Numbers of a strip, or one row.
    """
    height, width = size
    rows = max(1, most // (len(canvas) * width))
    for first in range(0, height, rows):
        at = torch.arange(first, min(first + rows, height), dtype=torch.float32, device=canvas.device)
        at = ((at + 0.5) * (canvas.shape[1] / height) - 0.5).clamp(0, canvas.shape[1] - 1)
        low = at.floor().long()
        high = (low + 1).clamp_max(canvas.shape[1] - 1)
        share = (at - low).to(canvas.dtype)[:, None]
        strip = torch.lerp(canvas[:, low], canvas[:, high], share)
        if width != canvas.shape[2]:
            strip = F.interpolate(strip[None], (len(at), width), mode="bilinear", align_corners=False)[0]
        yield first, strip
