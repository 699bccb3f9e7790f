"""Batches with crops: functions of seed, epoch and image, cut from the picture as it was decoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.data.views import random_crops
from modalign.tune.crops import CropBatches, embed_crops
from modalign.tune.randomness import generator


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", device="cpu", dtype="float32", cache=False)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(12))


def test_crops_are_other_ones_every_epoch_and_the_same_again(encoder, digits: Items) -> None:
    data = CropBatches(digits, encoder, crops=3, every=2, augmentation=("centre", "flip"), seed=4)
    first, again, later = (data.batch(torch.tensor([2, 9]), epoch) for epoch in (0, 0, 2))
    alone = data.batch(torch.tensor([9]), 0)
    assert first.crops.shape == (2, 3, 3, 32, 32)
    assert torch.equal(first.crops, again.crops)
    assert torch.equal(first.crops[1:], alone.crops)
    assert not torch.equal(first.crops, later.crops)
    assert data.batch(torch.tensor([2]), 1).crops.shape[1] == 0
    pixels = torch.cat(list(first.chunks(4)))
    torch.testing.assert_close(pixels, encoder.preprocessing.normalise(first.crops.flatten(0, 1)))


def test_they_are_the_crops_of_the_whole_picture(encoder, digits: Items) -> None:
    data = CropBatches(digits, encoder, crops=5, side=(0.3, 0.7), augmentation="centre", seed=4)
    (picture,) = data.pictures([7])
    draws = generator("crops", 4, 3, 7)
    expected = random_crops(picture, 5, size=32, scale=(0.3, 0.7), generator=draws)
    assert torch.equal(data.batch(torch.tensor([7]), 3).crops[0], expected)


def test_other_crops_are_other_data(encoder, digits: Items) -> None:
    kinds = [{}, {"crops": 3}, {"side": (0.4, 0.9)}, {"every": 2}, {"seed": 1}]
    assert len({CropBatches(digits, encoder, **kind).fingerprint for kind in kinds}) == len(kinds)


def test_by_content_a_picture_has_its_crops_wherever_it_stands(encoder, digits: Items) -> None:
    settings = {"crops": 3, "seed": 4, "by_content": True}
    tokens = embed_crops(digits, encoder, **settings).tokens
    turned = embed_crops(digits.select(np.arange(12)[::-1]), encoder, **settings).tokens[::-1]
    np.testing.assert_array_equal(tokens, turned)
    np.testing.assert_array_equal(tokens[7:8], embed_crops([digits.open(7)], encoder, **settings).tokens)
    assert np.abs(tokens - embed_crops(digits, encoder, crops=3, seed=4).tokens).max() > 0.01
    assert np.abs(tokens - embed_crops(digits, encoder, **settings | {"seed": 5}).tokens).max() > 0.01
    twins = embed_crops(digits.select([2, 2, 3]), encoder, crops=3, seed=4).tokens
    assert not np.array_equal(twins[0], twins[1])  # by place
