"""Prompts, batches and loop together on the towers of the embedded pair: what a method class puts together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.encoders.towers.vision_tower import TextTower, VisionTower
from modalign.linalg.similarity import unit
from modalign.tune.batches import ImageBatches
from modalign.tune.loop import train
from modalign.tune.prompts import ConditionalPrompts, IndependentPrompts, JointPrompts, ProjectedPrompts, Prompts
from modalign.tune.recipe import Recipe
from modalign.tune.threads import threads_for


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", device="cpu", dtype="float32", cache=False)


@pytest.fixture(scope="module")
def digits():
    items = load_digits()
    return items.select(np.concatenate([np.flatnonzero(items.labels == c)[:2] for c in range(10)]))


def make(kind):
    draws = torch.Generator().manual_seed(0)
    text = Prompts(2, 128, depth=2, generator=draws)
    return {
        "coop": lambda: IndependentPrompts(Prompts(2, 128, generator=draws)),
        "per class": lambda: IndependentPrompts(Prompts(2, 128, classes=10, generator=draws)),
        "vpt": lambda: IndependentPrompts(vision=Prompts(2, 128, depth=4, generator=draws)),
        "cocoop": lambda: ConditionalPrompts(2, 128, 128, generator=draws),
        "maple": lambda: ProjectedPrompts(text, 128, generator=draws),
        "align": lambda: ProjectedPrompts(Prompts(2, 128, depth=2, sets=2, generator=draws), 128, generator=draws),
        "upt": lambda: JointPrompts((2, 2), 128, 128, width=16, generator=draws),
    }[kind]()


def fit(kind, encoder, items, **options):
    prompts, text, vision = make(kind), TextTower(encoder), VisionTower(encoder)
    slots = 0 if kind == "vpt" else 2
    sentences = text.tokenize([f"a photo of the digit {name}." for name in items.class_names], slots)

    def loss(batch):
        if kind == "cocoop":
            images = unit(vision(batch.pixels).pooled[0])
            classes = unit(text(sentences, prompts.prompts(images).text).pooled)  # (B, K, d): an image, a set
            scores = torch.einsum("bd,bkd->bk", images, classes)
        else:
            sides = prompts.prompts()
            images = unit(vision(batch.pixels, sides.vision).pooled)
            scores = (images @ unit(text(sentences, sides.text).pooled).mT).mean(0)
        return torch.nn.functional.cross_entropy(encoder.logit_scale * scores, batch.labels)

    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.002}
    recipe = Recipe(**settings | options.pop("recipe", {}))
    kind_of_view = options.pop("augmentation", "random_resized_crop")
    data = ImageBatches(items, encoder, augmentation=kind_of_view, scale=(0.7, 1.0), seed=recipe.seed)
    return prompts, train(prompts, loss, data, recipe, threads=threads_for(encoder), **options)


@pytest.mark.parametrize("kind", ["coop", "per class", "vpt", "cocoop", "maple", "align", "upt"])
def test_every_kind_of_prompts_learns(encoder, digits, kind):
    """Three steps downhill on one batch of fixed pixels."""
    recipe = {"batch_size": 20, "warmup": 0, "learning_rate": 5e-4}
    prompts, history = fit(kind, encoder, digits, augmentation="center", recipe=recipe)
    assert all(p.grad is not None and torch.isfinite(p).all() for p in prompts.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(prompts.parameters(), make(kind).parameters(), strict=True))
    assert history.losses[2] < history.losses[1] < history.losses[0]


def test_a_run_stopped_within_an_epoch_ends_as_the_undisturbed_one(encoder, digits, tmp_path):
    whole, history = fit("maple", encoder, digits)
    calls = []

    class Stopped(Exception):
        pass

    def stop(epoch):
        calls.append(epoch)
        if len(calls) == 2:
            raise Stopped  # before the checkpoint of this epoch: the newest one is that of a step within it

    with pytest.raises(Stopped):
        fit("maple", encoder, digits, checkpoint=tmp_path, every=2, on_epoch=stop)
    again, resumed = fit("maple", encoder, digits, checkpoint=tmp_path, every=2)
    assert resumed.resumed_from == 4
    assert resumed.losses == history.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_is_of_its_images(encoder, digits, tmp_path):
    fit("coop", encoder, digits, checkpoint=tmp_path, recipe={"epochs": 1})
    with pytest.raises(InputError, match="of another run: data is"):
        fit("coop", encoder, digits.select(slice(None, None, -1)), checkpoint=tmp_path, recipe={"epochs": 1})
