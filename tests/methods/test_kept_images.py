"""Features of a frozen image tower are computed once, and change nothing that is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.methods import method_class
from modalign.methods.contract import kept_images
from modalign.methods.contract.kept_images import KeptImages
from modalign.tune.batches import ImageBatches
from modalign.tune.steps import Stepper

FROZEN = {"coop": 0, "kgcoop": 0, "cocoop": 10, "plot": 10, "upl": 20}  # method → images seen outside of the training
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "augmentation": "center", "random_state": 1}


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", cache=False, dtype="float32")


@pytest.fixture(scope="module")
def digits() -> Items:
    items = load_digits()
    return items.select(np.concatenate([np.flatnonzero(items.labels == c)[:1] for c in range(10)]))


@pytest.fixture(scope="module")
def text(encoder, digits):
    return encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every pass of the vision tower."""
    counts: list[int] = []
    plain = VisionTower.__call__

    def counting(self: VisionTower, pixels: torch.Tensor, *rest: Any, **options: Any) -> Any:
        counts.append(len(pixels))
        return plain(self, pixels, *rest, **options)

    monkeypatch.setattr(VisionTower, "__call__", counting)
    return counts


def fitted(name: str, digits, text, encoder, **options: Any):
    settings = QUICK | {key: options.pop(key) for key in list(options) if key in QUICK}
    return method_class(name)(**settings).fit(digits, text=text, encoder=encoder, **options)


@pytest.mark.parametrize("name", FROZEN)
def test_the_tower_encodes_every_image_once_with_the_same_result(
    name: str, encoder, digits, text, seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fitted(name, digits, text, encoder)
    assert sum(seen) == 10 + FROZEN[name] + 1  # the scores of one image are checked after the training
    once = sum(seen)

    step = Stepper.step
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", lambda self, number, *rest: 1 / 0 if number == 4 else step(self, number, *rest))
        with pytest.raises(ZeroDivisionError):
            fitted(name, digits, text, encoder, checkpoint=tmp_path / "state")
    resumed = fitted(name, digits, text, encoder, checkpoint=tmp_path / "state")

    monkeypatch.setattr(KeptImages, "rows", lambda *_: None)
    seen.clear()
    plain = fitted(name, digits, text, encoder)
    assert sum(seen) == once + 10
    for key, value in kept.tensors_.items():
        torch.testing.assert_close(value, plain.tensors_[key], rtol=0, atol=1e-6)
        assert torch.equal(value, resumed.tensors_[key])


@pytest.mark.parametrize(("name", "augmentation"), [("coop", "flip"), ("maple", "center")])
def test_other_views_and_learned_prompts_are_encoded_in_every_epoch(name, augmentation, encoder, digits, text, seen):
    fitted(name, digits, text, encoder, augmentation=augmentation)
    assert sum(seen) >= 20


def test_beyond_the_memory_nothing_is_kept(encoder, digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "AT_ONCE", 4)
    tower, data = VisionTower(encoder), ImageBatches(digits, encoder, augmentation="center")
    needed = 10 * 4 * (tower.dim + tower.width)
    rows = torch.tensor([3, 9, 0])
    with torch.no_grad():
        expected = tower(data.batch(rows, 0).pixels).pooled
    kept = KeptImages(tower, data, memory=needed).rows(rows)
    assert kept is not None
    torch.testing.assert_close(kept.pooled, expected, rtol=0, atol=1e-5)
    assert KeptImages(tower, data, memory=needed - 1).rows(rows) is None
