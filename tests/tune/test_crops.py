"""Batches with crops: functions of seed, epoch and image, cut from the picture as it was decoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.randomness import generator
from modalign.data.digits import load_digits
from modalign.data.items import Items, load_items
from modalign.data.views import random_crops
from modalign.encoders.features import crop_features as module
from modalign.encoders.features.crop_features import embed_crops
from modalign.tune.crops import CropBatches


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", device="cpu", dtype="float32", cache=False)


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(12))


def test_crops_are_other_ones_every_epoch_and_the_same_again(encoder, digits: Items) -> None:
    data = CropBatches(digits, encoder, crops=3, every=2, augmentation=("center", "flip"), seed=4)
    first, again, later = (data.batch(torch.tensor([2, 9]), epoch) for epoch in (0, 0, 2))
    alone = data.batch(torch.tensor([9]), 0)
    assert first.crops.shape == (2, 3, 3, 32, 32)
    assert torch.equal(first.crops, again.crops)
    assert torch.equal(first.crops[1:], alone.crops)
    assert not torch.equal(first.crops, later.crops)
    assert data.batch(torch.tensor([2]), 1).crops.shape[1] == 0
    pixels = torch.cat(list(first.chunks(4)))
    torch.testing.assert_close(pixels, encoder.preprocessing.normalize(first.crops.flatten(0, 1)))


def test_they_are_the_crops_of_the_whole_picture(encoder, digits: Items) -> None:
    data = CropBatches(digits, encoder, crops=5, side=(0.3, 0.7), augmentation="center", seed=4)
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


@pytest.fixture
def keeping(tmp_path, monkeypatch):
    """An encoder with a store of its own that counts its forward passes, and stops before one if told to."""
    encoder = ma.load_encoder("tiny", device="cpu", dtype="float32", cache=tmp_path)
    encode, encoder.passes, encoder.last = encoder.encode, 0, None

    def counted(pixels, **options):
        if encoder.passes == encoder.last:
            raise KeyboardInterrupt
        encoder.passes += 1
        return encode(pixels, **options)

    monkeypatch.setattr(encoder, "encode", counted)
    return encoder


def same(first: ma.Features, second: ma.Features) -> None:
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert first.ids == second.ids


@pytest.mark.parametrize("by_content", [False, True])
def test_a_second_run_computes_nothing(encoder, keeping, digits: Items, by_content: bool) -> None:
    settings = {"crops": 3, "seed": 4, "by_content": by_content}
    plain = embed_crops(digits, encoder, **settings)
    same(embed_crops(digits, keeping, **settings), plain)
    assert keeping.passes == 12
    same(embed_crops(digits, keeping, **settings), plain)
    assert keeping.passes == 12
    turned = digits.select(np.arange(12)[::-1])
    same(embed_crops(turned, keeping, **settings), embed_crops(turned, encoder, **settings))
    assert keeping.passes == (12 if by_content else 24), "by place, squares of another place are other squares"


@pytest.mark.parametrize("other", [{"crops": 4}, {"seed": 5}, {"side": (0.5, 0.8)}, {"by_content": False}])
def test_settings_do_not_mix_in_the_store(encoder, keeping, digits: Items, other: dict) -> None:
    settings = {"crops": 3, "seed": 4, "by_content": True}
    embed_crops(digits, keeping, **settings)
    same(embed_crops(digits, keeping, **settings | other), embed_crops(digits, encoder, **settings | other))
    assert keeping.passes == 24


def test_one_picture_twice_is_computed_once_by_content_only(encoder, keeping, digits: Items) -> None:
    twins = digits.select([2, 2, 3])
    for by_content, passes in ((True, 2), (False, 5)):
        settings = {"crops": 3, "by_content": by_content}
        same(embed_crops(twins, keeping, **settings), embed_crops(twins, encoder, **settings))
        assert keeping.passes == passes


@pytest.mark.parametrize("killed", [True, False])
def test_what_was_encoded_before_the_end_is_not_encoded_again(encoder, keeping, digits, monkeypatch, killed) -> None:
    """Ctrl-C writes what there is; a killed process has what it wrote in time, here all of it."""
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0 if killed else 1e9)
    with monkeypatch.context() as patched:
        if killed:
            patched.setattr(module._Rows, "__exit__", lambda *_: None)
        keeping.last = 5
        with pytest.raises(KeyboardInterrupt):
            embed_crops(digits, keeping, crops=3)
    keeping.last = None
    same(embed_crops(digits, keeping, crops=3), embed_crops(digits, encoder, crops=3))
    assert keeping.passes == 12


def test_a_wrong_range_is_refused_before_anything_is_written(keeping, digits: Items, tmp_path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="range of scales"):
        embed_crops(digits, keeping, crops=3, side=(0.9, 0.5))
    assert sorted(tmp_path.rglob("*")) == before


def test_crops_inside_the_first_view_show_nothing_that_it_does_not(encoder) -> None:
    """Red is the column and green the row, so that colors identify the place of a crop."""
    columns, rows = np.meshgrid(np.arange(200, dtype=np.uint8), np.arange(150, dtype=np.uint8))
    pictures = [Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2))] * 6
    views = {"augmentation": ("random_resized_crop", "center"), "crops": 4, "scale": (0.1, 0.4), "seed": 2}
    data = CropBatches(load_items(pictures), encoder, inside="view", **views)
    everywhere = CropBatches(load_items(pictures), encoder, **views)
    batch, other = data.batch(torch.arange(6), 1), everywhere.batch(torch.arange(6), 1)
    assert torch.equal(batch.views[0], other.views[0])
    outside = 0
    for i in range(6):
        top, left, tall, wide = data._box(data.pictures([i])[0], data._draws(1, i, 0))[0].tolist()
        for found, counts in ((batch, False), (other, True)):
            red, green = found.crops[i, :, 0].int(), found.crops[i, :, 1].int()
            inside = (red >= left - 1) & (red <= left + wide) & (green >= top - 1) & (green <= top + tall)
            if counts:
                outside += int((~inside).sum())
            else:
                assert inside.all()
    assert outside
    assert data.fingerprint != everywhere.fingerprint
    with pytest.raises(InputError, match="random rectangle"):
        CropBatches(load_items(pictures), encoder, inside="view", augmentation=("center", "center"))
