"""Variants of the digits and drawn data sets: what is shifted, which digit is shown, which names are drawn."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from PIL import ImageFont
from scipy.ndimage import rotate

from modalign.core.errors import UnknownNameError
from modalign.data.digit_shifts import DIGIT_SHIFTS, digit_lists, load_shifted_digits, shown_digits
from modalign.data.digits import load_digits
from modalign.data.drawn_sets import DRAWN_SETS, load_drawn_set
from modalign.data.itemset import Items
from modalign.data.mosaics import PALETTE


def pixels(items: Items) -> np.ndarray:
    return np.stack([np.asarray(items.open(i))[..., 0] for i in range(len(items))]).astype(float)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits()


@pytest.mark.parametrize("name", DIGIT_SHIFTS)
def test_a_variant_shows_test_images_of_its_classes(name: str, digits: Items) -> None:
    variant, shown = load_shifted_digits(name), shown_digits(name)
    names = np.array(variant.class_names)[variant.labels]
    assert names.tolist() == [digits.class_names[k] for k in digits.labels[shown]]
    lists = digit_lists(digits)
    wanted = [row for row in lists.test if digits.class_names[digits.labels[row]] in variant.class_names]
    assert shown.tolist() == wanted, "each test image of these classes once, none of the other lists"
    assert not set(variant.ids) & set(digits.ids)


def test_the_shifts_are_those_that_the_names_say(digits: Items) -> None:
    one = {name: pixels(load_shifted_digits(name)) for name in DIGIT_SHIFTS}
    plain = {name: pixels(digits.select(shown_digits(name))) for name in DIGIT_SHIFTS}
    np.testing.assert_array_equal(one["digits_inverted"], 255 - plain["digits_inverted"])
    spread = {name: np.abs(np.diff(images, axis=2)).mean() for name, images in one.items()}
    before = {name: np.abs(np.diff(images, axis=2)).mean() for name, images in plain.items()}
    assert spread["digits_blurred"] < 0.7 * before["digits_blurred"]
    middle = (plain["digits_noise"] > 100) & (plain["digits_noise"] < 155)  # where the cut at 0 and 255 is rare
    noise = (one["digits_noise"] - plain["digits_noise"])[middle]
    assert abs(noise.mean()) < 3
    assert noise.std() == pytest.approx(60, abs=5)
    left, right = (
        np.clip(rotate(plain["digits_rotated"], angle, axes=(2, 1), reshape=False, order=3), 0, 255)
        for angle in (20, -20)
    )
    distances = [np.abs(one["digits_rotated"] - images).mean() for images in (left, right)]
    assert distances[0] < 0.2 * distances[1]
    for name in ("digits_noise", "digits_rotated"):
        np.testing.assert_array_equal(pixels(load_shifted_digits(name)), one[name])


@pytest.mark.parametrize("name", DRAWN_SETS)
def test_a_drawn_set_is_balanced_and_the_same_twice(name: str) -> None:
    first, second = load_drawn_set(name), load_drawn_set(name)
    assert set(np.bincount(first.labels)) == {DRAWN_SETS[name].each}
    assert len(set(first.ids)) == len(first)
    rows = range(0, len(first), 17)
    assert [first.read(i) for i in rows] == [second.read(i) for i in rows]
    assert len({first.read(i) for i in range(len(first))}) == len(first), "no image twice"


def test_the_letters_are_in_no_font_that_tiny_was_trained_on() -> None:
    card = json.loads(files("modalign.encoders").joinpath("weights/tiny/card.json").read_text())
    family, _ = ImageFont.load_default(20.0).getname()
    assert family
    assert not [name for name in card["fonts"] if family.lower() in name.lower()]


def test_the_color_of_a_shape_is_its_class() -> None:
    items = load_drawn_set("colors")
    names = ("black", "white", "gray", "red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "cyan")
    for i in range(0, len(items), 5):
        image = np.asarray(items.open(i)).reshape(-1, 3).astype(float)
        nearest = np.abs(image[:, None] - PALETTE).sum(axis=2).argmin(axis=1)
        counts = np.bincount(nearest[image.sum(axis=1) > image.sum(axis=1).max() - 10], minlength=len(names))
        assert names[counts.argmax()] == items.class_names[items.labels[i]]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="digits_rotated"):
        load_shifted_digits("digits_rotate")
    with pytest.raises(UnknownNameError, match="letters"):
        load_drawn_set("letter")
