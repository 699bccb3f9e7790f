"""Resizing, the places of windows, and putting them together again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from modalign.core.errors import InputError, UndecodableError
from modalign.segmentation.windows import Sliding, average_windows, cut_windows, starts, upsampled_strips

CLIP_B16 = Sliding(window=224, stride=112, short_side=336, patch=16)


@pytest.mark.parametrize(
    ("size", "short_side", "resized", "windows"),
    [
        ((375, 500), 336, (336, 448), 6),
        ((480, 640), 336, (336, 448), 6),
        ((480, 640), 448, (448, 597), 15),
        ((1024, 2048), 560, (560, 1120), 36),
    ],
)
def test_published_sizes(size: tuple[int, int], short_side: int, resized: tuple[int, int], windows: int) -> None:
    sliding = Sliding(window=224, stride=112, short_side=short_side, patch=16)
    assert sliding.resized(*size) == resized
    assert len(sliding.places(*resized)) == windows


@pytest.mark.parametrize(
    ("side", "expected"), [(224, [0]), (100, [0]), (225, [0, 1]), (336, [0, 112]), (337, [0, 112, 113])]
)
def test_one_pixel_over_gives_one_more_window(side: int, expected: list[int]) -> None:
    assert starts(side, 224, 112) == expected


def test_stride_of_a_window_tiles() -> None:
    assert starts(96, 32, 32) == [0, 32, 64]


def test_a_line_and_a_point_have_a_size() -> None:
    assert CLIP_B16.resized(50, 20_000) == (16, 6400)  # the shorter side is one patch
    assert CLIP_B16.resized(1, 1) == (336, 336)
    with pytest.raises(UndecodableError, match="too narrow: 100000 × 1 pixels"):
        CLIP_B16.resized(1, 100_000)


@pytest.mark.parametrize("resize", ["antialias", "opencv"])
def test_a_picture_is_resized_by_the_chosen_filter(resize: str) -> None:
    sliding = Sliding(window=32, stride=16, short_side=48, patch=8, resize=resize)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 150, 3), dtype=np.uint8))
    found = sliding.prepare(picture)
    assert found.shape == (3, 48, 120)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    plain = F.interpolate(pixels, (48, 120), mode="bilinear", antialias=resize == "antialias")[0]
    assert (found.float() - plain).abs().max() < 1.01  # 8-bit arithmetic


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"window": 8}, "window=… as a number of pixels of at least a patch, 16"),
        ({"stride": 0}, "stride"),
        ({"stride": 300}, "at most the window"),
        ({"short_side": 10}, "short_side"),
        ({"resize": "nearest"}, "resize"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Sliding(**({"window": 224, "stride": 112, "short_side": 336, "patch": 16} | wrong))


def test_windows_are_averaged_where_they_overlap() -> None:
    sliding = Sliding(window=32, stride=12, short_side=40, patch=8)
    size = (50, 70)
    places, shape = sliding.places(*size), sliding.shape(*size)
    maps = torch.randn(len(places), 3, 4, 4, generator=torch.Generator().manual_seed(0))
    total, count = torch.zeros(3, *size), torch.zeros(size)
    for (y, x), one in zip(places, F.interpolate(maps, shape, mode="bilinear"), strict=True):
        total[:, y : y + 32, x : x + 32] += one
        count[y : y + 32, x : x + 32] += 1
    assert count.min() >= 1
    torch.testing.assert_close(average_windows(maps, places, shape, size), total / count)
    constant = torch.full((len(places), 2, 4, 4), 0.7)
    torch.testing.assert_close(average_windows(constant, places, shape, size), torch.full((2, *size), 0.7))


def test_a_small_picture_is_one_window_without_padding() -> None:
    sliding = Sliding(window=32, stride=16, short_side=40, patch=8)
    assert sliding.shape(20, 90) == (20, 32)
    pixels = torch.arange(3 * 20 * 90).reshape(3, 20, 90)
    assert torch.equal(cut_windows(pixels, [(0, 58)], (20, 32))[0], pixels[:, :, 58:])


@pytest.mark.parametrize("size", [(37, 91), (5, 7), (11, 13), (200, 11)])
@pytest.mark.parametrize("most", [1, 1000, 10**9])
def test_strips_are_the_whole_interpolation(size: tuple[int, int], most: int) -> None:
    canvas = torch.randn(4, 11, 13, generator=torch.Generator().manual_seed(0))
    found = [strip for _, strip in upsampled_strips(canvas, size, most)]
    assert all(strip.numel() <= max(most, 4 * size[1]) for strip in found)
    whole = F.interpolate(canvas[None], size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-4, atol=1e-5)
