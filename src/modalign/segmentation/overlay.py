"""A photo under the colors of its classes, with a legend below it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modalign.core.display import visible

OPACITY = 0.5
"""Of the colors over the photo."""
LEAST_SHARE = 0.005
"""Classes with a smaller share of the pixels are one entry of the legend, "other"."""
_NARROWEST = 240  # pixels of the width, so that a legend can be read below a small photo
_INK, _PAPER, _EDGE = (29, 37, 48), (255, 255, 255), (160, 168, 178)


def colored(photo: np.ndarray, labels: np.ndarray, colors: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """The photo with the color of its class on every pixel, (H, W, 3) uint8; pixels without a class stay as they are.

    Parameters
    ----------
    photo : ndarray
        The photo.
    labels : array of shape (H, W)
        Classes; numbers from K on stand for none.
    colors : ndarray
        A color per class.
    opacity : float, default=OPACITY
        1: the colors alone.
    """
    out = photo.copy()
    for top in range(0, len(photo), 512):  # strips bound the memory of the arithmetic
        strip, classes = photo[top : top + 512], labels[top : top + 512]
        known = classes < len(colors)
        mixed = (1 - opacity) * strip[known] + opacity * colors[classes[known]]
        out[top : top + 512][known] = (mixed + 0.5).astype(np.uint8)
    return out


def overlay(photo: np.ndarray, labels: np.ndarray, names: Sequence[str], colors: np.ndarray) -> Image.Image:
    """The colored photo with a legend below it: color, name and share of every class, largest first.

    The picture is wider than the photo where the photo has fewer than 240 pixels.

    Parameters
    ----------
    photo, labels, colors : ndarray
        See :func:`colored`.
    names : sequence of str
        K class names.
    """
    height, width = labels.shape
    wide = max(width, _NARROWEST)
    size = min(max(13, round(wide / 45)), 64)
    rows = _legend(legend_entries(labels, names, colors), wide, size)
    below = (len(rows) * 3 + 1) * size // 2
    out = Image.new("RGB", (wide, height + below), _PAPER)
    out.paste(Image.fromarray(colored(photo, labels, colors)), (0, 0))
    draw = ImageDraw.Draw(out)
    for i, row in enumerate(rows):
        top = height + size // 2 + i * size * 3 // 2
        for left, text, color in row:
            box = (left, top, left + size, top + size)
            draw.rectangle(box, fill=color, outline=_EDGE)
            draw.text((left + size * 3 // 2, top + size // 2), text, font=legend_font(size), fill=_INK, anchor="lm")
    return out


def overlay_png(photo: np.ndarray, labels: np.ndarray, names: Sequence[str], colors: np.ndarray) -> bytes:
    """:func:`overlay` as the bytes of a PNG file."""
    buffer = BytesIO()
    overlay(photo, labels, names, colors).save(buffer, "PNG", compress_level=3)  # level 6 takes twice as long
    return buffer.getvalue()


def legend_entries(
    labels: np.ndarray, names: Sequence[str], colors: np.ndarray
) -> list[tuple[str, float, tuple[int, ...] | None]]:
    """(name, share of the pixels, color) of the classes in a label map, largest first, then "other" and "none".

    "other" are the classes below :data:`LEAST_SHARE`, and "none" the pixels without a class; neither has a color.
    """
    counts = np.bincount(np.minimum(labels, len(names)).ravel(), minlength=len(names) + 1)
    shares = counts / max(labels.size, 1)
    order = [int(k) for k in np.argsort(-shares[:-1], kind="stable") if shares[k] >= LEAST_SHARE]
    entries: list[tuple[str, float, tuple[int, ...] | None]] = [
        (names[k], float(shares[k]), tuple(colors[k].tolist())) for k in order
    ]
    other = 1 - sum(share for _, share, _ in entries) - float(shares[-1])
    for name, share in (("other", other), ("none", float(shares[-1]))):
        if share * labels.size > 0.5:
            entries.append((name, share, None))
    return entries


def _legend(
    entries: Sequence[tuple[str, float, tuple[int, ...] | None]], width: int, size: int
) -> list[list[tuple[int, str, tuple[int, ...] | None]]]:
    """Rows of (left edge, text, color) that fit into the width; a long name is cut."""
    rows: list[list[tuple[int, str, tuple[int, ...] | None]]] = [[]]
    left = size // 2
    for name, share, color in entries:
        text = _fitting(visible(name), f" {share_text(share)}", width - 5 * size // 2, size)
        taken = round(legend_font(size).getlength(text)) + 5 * size // 2
        if rows[-1] and left + taken > width:
            rows.append([])
            left = size // 2
        rows[-1].append((left, text, color))
        left += taken
    return rows


def share_text(share: float) -> str:
    """Format a share in percent; a positive share is never shown as zero."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _fitting(name: str, ending: str, width: int, size: int) -> str:
    """Name and ending, the name cut so that both fit."""
    text = name
    while text and legend_font(size).getlength(text + ending) > width:
        name = name[:-1]
        text = f"{name.rstrip()}…" if name else ""
    return text + ending


@cache
def legend_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans where Matplotlib is installed, which has far more letters than the font inside Pillow."""
    found = find_spec("matplotlib")
    path = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if found and found.origin else None
    return ImageFont.truetype(str(path), size) if path and path.is_file() else ImageFont.load_default(size)
