"""RandAugment with Pillow: the reference form in ``bench.speed views``, and the reference of the tests."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps


def pillow(name: str, s: float) -> Callable[[Image.Image], Image.Image]:
    """The operation ``name`` of :data:`modalign.data.augment.OPERATIONS` at signed strength ``s``."""

    def affine(*matrix: float) -> Callable[[Image.Image], Image.Image]:
        return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)

    def shift(side: int) -> int:
        return round(s * side * 150 / 331)

    return {
        "identity": lambda image: image,
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
        "color": lambda image: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
        "posterize": lambda image: ImageOps.posterize(image, 8 - round(4 * abs(s))),
        "solarize": lambda image: ImageOps.solarize(image, 256 * (1 - abs(s))),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "shear x": affine(1, 0.3 * s, 0, 0, 1, 0),
        "shear y": affine(1, 0, 0, 0.3 * s, 1, 0),
        "translate x": lambda image: affine(1, 0, shift(image.width), 0, 1, 0)(image),
        "translate y": lambda image: affine(1, 0, 0, 0, 1, shift(image.height))(image),
        "rotate": lambda image: image.rotate(30 * s),
    }[name]
