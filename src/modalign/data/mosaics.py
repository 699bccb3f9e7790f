"""Synthetic scenes with exact masks: mosaics of textures, and images with pasted handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

REGIONS = 4
SIDE = 96
TEXTURES = ("horizontal stripes", "vertical stripes", "checkerboard", "dots", "gradient", "noise")
"""Textures that the embedded pair distinguishes as whole pictures (64 % right; diagonal stripes and grid 13 %)."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SENTENCES = ("{}", "a photo of {}.", "a picture of {}.", "an image of {}.", "a drawing of {}.", "this is {}.")
PALETTE = np.array(
    [(12, 12, 12), (244, 244, 244), (128, 128, 128), (214, 34, 34), (30, 156, 50), (36, 66, 216), (240, 216, 40),
     (244, 136, 24), (132, 44, 172), (246, 138, 186), (122, 74, 34), (50, 204, 220)], float,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images (n, side, side, 3) uint8 and their masks (n, side, side), indices into ``names``."""

    pictures: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]


def texture_scenes(seed: int, count: int) -> Scenes:
    """Draw mosaics of Voronoi regions, each filled with a texture of random colors, period and phase."""
    rng = np.random.default_rng([2026, seed])
    drawn = [_mosaic(rng) for _ in range(count)]
    return Scenes(np.stack([picture for picture, _ in drawn]), np.stack([mask for _, mask in drawn]), TEXTURES)


def _mosaic(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    centers = rng.uniform(0, SIDE, (REGIONS, 2))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    nearest = np.hypot(y[..., None] - centers[:, 0], x[..., None] - centers[:, 1]).argmin(axis=2)
    chosen = rng.choice(len(TEXTURES), REGIONS, replace=False)
    picture = np.zeros((SIDE, SIDE, 3))
    for region, number in enumerate(chosen):
        cover = texture(TEXTURES[number], x, y, rng)
        ink, ground = two_colors(rng)
        picture[nearest == region] = (ground + cover[..., None] * (ink - ground))[nearest == region]
    picture += rng.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), chosen[nearest].astype(np.uint8)


def texture(name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a texture of random period and phase, with the periods of the images that ``tiny`` was trained on.

    Parameters
    ----------
    name : str
        One of :data:`TEXTURES`.
    x, y : ndarray
        Coordinates of the pixels.
    rng : Generator
        Of the period and the phase.

    Returns
    -------
    ndarray
        Share of the ink at each pixel, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from modalign.data.mosaics import texture
    >>> y, x = np.mgrid[0:32, 0:32].astype(float)
    >>> texture("dots", x, y, np.random.default_rng(0)).shape
    (32, 32)
    """
    period = rng.uniform(5, 12)
    u, v = (x + rng.uniform(0, period)) / period, (y + rng.uniform(0, period)) / period
    if name == "noise":
        return rng.random(x.shape)
    if name == "gradient":  # ramps of 40 pixels up and down
        angle = rng.uniform(0, 2 * np.pi)
        return 1 - np.abs((x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 80)) / 40 % 2 - 1)
    if name.endswith("stripes"):
        return np.clip(0.5 + 2.5 * np.sin(2 * np.pi * (v if name.startswith("horizontal") else u)), 0, 1)
    if name == "checkerboard":
        return np.clip(0.5 + 3 * np.sin(np.pi * u) * np.sin(np.pi * v), 0, 1)
    return np.clip(6 * (0.32 - np.hypot(u % 1 - 0.5, v % 1 - 0.5)) + 0.5, 0, 1)


def two_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two colors of :data:`PALETTE` that differ visibly, (3,) each.

    Parameters
    ----------
    rng : Generator
        Of the draw.
    """
    while True:
        ink, ground = PALETTE[rng.choice(len(PALETTE), 2, replace=False)]
        if np.linalg.norm(ink - ground) > 110:
            return ink, ground


def digit_scenes(seed: int, count: int) -> Scenes:
    """Draw plain images with pasted digits of scikit-learn, as squares of 28 to 40 pixels.

    The class of a square is its digit; pixels outside the squares have the label 255 and are ignored.
    """
    from sklearn.datasets import load_digits  # half a second of import that only this function needs

    rng = np.random.default_rng([2027, seed])
    bunch = load_digits()
    pictures, masks = np.empty((count, SIDE, SIDE, 3), np.uint8), np.full((count, SIDE, SIDE), 255, np.uint8)
    for picture, mask in zip(pictures, masks, strict=True):
        shade = rng.uniform(0, 255, 3) + rng.normal(0, 4, picture.shape)
        picture[:] = np.clip(shade, 0, 255).astype(np.uint8)
        for row, column in rng.permutation([(0, 0), (0, 1), (1, 0), (1, 1)]):
            size, which = int(rng.integers(28, 41)), int(rng.integers(len(bunch.target)))
            top, left = (int(cell * SIDE // 2 + rng.integers(SIDE // 2 - size + 1)) for cell in (row, column))
            values = Image.fromarray((bunch.images[which] * 255 / 16).astype(np.uint8))
            square = np.asarray(values.resize((size, size), Image.Resampling.BICUBIC))
            picture[top : top + size, left : left + size] = square[..., None]
            mask[top : top + size, left : left + size] = bunch.target[which]
    return Scenes(pictures, masks, DIGITS)
