"""The scenes of the benchmark and its required numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.segmentation import bars
from modalign.data.mosaics import DIGITS, TEXTURES, digit_scenes, texture_scenes


def test_a_seed_decides_the_scenes() -> None:
    first, again, other = texture_scenes(3, 2), texture_scenes(3, 2), texture_scenes(4, 2)
    np.testing.assert_array_equal(first.pictures, again.pictures)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert not np.array_equal(first.pictures, other.pictures)
    assert first.names == TEXTURES
    assert first.pictures.shape == (2, 96, 96, 3)
    assert all(1 < len(np.unique(mask)) <= 4 and mask.max() < len(TEXTURES) for mask in first.masks)


def test_digits_are_squares_and_the_rest_does_not_count() -> None:
    scenes = digit_scenes(0, 3)
    assert scenes.names == DIGITS
    for picture, mask in zip(scenes.pictures, scenes.masks, strict=True):
        inside = mask != 255
        assert 4 * 28**2 <= inside.sum() <= 4 * 40**2
        assert mask[inside].max() < 10
        gray = picture[inside].astype(int)
        assert (gray == gray[:, :1]).all()


PLAIN = {"clip": 5.0, "maskclip": 20.0, "sclip": 20.0, "scclip": 18.0}


def rows_of(scenes: str, mapped: dict[str, float], encoder: str = "tiny") -> list[dict[str, Any]]:
    named = {"scenes": scenes, "encoder": encoder}
    rows = [{**named, "features": name, "plain": [value], "mapped": [mapped[name]]} for name, value in PLAIN.items()]
    return [*rows, {**named, "features": "window", "plain": [30.0], "mapped": []}]


@pytest.mark.parametrize(("mapped", "found"), [(30.0, 10.0), (20.0, 0.0)])
def test_bars_are_differences_of_means(mapped: float, found: float) -> None:
    rows = rows_of("textures", dict.fromkeys(PLAIN, mapped) | {"clip": 5.0 + found})
    asked = {row["bar"]: row["found"] for row in bars(rows)}
    assert asked["maskclip above clip"] == 15
    assert asked["scclip above clip"] == 13
    assert asked["the map on clip, maskclip and sclip, mean gain"] == pytest.approx(found, abs=0.01)
    assert asked["the map on scclip, gain"] == mapped - 18


def test_bars_of_digits_count_all_features_and_each_encoder_alone() -> None:
    gains = {"clip": 12.0, "maskclip": -2.0, "sclip": 4.0, "scclip": 6.0}
    better = rows_of("digits", {name: PLAIN[name] + gain for name, gain in gains.items()}, "tiny-scenes")
    asked = bars([*rows_of("digits", PLAIN), *better])
    assert [(row["encoder"], row["found"]) for row in asked] == [
        *(("tiny", value) for value in (30, 0, 0)),
        *(("tiny-scenes", value) for value in (30, 5, -2)),
    ]
    assert {row["scenes"] for row in asked} == {"digits"}
