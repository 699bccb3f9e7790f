"""Windows of rendered scenes with a mask: several drawings on a plain ground, and mosaics of textures.

A scene has four drawings of `tiny_images.py` as squares, one in each quarter, as in `modalign.data.mosaics`; its side
is drawn too, so that drawings have 17 to 40 pixels. A pixel of a square belongs to its drawing, the ground to none.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tiny_images import NAMES
from torch import Tensor

from modalign.data.mosaics import SIDE, texture_scenes
from modalign.data.mosaics import TEXTURES as MOSAIC_TEXTURES

WINDOW, PATCH = 32, 8
IGNORED = 255
SMALLEST = 0.6  # of the full side of a scene
OF_MOSAIC = 6  # windows of one mosaic
ASIDE = 12  # pixels, at most, between the centers of a window and of its drawing
QUARTERS = [(0, 0), (0, 1), (1, 0), (1, 1)]
SHARES = (0.8, 0.12, 0.04, 0.04)  # of digits, letters, shapes and textures among the drawings
Windows = tuple[np.ndarray, np.ndarray]


def glyph_scene(
    images: np.ndarray, names: np.ndarray, rng: np.random.Generator, smallest: float = SMALLEST
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture (s, s, 3) and mask (s, s) of four drawings, with s from `smallest` times 96 to 96; and their centers."""
    factor = rng.uniform(smallest, 1.0)
    side = round(SIDE * factor)
    shade = rng.uniform(0, 255, 3) + rng.normal(0, 4, (side, side, 3))
    picture, mask = np.clip(shade, 0, 255).astype(np.uint8), np.full((side, side), IGNORED, np.uint8)
    half, centers = side // 2, []
    for (row, column), image, name in zip(QUARTERS, images, names, strict=True):
        size = min(round(rng.uniform(28, 41) * factor), half)
        top, left = row * half + rng.integers(half - size + 1), column * half + rng.integers(half - size + 1)
        square = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
        picture[top : top + size, left : left + size] = square
        mask[top : top + size, left : left + size] = name
        centers.append((top + size // 2, left + size // 2))
    return picture, mask, np.array(centers)


def cut(picture: np.ndarray, mask: np.ndarray, corners: np.ndarray) -> list[Windows]:
    """The windows at these corners, moved inside."""
    corners = corners.clip(0, len(mask) - WINDOW)
    spots = [(slice(top, top + WINDOW), slice(left, left + WINDOW)) for top, left in corners]
    return [(picture[spot], mask[spot]) for spot in spots]


def glyph_windows(images: np.ndarray, facts: np.ndarray, count: int, rng: np.random.Generator) -> Windows:
    """`count` windows (n, 32, 32, 3) and masks (n, 32, 32) of scenes of drawings, a few of each scene."""
    scenes = -(-count // len(QUARTERS))
    kinds = rng.choice(4, (scenes, 4), p=SHARES)
    of_kind = [np.flatnonzero(facts[:, 0] == kind) for kind in range(4)]
    found: list[Windows] = []
    for row in kinds:
        rows = np.array([rng.choice(of_kind[kind]) for kind in row])
        picture, mask, centers = glyph_scene(images[rows], facts[rows, 1], rng)
        found += cut(picture, mask, centers - WINDOW // 2 + rng.integers(-ASIDE, ASIDE + 1, (4, 2)))
    return _stacked(found[:count])


def mosaic_windows(count: int, rng: np.random.Generator) -> Windows:
    """The same of mosaics of textures, with indices into the names of all drawings."""
    scenes = texture_scenes(int(rng.integers(10_000, 2**31)), -(-count // OF_MOSAIC))
    indices = np.array([NAMES.index(name) for name in MOSAIC_TEXTURES], np.uint8)
    found: list[Windows] = []
    for picture, mask in zip(scenes.pictures, indices[scenes.masks], strict=True):
        found += cut(picture, mask, rng.integers(0, SIDE - WINDOW + 1, (OF_MOSAIC, 2)))
    return _stacked(found[:count])


def patch_labels(masks: np.ndarray) -> Tensor:
    """(B, patches) name that covers at least half of each patch, else 255."""
    side = WINDOW // PATCH
    cells = torch.from_numpy(masks).long().view(-1, side, PATCH, side, PATCH).transpose(2, 3).reshape(-1, PATCH**2)
    counts = torch.zeros(len(cells), IGNORED + 1, dtype=torch.uint8)
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.uint8))
    most, name = counts[:, :IGNORED].max(1)
    return torch.where(most >= PATCH**2 // 2, name, IGNORED).view(-1, side**2)


def _stacked(found: list[Windows]) -> Windows:
    pictures, masks = zip(*found, strict=True)
    return np.stack(pictures), np.stack(masks)
