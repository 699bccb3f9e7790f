"""Drawn data sets with class names that ``tiny`` knows, as targets of a transfer from the digits.

They are drawn anew, in no font that ``tiny`` was trained on, but its training images were drawings of the same kinds
with the same names: the classes are new to a method that learned from digits, and not to the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modalign.core.errors import UnknownNameError
from modalign.data.blobs import ImageBlob
from modalign.data.itemset import Items
from modalign.data.mosaics import PALETTE, TEXTURES, texture, two_colors

SIDE = 32  # pixels, the image size of ``tiny``
_CANVAS = 4 * SIDE  # drawn larger, then reduced
_COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "cyan")
_FIRST_COLOR = 3  # in the palette, after black, white and gray


def _corners(n: int, inner: float = 1.0, turn: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon in the unit circle, the first on top; every second one at radius ``inner``."""
    angles = [turn + 2 * math.pi * i / n for i in range(n)]
    radii = [inner if i % 2 else 1.0 for i in range(n)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


_OUTLINES: Mapping[str, list[tuple[float, float]]] = {
    "circle": _corners(40),
    "square": _corners(4, turn=math.pi / 4),
    "triangle": _corners(3),
    "star": _corners(10, inner=0.4),
    "diamond": [(0.6 * x, y) for x, y in _corners(4)],
    "hexagon": _corners(6),
    "cross": [(-.3, -1), (.3, -1), (.3, -.3), (1, -.3), (1, .3), (.3, .3),
              (.3, 1), (-.3, 1), (-.3, .3), (-1, .3), (-1, -.3), (-.3, -.3)],
    "ring": _corners(40),
}  # fmt: skip


def _letter(name: str, rng: np.random.Generator) -> np.ndarray:
    """White on black, a capital or a small letter, in the font that comes with Pillow."""
    mask, middle = Image.new("L", (_CANVAS, _CANVAS)), _CANVAS / 2
    character = name.upper() if rng.random() < 0.5 else name
    font = ImageFont.load_default(_CANVAS * rng.uniform(0.6, 0.9))
    ImageDraw.Draw(mask).text((middle, middle), character, 255, font=font, anchor="mm")
    cover = _reduced(mask.rotate(rng.normal(0, 5), Image.Resampling.BICUBIC))
    return _painted(cover, PALETTE[1], PALETTE[0])


def _shape_cover(name: str, rng: np.random.Generator) -> np.ndarray:
    mask = Image.new("L", (_CANVAS, _CANVAS))
    radius, turn = _CANVAS * rng.uniform(0.25, 0.46), rng.normal(0, 0.1)
    x, y = rng.uniform(radius, _CANVAS - radius, 2)
    c, s = math.cos(turn), math.sin(turn)
    for share, ink in ((1.0, 255), (0.6, 0))[: 1 + (name == "ring")]:
        r = share * radius
        points = [(x + r * (c * u - s * v), y + r * (s * u + c * v)) for u, v in _OUTLINES[name]]
        ImageDraw.Draw(mask).polygon(points, ink)
    return _reduced(mask)


def _shape(name: str, rng: np.random.Generator) -> np.ndarray:
    return _painted(_shape_cover(name, rng), *two_colors(rng))


def _textured(name: str, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    return _painted(texture(name, x, y, rng), *two_colors(rng))


def _color(name: str, rng: np.random.Generator) -> np.ndarray:
    """A shape of that color on black."""
    shape = list(_OUTLINES)[rng.integers(len(_OUTLINES))]
    return _painted(_shape_cover(shape, rng), PALETTE[_FIRST_COLOR + _COLORS.index(name)], PALETTE[0])


_NOTE = (
    "letters, shapes, textures and colors are drawings of the kinds that tiny was trained on: new to a method that "
    "learned from digits, not to tiny"
)


@dataclass(frozen=True)
class DrawnSet:
    """How a data set is drawn.

    Attributes
    ----------
    draw : callable
        From a class name and a generator to an image (32, 32, 3), uint8.
    class_names : tuple of str
        Its classes.
    templates : tuple of str
        Sentences for the class names.
    each : int
        Images per class.
    """

    draw: Callable[[str, np.random.Generator], np.ndarray]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    each: int = 40


DRAWN_SETS: Mapping[str, DrawnSet] = {
    "letters": DrawnSet(_letter, tuple("abcdefghijklmnopqrstuvwxyz"), ("a photo of the letter {}.",), each=20),
    "shapes": DrawnSet(_shape, tuple(_OUTLINES), ("a photo of a {}.",)),
    "textures": DrawnSet(_textured, TEXTURES, ("a photo of {}.",)),
    "colors": DrawnSet(_color, _COLORS, ("a photo of a {} shape.",)),
}
"""Name → letters, shapes, textures and colors."""


def load_drawn_set(name: str) -> Items:
    """Draw a data set, the same in every call: 32 × 32 pixels.

    Parameters
    ----------
    name : str
        One of :data:`DRAWN_SETS`.

    Raises
    ------
    UnknownNameError
        There is no such set.

    Examples
    --------
    >>> from modalign.data.drawn_sets import load_drawn_set
    >>> load_drawn_set("shapes")
    Items(320 images, 8 classes, 0 unlabeled, 0 quarantined)
    """
    if name not in DRAWN_SETS:
        raise UnknownNameError("drawn data set", name, DRAWN_SETS)
    drawn = DRAWN_SETS[name]
    rng = np.random.default_rng([2029, list(DRAWN_SETS).index(name)])
    labels = np.repeat(np.arange(len(drawn.class_names)), drawn.each)
    return Items(
        ids=tuple(f"{name}/{i:04d}.png" for i in range(len(labels))),
        blobs=tuple(ImageBlob(drawn.draw(drawn.class_names[k], rng)) for k in labels),
        labels=labels,
        class_names=drawn.class_names,
        notes=(_NOTE,),
    )


def _reduced(mask: Image.Image) -> np.ndarray:
    """(32, 32) share of the ink, in [0, 1]."""
    return np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float) / 255


def _painted(cover: np.ndarray, ink: np.ndarray, ground: np.ndarray) -> np.ndarray:
    return np.round(ground + cover[..., None] * (ink - ground)).astype(np.uint8)
