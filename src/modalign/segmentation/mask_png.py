"""Label maps as PNG files: indexed with a palette up to 255 classes, 16-bit gray above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from modalign.core.errors import InputError, argument
from modalign.core.files import read_bytes, read_json, read_text
from modalign.segmentation.segmented import MOST_BYTE_CLASSES, label_type

MASK_BYTES = 2**28
"""Largest mask file that is read."""
Color = tuple[int, int, int]


def voc_palette() -> np.ndarray:
    """The 256 colors of PASCAL VOC, (256, 3) uint8: 0 black, 1 (128, 0, 0), 2 (0, 128, 0), …

    Bits 0, 1 and 2 of the index are the highest bits of red, green and blue, bits 3, 4 and 5 the next ones, and so on.
    """
    index = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.uint8)
    for level in range(3):
        for channel in range(3):
            colors[:, channel] |= ((index >> (3 * level + channel) & 1) << (7 - level)).astype(np.uint8)
    return colors


def class_colors(n_classes: int, *, background: bool = False) -> np.ndarray:
    """A color per class, (K, 3) uint8: those of PASCAL VOC, repeated after 255 classes.

    Black is kept for the background. Without a background class the first class has the second color of the palette.
    """
    first = 0 if background else 1
    colors = voc_palette()
    return colors[[k if k < 256 else 1 + (k - 1) % 255 for k in range(first, first + n_classes)]]


def mask_png(labels: np.ndarray, n_classes: int, *, background: bool = False) -> bytes:
    """A label map as the bytes of a PNG file whose pixel values are the labels.

    Parameters
    ----------
    labels : array of shape (H, W)
        0…K − 1, or :func:`~modalign.segmentation.segmented.none_label`.
    n_classes : int
        K. Up to 255 classes the file is indexed (mode ``P``) with the colors of :func:`class_colors`, and of PASCAL VOC
        beyond the classes; with more it is 16-bit gray without a palette.
    background : bool, default=False
        Whether class 0 is the background, which is black.
    """
    buffer = BytesIO()
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=label_type(n_classes)))
    if n_classes <= MOST_BYTE_CLASSES:
        colors = voc_palette()
        colors[:n_classes] = class_colors(n_classes, background=background)
        image.putpalette(colors.tobytes())  # makes the mode P; the values stay
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read_mask(path: str | Path, palette: Sequence[Color] | None = None) -> np.ndarray:
    """The pixel values of a mask, (H, W), uint8 or uint16.

    Parameters
    ----------
    path : str or Path
        An image whose pixels are class numbers: indexed, of which the palette does not matter, or gray with 8 or 16
        bits. A 1-bit picture has the values 0 and 1.
    palette : sequence of (int, int, int), default=None
        Colors of the values 0, 1, …, with which an RGB mask is read. Every pixel must have one of them.

    Raises
    ------
    InputError
        The file is no such picture, or it is RGB and has a color that is not in the palette, or there is no palette.
    """
    with _opened(path) as image:
        image.load()
        mode = image.mode
        values = np.asarray(image.convert("RGB") if mode in ("RGBA", "RGBX") else image)
    if mode in ("RGB", "RGBA", "RGBX"):
        return _indices(values, palette, path)
    if mode == "1":
        return values.astype(np.uint8)
    if mode not in ("P", "L") and not mode.startswith("I"):
        raise InputError(f"Expected an indexed or gray mask with 8 or 16 bits, '{path}' has the mode {mode}.")
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 65535):
        raise InputError(f"Expected mask values in 0…65535, '{path}' has {values.min()}…{values.max()}.")
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def mask_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a mask, of which no pixel is decoded.

    Raises
    ------
    InputError
        The file is no picture that :func:`read_mask` decodes.
    """
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    data = read_bytes(path, "a mask", MASK_BYTES)
    try:
        with Image.open(BytesIO(data), formats=("PNG", "BMP", "TIFF", "GIF")) as image:
            yield image
    except Exception as error:  # a decoder may raise anything
        reason = "it is no such image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"Expected a mask as a PNG image, '{path}' cannot be decoded: {reason}.") from None


def _indices(pixels: np.ndarray, palette: Sequence[Color] | None, path: str | Path) -> np.ndarray:
    """Colors → their places in the palette."""
    if palette is None:
        raise InputError(
            f"Expected a mask whose pixels are class numbers (indexed or gray), '{path}' is RGB; give its colors in "
            f"class order with {argument('palette')}."
        )
    codes = (pixels.astype(np.uint32) << np.array([16, 8, 0], dtype=np.uint32)).sum(axis=2)
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in palette], dtype=np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    strange = known[order][place] != codes
    if strange.any():
        row, column = np.argwhere(strange)[0]
        color = tuple(pixels[row, column].tolist())
        raise InputError(
            f"Expected only colors of the palette in '{path}', got {color} in row {row}, column {column}, "
            f"and in {int(strange.sum()) - 1:,} more pixels."
        )
    return order[place].astype(label_type(len(known)))


def read_palette(path: str | Path) -> tuple[Color, ...]:
    """Colors in class order from a file: a JSON list of ``[r, g, b]``, or a line ``r g b`` per class.

    In a text file words after the third number and lines that begin with ``#`` are ignored.
    """
    if Path(path).suffix.lower() == ".json":
        rows = read_json(path, "a palette")
    else:
        lines = (line.replace(",", " ").split() for line in read_text(path, "a palette").splitlines())
        rows = [[int(w) if w.isdecimal() else w for w in words[:3]] for words in lines if words and words[0][0] != "#"]
    if not isinstance(rows, list) or not rows or not all(map(_is_color, rows)):
        raise InputError(f"Expected three numbers of 0…255 per class in the palette '{path}'.")
    colors = tuple((r, g, b) for r, g, b in rows)
    if len(set(colors)) < len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        raise InputError(f"Expected every color of the palette '{path}' once, got {twice} twice.")
    return colors


def _is_color(row: object) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(type(value) is int and 0 <= value <= 255 for value in row)
