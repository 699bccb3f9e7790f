"""A JPEG that is made smaller is decoded at a fraction of its size, with the same content."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded
from PIL import Image

from modalign.data.decoding.decode import decode
from modalign.encoders.preprocess import Preprocessing

PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "caltech101-folder"


def photo(width: int, height: int, **how) -> bytes:
    """A JPEG with structure on all scales that a camera has: broad shapes, edges and grain."""
    rng = np.random.default_rng(width + height)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(coarse).astype(int) + rng.integers(-8, 9, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 40)
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=90, **how)


def short(side: int):
    return lambda w, h: (side, int(side * h / w)) if w <= h else (int(side * w / h), side)


@pytest.mark.parametrize(
    ("size", "side", "reduced"),
    [
        ((1600, 1200), 100, (400, 300)),  # an eighth would leave 150 of 200
        ((1600, 1200), 75, (200, 150)),  # exactly twice the target
        ((1600, 1200), 76, (400, 300)),
        ((1601, 1201), 100, (401, 301)),
        ((1199, 1599), 100, (300, 400)),
        ((400, 300), 100, (400, 300)),  # a half would leave 150 of 200
    ],
)
def test_a_jpeg_is_reduced_to_no_less_than_twice_its_target(size, side, reduced) -> None:
    data = photo(*size)
    assert decode(data, target=short(side)).size == reduced
    assert decode(data).size == size


def test_a_turned_jpeg_is_reduced_by_its_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photo(1600, 800, exif=exif)
    image = decode(data, target=lambda w, h: (100, 250) if w < h else (w, h))  # a quarter: 200 × 400
    assert image.size == (400, 800)


def test_nothing_is_reduced_whose_target_would_change() -> None:
    """Half of 602 × 401 is 301 × 201 pixels, whose aspect ratio gives another long side."""
    seen = []

    def target(width: int, height: int) -> tuple[int, int]:
        seen.append((width, height))
        return short(100)(width, height)

    assert target(602, 401) != target(301, 201)
    assert decode(photo(602, 401), target=target).size == (602, 401)
    assert (301, 201) in seen


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_reduced_jpeg_resized_is_the_whole_one_resized(how) -> None:
    data = photo(1600, 1200, **how)
    preprocessing = Preprocessing("short", (150, 150), (150, 150), 3, (0.5,) * 3, (0.5,) * 3)
    reduced = decode(data, target=preprocessing.target)
    assert reduced.size == (400, 300)
    off = np.abs(preprocessing.prepare(reduced).astype(int) - preprocessing.prepare(decode(data)))
    assert off.mean() < 0.5
    assert off.max() <= 10  # at edges of full contrast


@pytest.mark.parametrize("format", ["PNG", "WebP", "BMP", "TIFF"])
def test_other_formats_and_small_jpegs_keep_every_pixel(format: str) -> None:
    data = encoded(Image.open(BytesIO(photo(640, 480))), format)
    assert np.array_equal(decode(data, target=short(32)), decode(data))
    small = photo(240, 180)
    assert np.array_equal(decode(small, target=short(100)), decode(small))


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data has no photos")
def test_views_of_real_photos_differ_by_a_fraction_of_a_level() -> None:
    """Enlarged to the size of a camera's, since the photos at hand are small."""
    preprocessing = Preprocessing("short", (112, 112), (112, 112), 3, (0.5,) * 3, (0.5,) * 3)
    for path in sorted(PHOTOS.rglob("*.jpg"))[::160]:
        small = decode(path.read_bytes())
        data = encoded(small.resize((4 * small.width, 4 * small.height), Image.Resampling.BICUBIC), "JPEG", quality=90)
        whole, reduced = decode(data), decode(data, target=preprocessing.target)
        assert reduced.width <= whole.width // 2
        off = np.abs(preprocessing.prepare(reduced).astype(int) - preprocessing.prepare(whole))
        assert off.mean() < 0.5
        assert off.max() <= 6
