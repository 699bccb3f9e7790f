"""Batches of images: the encoder's own pixels, draws that depend on nothing but their keys, and bad files."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

import modalign as ma
from modalign.core.errors import InputError, UnknownNameError
from modalign.core.randomness import generator
from modalign.data.augment import OPERATIONS, rand_augment
from modalign.data.digits import load_digits
from modalign.data.items import Items, load_items
from modalign.data.views import cut, random_rectangles
from modalign.tune.batches import Augmentation, Batch, ImageBatches, center_batches

KINDS = get_args(Augmentation)


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", device="cpu", dtype="float32", cache=False)


def photo(seed, width, height):
    draws = np.random.default_rng(seed)
    small = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def items():
    return load_items([photo(i, 40 + 9 * i, 70 - 3 * i) for i in range(8)], labels=[0, 1] * 4, classes=["a", "b"])


@pytest.mark.parametrize("augmentation", ["center", ("random_resized_crop", "center")])
def test_center_pixels_are_the_encoders_own(encoder, items, augmentation):
    own = encoder.preprocessing.inputs(
        [encoder.preprocessing.prepare(items.open(i)) for i in range(8)], encoder.device, encoder.dtype
    )["pixel_values"]
    batch = ImageBatches(items, encoder, augmentation=augmentation).batch(torch.arange(8), 3)
    assert torch.equal(batch.views[-1], own)
    assert torch.equal(torch.cat([b.pixels for b in center_batches(items, encoder, 3)]), own)
    assert batch.labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_views_depend_on_seed_epoch_and_image_alone(encoder, items, kind):
    def batches(**options):
        return ImageBatches(items, encoder, augmentation=kind, **options)

    whole = batches(seed=5).batch(torch.arange(8), 2).pixels
    assert whole.shape == (8, 3, 32, 32)
    some = torch.tensor([6, 1, 3])
    assert torch.equal(batches(seed=5).batch(some, 2).pixels, whole[some])  # other batch, other place
    assert torch.equal(batches(seed=5, memory=0).batch(some, 2).pixels, whole[some])  # decoded again
    others = [batches(seed=5).batch(torch.arange(8), 3).pixels, batches(seed=6).batch(torch.arange(8), 2).pixels]
    assert all(torch.equal(other, whole) == (kind == "center") for other in others)


def test_several_views_of_an_image_are_drawn_apart(encoder, items):
    batches = ImageBatches(items, encoder, augmentation=("random_resized_crop",) * 2)
    first, second = batches.batch(torch.arange(8), 0).views
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_flip_is_the_mirrored_center_half_of_the_time(encoder, items):
    center = ImageBatches(items, encoder, augmentation="center").batch(torch.arange(8), 0).pixels
    flipping = ImageBatches(items, encoder, augmentation="flip")
    flips = []
    for epoch in range(25):
        for view, plain in zip(flipping.batch(torch.arange(8), epoch).pixels, center, strict=True):
            flips.append(torch.equal(view, plain.flip(-1)))
            assert flips[-1] or torch.equal(view, plain)
    assert abs(np.mean(flips) - 0.5) < 3 * 0.5 / np.sqrt(200)


def test_rectangles_are_cut_from_the_whole_picture_and_never_mirrored(encoder, items):
    """By hand: the same draw, the same box, torch's resizing; also for the default, which must keep digits legible."""
    batches = ImageBatches(items, encoder, seed=4)
    assert batches.augmentations == ("random_resized_crop",)
    pixels = batches.batch(torch.arange(8), 1).pixels
    for i in range(8):
        picture = torch.from_numpy(np.array(items.open(i))).permute(2, 0, 1)
        draws = generator("view", 4, 1, i, 0)
        box = random_rectangles(*picture.shape[1:], 1, scale=(0.08, 1.0), generator=draws)
        assert torch.equal(pixels[i], encoder.preprocessing.normalize(cut(picture, box, 32))[0])
        assert torch.equal(batches.pictures([i])[0], picture)


def test_rand_augment_of_a_batch_is_that_of_each_picture_alone():
    draws = torch.Generator().manual_seed(0)
    batch = torch.randint(256, (40, 3, 9, 11), generator=draws, dtype=torch.uint8)
    together = rand_augment(batch, [torch.Generator().manual_seed(i) for i in range(40)])
    for i in range(40):
        alone = rand_augment(batch[i : i + 1], [torch.Generator().manual_seed(i)])
        assert torch.equal(together[i], alone[0])
    assert len(OPERATIONS) == 14
    assert not torch.equal(together, batch)


def test_digits_are_enlarged_as_the_encoder_does(encoder):
    digits = load_digits().select(range(5))
    batch = next(ImageBatches(digits, encoder, augmentation="center").in_order(5))
    assert isinstance(batch, Batch)
    assert batch.indices.tolist() == [0, 1, 2, 3, 4]
    assert batch.pixels.std() > 0.3


class Counting(Items):
    """Records which image was read."""

    def read(self, i):
        reads.append(self.ids[i])
        return super().read(i)


reads: list[str] = []


@pytest.mark.parametrize(("kind", "each"), [("center", 3 * 32 * 32), ("random_resized_crop", 3 * 50 * 60)])
@pytest.mark.parametrize("kept", [0, 3, 8])
def test_every_file_is_decoded_once_as_far_as_memory_goes(encoder, kind, each, kept):
    plain = load_items([photo(i, 60, 50) for i in range(8)])
    counted = Counting(plain.ids, plain.blobs, plain.labels)
    reads.clear()
    batches = ImageBatches(counted, encoder, augmentation=kind, memory=kept * each)
    assert sorted(reads) == sorted(plain.ids)
    reads.clear()
    for epoch in range(2):
        list(batches.in_order(4, epoch))
    assert sorted(reads) == sorted(2 * plain.ids[kept:])


def test_bad_files_are_quarantined(encoder, tmp_path):
    for i in range(4):
        photo(i, 30, 30).save(tmp_path / f"{i}.png")
    whole = io.BytesIO()
    photo(9, 64, 64).save(whole, "JPEG")
    (tmp_path / "1a.jpg").write_bytes(whole.getvalue()[:200])
    (tmp_path / "2a.png").write_bytes(b"not an image")
    items = load_items(tmp_path)
    batches = ImageBatches(items, encoder, augmentation="center")
    assert len(batches) == 4
    assert {q.id for q in batches.quarantined} >= {"1a.jpg", "2a.png"}
    assert all(q.reason for q in batches.quarantined)
    assert [items.ids[i] for i in batches.kept] == list(batches.items.ids) == ["0.png", "1.png", "2.png", "3.png"]
    reasons = {}
    streamed = list(center_batches(items, encoder, 3, reasons=reasons))
    assert [len(b.indices) for b in streamed] == [3, 1]
    assert [items.ids[i] for b in streamed for i in b.indices] == list(batches.items.ids)
    assert "1a.jpg" in {items.ids[i] for i in reasons}


def test_nothing_decodable_is_an_error(encoder):
    bad = load_items([b"no image at all", b"nor this one"])
    with pytest.raises(InputError, match="an image that can be decoded, got none"):
        ImageBatches(bad, encoder)


def test_the_fingerprint_covers_bytes_labels_and_options(encoder, items):
    def fingerprint(items=items, **options):
        return ImageBatches(items, encoder, **options).fingerprint

    other = load_items([photo(i, 40 + 9 * i, 70 - 3 * i) for i in range(7)] + [photo(99, 50, 50)], labels=[0, 1] * 4)
    prints = [
        fingerprint(),
        fingerprint(seed=1),
        fingerprint(scale=(0.5, 1.0)),
        fingerprint(augmentation="center"),
        fingerprint(items.unlabeled()),
        fingerprint(items.select(range(7, -1, -1))),
        fingerprint(other),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint() == prints[0]


def test_options_are_checked(encoder, items):
    with pytest.raises(UnknownNameError, match="did you mean 'flip'"):
        ImageBatches(items, encoder, augmentation="flipp")
    with pytest.raises(InputError, match="at least one augmentation"):
        ImageBatches(items, encoder, augmentation=())
    with pytest.raises(InputError, match="range of scales"):
        ImageBatches(items, encoder, scale=(0.0, 1.0))
