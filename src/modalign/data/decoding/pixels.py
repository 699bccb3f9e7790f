"""Pictures of any mode as 8-bit RGB, a strip of rows at a time, so that no second copy of a large one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

from modalign.core.errors import UndecodableError

_STRIP = 2**20  # pixels


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB by the rules of :func:`~modalign.data.decoding.decode.decode`, not turned upright.

    Memory: 4 bytes per pixel besides the image, none where it is plain RGB.
    """
    if image.mode == "LAB":
        raise UndecodableError("color space LAB is not supported; save it as RGB")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    convert = _gray_converter(image) if image.mode[0] in "IF" else _convert
    if image.width * image.height <= _STRIP:
        return convert(image)
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        rgb.paste(convert(strip), (0, top))
    return rgb


def _convert(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] == 255:
            return rgba.convert("RGB")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba)
        return white
    return image.convert("RGB")


def _gray_converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Modes I;16*, I and F → RGB, rescaled instead of clipped, by the range of the whole picture."""
    ranges = [(float(values.min()), float(values.max())) for values in map(_values, (s for _, s in _strips(image)))]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        bits = image.tag_v2.get(258, (16,))[0] if isinstance(image, TiffImagePlugin.TiffImageFile) else 16
        white = 2 ** min(max(int(bits), 8), 16) - 1
        table = np.minimum((np.arange(65536) * 255 + white // 2) // white, 255).astype(np.uint8)
        return lambda strip: Image.fromarray(table[_values(strip)]).convert("RGB")
    white = next((w for w in (1.0, 255.0, 65535.0) if low >= 0 and high <= w), None)
    start, span = (0.0, white) if white else (low, high - low or 1.0)
    return lambda strip: Image.fromarray(((_values(strip) - start) * (255.0 / span)).round().astype(np.uint8)).convert(
        "RGB"
    )


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(first row, rows) of the image from top to bottom."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
