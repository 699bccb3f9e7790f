"""Every operation of RandAugment equals Pillow's own on whole batches; draws are uniform."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_views import dice, photo

from bench.pillow import pillow
from modalign.data import augment
from modalign.data.views import to_pixels

STRENGTHS = torch.tensor([0.3, -0.3, 1.0, -1.0, 0.0, 0.55])
BATCH = torch.stack([to_pixels(photo(53, 40, seed)) for seed in range(6)])
FLAT = torch.stack([torch.full((3, 40, 53), v, dtype=torch.uint8) for v in (0, 7, 128, 255, 254, 1)])


@pytest.mark.parametrize("batch", [BATCH, FLAT], ids=["photos", "single colours"])
@pytest.mark.parametrize("name", augment.OPERATIONS)
def test_equals_pillow(name, batch):
    result = augment.OPERATIONS[name](batch, STRENGTHS)
    assert result.dtype == torch.uint8
    for got, pixels, s in zip(result, batch, STRENGTHS.tolist(), strict=True):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy().copy())
        off = np.abs(got.permute(1, 2, 0).numpy().astype(int) - np.asarray(pillow(name, s)(image))).max(axis=2)
        if name in ("rotate", "shear x", "shear y"):
            # Pillow steps through the picture in 1/65536 pixels, so a few land on the neighbour.
            assert (off > 0).mean() < 0.01, s
        else:
            assert off.max() <= 1, s
            assert (off > 0).mean() < 0.002, s


def test_strength_zero_changes_nothing_but_the_histogram_operations():
    for name, operation in augment.OPERATIONS.items():
        if name not in ("autocontrast", "equalize"):
            assert torch.equal(operation(BATCH, torch.zeros(6)), BATCH), name


def test_each_picture_is_treated_on_its_own():
    for name, operation in augment.OPERATIONS.items():
        together = operation(BATCH, STRENGTHS)
        alone = torch.cat([operation(BATCH[i : i + 1], STRENGTHS[i : i + 1]) for i in range(6)])
        assert torch.equal(together, alone), name


def test_every_operation_is_drawn_about_equally_often(monkeypatch):
    counts = dict.fromkeys(augment.OPERATIONS, 0)
    signs = []

    def counting(name):
        def operation(x, strength):
            counts[name] += len(x)
            signs.append(strength)
            return x

        return operation

    monkeypatch.setattr(augment, "OPERATIONS", {name: counting(name) for name in counts})
    batch = torch.zeros(1400, 3, 1, 1, dtype=torch.uint8)
    augment.rand_augment(batch, [dice()] * 1400, operations=10, magnitude=0.7)
    assert sum(counts.values()) == 14_000
    assert all(850 < count < 1150 for count in counts.values()), "within five deviations of 1,000"
    drawn = torch.cat(signs)
    assert torch.allclose(drawn.abs(), torch.tensor(0.7))
    assert abs(float((drawn > 0).float().mean()) - 0.5) < 0.03


def test_the_input_stays_as_it_is_and_no_operations_mean_no_change():
    before = BATCH.clone()
    augment.rand_augment(BATCH, [dice()] * 6, operations=3, magnitude=1.0)
    assert torch.equal(BATCH, before)
    assert torch.equal(augment.rand_augment(BATCH, [dice()] * 6, operations=0), BATCH)
