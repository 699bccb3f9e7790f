"""Read photos as the library does, and prepare them for the graph: used by predict.py.  Needs numpy and Pillow."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def open_photo(path: str | Path) -> Image.Image:
    """A photo as RGB, upright, on white where it is transparent."""
    from sniff import describe_format, pillow_format, sniff  # a file of the exported folder

    data = Path(path).read_bytes()
    name = pillow_format(kind := sniff(data))
    if name is None:
        raise ValueError(describe_format(data, kind))
    # Pillow maps a gray TIFF that is to be turned from its file in a wrong shape, but not from bytes.
    image: Image.Image = Image.open(BytesIO(data), formats=[name])
    bits = int(image.tag_v2.get(258, (16,))[0]) if hasattr(image, "tag_v2") else 16
    image = ImageOps.exif_transpose(image)
    if image.mode == "LAB":
        raise ValueError("color space LAB is not supported; save it as RGB")
    if image.mode[0] in "IF":
        image = scaled_gray(image, bits)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def scaled_gray(image: Image.Image, bits: int) -> Image.Image:
    """Gray of more than 8 bits as 8 bits: integers by their range, other numbers by the least that holds them all."""
    values = np.nan_to_num(np.asarray(image), nan=0, posinf=0, neginf=0)
    low, high = values.min(), values.max()
    white = next((w for w in (1, 255, 65535) if low >= 0 and high <= w), None)
    if image.mode[0] == "I" and white:
        white = 2 ** min(max(bits, 8), 16) - 1
    start, span = (0, white) if white else (low, high - low or 1)
    return Image.fromarray(((values - start) * (255 / span)).round().clip(0, 255).astype(np.uint8))


def prepare(image: Image.Image, step: dict[str, Any]) -> np.ndarray:
    """Resize and crop as the network was trained with: uint8 (height, width, 3)."""
    if step["resize"] != "none":
        short = [int(step["size"][0] * side / min(image.size)) for side in image.size]
        size = short if step["resize"] == "short" else step["size"][::-1]
        image = image.resize(size, Image.Resampling[step["resample"].upper()])
    if step["crop"]:
        over = np.subtract(image.size, step["crop"][::-1])
        left, top = (over // 2 if step["half"] == "down" else np.round(over / 2)).astype(int).tolist()
        image = image.crop((left, top, left + step["crop"][1], top + step["crop"][0]))  # black beyond the picture
    return np.asarray(image)
