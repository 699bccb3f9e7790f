"""The scenes that the encoder for segmentation is trained on (the training itself is not repeated here)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import tiny_scenes
from tiny_images import NAMES, render

from modalign.data.mosaics import TEXTURES

IGNORED, WINDOW = tiny_scenes.IGNORED, tiny_scenes.WINDOW


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray]:
    drawn = [render(7, index) for index in range(120)]
    return np.stack([image for image, _ in drawn]), np.array([facts for _, facts in drawn])


def test_a_seed_decides_the_windows(pool: tuple[np.ndarray, np.ndarray]) -> None:
    for drawn in (lambda rng: tiny_scenes.glyph_windows(*pool, 6, rng), lambda rng: tiny_scenes.mosaic_windows(6, rng)):
        (pictures, masks), (again, same), (others, _) = (drawn(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert pictures.shape == (6, WINDOW, WINDOW, 3)
        np.testing.assert_array_equal(pictures, again)
        np.testing.assert_array_equal(masks, same)
        assert not np.array_equal(pictures, others)


def test_a_mask_marks_the_squares_of_the_drawings() -> None:
    """Four images of one color each, on a ground of another."""
    images = np.stack([np.full((32, 32, 3), shade, np.uint8) for shade in (10, 90, 170, 250)])
    for seed in range(5):
        picture, mask, centers = tiny_scenes.glyph_scene(images, np.arange(4), np.random.default_rng(seed))
        assert 57 <= len(mask) <= 96
        assert picture.shape == (*mask.shape, 3)
        assert [mask[row, column] for row, column in centers] == [0, 1, 2, 3]
        for name, shade in enumerate((10, 90, 170, 250)):
            assert (picture[mask == name] == shade).all()
            assert 16**2 <= (mask == name).sum() <= 41**2


def test_windows_show_drawings_of_the_pool(pool: tuple[np.ndarray, np.ndarray]) -> None:
    _, masks = tiny_scenes.glyph_windows(*pool, 40, np.random.default_rng(0))
    assert set(np.unique(masks)) <= {*pool[1][:, 1].tolist(), IGNORED}
    assert all((mask != IGNORED).any() for mask in masks)
    _, masks = tiny_scenes.mosaic_windows(12, np.random.default_rng(0))
    assert {NAMES[name] for name in np.unique(masks)} <= set(TEXTURES)


def test_labels_of_patches_against_counting() -> None:
    masks = np.random.default_rng(0).choice([3, 7, IGNORED], (4, WINDOW, WINDOW), p=[0.5, 0.2, 0.3]).astype(np.uint8)
    masks[0, :8, :4], masks[0, :8, 4:8] = 5, IGNORED  # half of a patch counts
    masks[1, :8, :8], masks[1, 0, :4] = IGNORED, 5
    found = tiny_scenes.patch_labels(masks)
    for window in range(4):
        for patch in range(16):
            row, column = divmod(patch, 4)
            cell = masks[window, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            counts = {name: int((cell == name).sum()) for name in (3, 5, 7)}
            name = max(counts, key=counts.__getitem__)
            assert found[window, patch] == (name if counts[name] >= 32 else IGNORED)
