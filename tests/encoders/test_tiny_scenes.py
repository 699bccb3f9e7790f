"""The embedded encoder for segmentation: the text tower of ``tiny``, and patches that know objects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.mosaics import SENTENCES, SIDE, digit_scenes
from modalign.data.text.descriptions import sentences
from modalign.encoders.base import Encoder
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.registry import EMBEDDED, IMAGE_TOWERS
from modalign.evaluate.masks.confusion_counts import segmentation_scores

TOWER = IMAGE_TOWERS["tiny-scenes"]


def opened(name: str) -> Encoder:
    encoder = ma.load_encoder(name, cache=False, dtype="float32", device="cpu")
    assert isinstance(encoder, Encoder)
    return encoder


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return opened("tiny")


@pytest.fixture(scope="module")
def scenes() -> Encoder:
    return opened("tiny-scenes")


def names_in(path: Path) -> set[str]:
    with safe_open(path, "pt") as file:
        return set(file.keys())


def test_only_an_image_tower_is_stored() -> None:
    whole = names_in(EMBEDDED["tiny"] / "model.safetensors")
    assert names_in(TOWER) == {name for name in whole if name.startswith("vision_model.")}
    assert TOWER.stat().st_size <= 1_400_000
    assert {path.name for path in TOWER.parent.iterdir()} == {"model.safetensors", "card.json"}


def test_card_has_every_field() -> None:
    card = json.loads((TOWER.parent / "card.json").read_text())
    for field in ("data", "training", "seed", "steps", "command", "license", "seconds", "accuracy", "digits"):
        assert card[field] not in (None, "", {}), field
    assert card["name"] == "tiny-scenes"
    assert "never trained on" in card["digits"]


def test_text_is_that_of_tiny_and_images_are_not(tiny: Encoder, scenes: Encoder) -> None:
    text = [["a photo of the digit seven."], ["vertical stripes"]]
    torch.testing.assert_close(scenes.embed_texts(text).vectors, tiny.embed_texts(text).vectors, rtol=0, atol=0)
    digits = load_digits().select(range(20))
    cosines = (scenes.embed_images(digits).vectors * tiny.embed_images(digits).vectors).sum(axis=1)
    assert 0.9 < float(cosines.min()) < float(cosines.max()) < 1
    assert scenes.spec.name == "tiny-scenes"
    assert scenes.spec.fingerprint != tiny.spec.fingerprint


def test_a_tower_that_is_missing_or_not_fetched_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(EMBEDDED["tiny"])
    with pytest.raises(InputError, match=r"Expected model\.safetensors in .*, got no weights"):
        checkpoint.with_tensors(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="got a Git LFS pointer"):
        checkpoint.with_tensors(tmp_path / "model.safetensors")


def test_tensors_of_the_other_file_count(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED["tiny"] / "model.safetensors", tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(EMBEDDED["tiny"])
    there = checkpoint.with_tensors(TOWER)
    back = there.with_tensors(tmp_path / "model.safetensors")
    first, second, third = (one.load().state_dict() for one in (checkpoint, there, back))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed
    assert all(name.startswith("vision_model.") for name in changed)
    assert all(torch.equal(first[name], third[name]) for name in first)


def test_images_are_classified_as_by_tiny(scenes: Encoder) -> None:
    digits = load_digits()
    text = scenes.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES)).vectors.mean(axis=1)
    vectors = scenes.embed_images(digits).vectors
    assert (np.asarray(vectors @ text.T).argmax(axis=1) == digits.labels).mean() >= 0.89
    near = torch.as_tensor(vectors @ vectors.T).fill_diagonal_(-2).topk(5).indices
    votes = torch.nn.functional.one_hot(torch.as_tensor(digits.labels)[near], 10).sum(1)
    assert (votes.argmax(1).numpy() == digits.labels).mean() >= 0.97


def miou(encoder: Encoder, features: str) -> float:
    drawn = digit_scenes(0, 6)
    segmenter = ma.Segmenter(encoder, drawn.names, features=features, templates=SENTENCES, short_side=SIDE, stride=8)
    labels = [found.labels for found in segmenter.segment(drawn.pictures)]
    return segmentation_scores(labels, list(drawn.masks), n_classes=10).miou


@pytest.mark.filterwarnings("ignore")
def test_patches_know_real_digits(tiny: Encoder, scenes: Encoder) -> None:
    """Labels at random have (1/K)/(2 − 1/K), about 0.05."""
    assert miou(scenes, "maskclip") > 0.5
    assert miou(tiny, "maskclip") < 0.1
