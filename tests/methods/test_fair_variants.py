"""FAIR with the pseudo-labels of others and with other things tuned (its Tables 7 and 10)."""

from __future__ import annotations

import sys

import pytest
import torch
from self_training import broken_off_and_resumed, saved_and_loaded

import modalign as ma
from modalign.core.errors import InputError, MissingExtraError, UnknownNameError
from modalign.data.digits import DIGIT_TEMPLATES
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.fair import FAIR
from modalign.methods.fair.fair_training import SelfTraining
from modalign.methods.fair.pseudo_labels import pseudo_labeler

QUICK = {"epochs": 2, "batch_size": 16, "crops": 3, "keep": 2, "augmentation": "randaugment", "learning_rate": 1e-3}
LABELERS = ("clip", "cupl", "wca", "coder")
TARGETS = ("lora", "k_adaptation")


def settled(method: FAIR, digits, text, encoder):
    """A learner before its first step and its first batch."""
    towers = Towers.open(encoder, text)
    learner = method._learner(towers, torch.Generator().manual_seed(0))
    data = method._batches(digits, encoder, 0)
    learner.begin(data)
    return learner, data.batch(torch.arange(8), 0)


@pytest.mark.parametrize("labeler", LABELERS)
def test_a_labeler_uses_the_present_tower_and_its_own_text(labeler, digits, text, encoder) -> None:
    learner, batch = settled(FAIR(**QUICK, labeler=labeler), digits, text, encoder)
    with torch.no_grad():
        for parameter in learner.tuned.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        learner.anchors.zero_()  # on which no label may depend
    vision = learner.vision()
    with torch.no_grad():
        whole = vision(batch.pixels).pooled[0]
        crops = None
        if labeler == "wca":
            crops = vision(torch.cat(list(batch.chunks(1000)))).pooled[0].unflatten(0, batch.crops.shape[:2])
    expected = pseudo_labeler(labeler, learner.towers)(whole, crops)
    found = learner.alignment(batch, vision)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.votes, expected.votes)
    assert batch.crops.shape[1] == (3 if labeler == "wca" else 0), "only what is used is cut"


def test_temperatures_reach_wca(digits, text, encoder) -> None:
    scores = {}
    for temperature in (1.0, 0.02):
        method = FAIR(**QUICK, labeler="wca", image_temperature=temperature)
        learner, batch = settled(method, digits, text, encoder)
        scores[temperature] = learner.alignment(batch, learner.vision()).scores
    assert not torch.allclose(scores[1.0], scores[0.02], atol=1e-4)


@pytest.mark.parametrize("settings", [{"labeler": name} for name in LABELERS] + [{"trainable": n} for n in TARGETS])
def test_it_learns_is_saved_and_loaded(settings, digits, text, encoder, tmp_path) -> None:
    if settings.get("trainable") == "lora":
        pytest.importorskip("peft", reason="LoRA is the extra lora")
    model = ma.adapt(
        digits, encoder=encoder, method="fair", unlabeled=True, classes=digits.class_names, templates=DIGIT_TEMPLATES,
        **QUICK, **settings,
    )  # fmt: skip
    method = model.method
    start, _ = settled(method, digits, text, encoder)
    moved = {name: not torch.equal(value, start.state()[name].cpu()) for name, value in method.tensors_.items()}
    assert all(moved.values()), f"these did not learn: {[name for name, did in moved.items() if not did]}"
    assert method.diagnosis_["trainable"] == sum(v.numel() for v in method.tensors_.values())
    saved_and_loaded(model, tmp_path / "model", digits, encoder)


@pytest.mark.parametrize("target", TARGETS)
def test_an_interrupted_training_of_another_target_ends_as_an_undisturbed_one(
    target, digits, text, encoder, tmp_path
) -> None:
    if target == "lora":
        pytest.importorskip("peft", reason="LoRA is the extra lora")

    def fit(checkpoint=None) -> FAIR:
        method = FAIR(**QUICK, trainable=target, trainable_options={"rank": 2}, random_state=0)
        return method.fit(digits, text=text, encoder=encoder, checkpoint=checkpoint)

    broken_off_and_resumed(fit, SelfTraining, 5, tmp_path / "state")


def test_a_saved_lora_predicts_without_peft(digits, text, encoder, monkeypatch) -> None:
    pytest.importorskip("peft", reason="LoRA is the extra lora")
    method = FAIR(**QUICK, trainable="lora", random_state=0).fit(digits, text=text, encoder=encoder)
    expected = method.score_images(digits, encoder).logits
    monkeypatch.setitem(sys.modules, "peft", None)
    del method._bound
    assert (method.score_images(digits, encoder).logits == expected).all()
    with pytest.raises(MissingExtraError, match="lora"):
        FAIR(**QUICK, trainable="lora").fit(digits, text=text, encoder=encoder)


def test_the_frozen_tower_is_the_start_of_every_target(digits, text, encoder) -> None:
    whole = VisionTower(encoder)
    for target in ("layer_norms", "k_adaptation"):
        learner, batch = settled(FAIR(**QUICK, trainable=target), digits, text, encoder)
        torch.testing.assert_close(learner.vision()(batch.pixels).pooled, whole(batch.pixels).pooled)


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"labeler": "wca", "view": "global"}, InputError, "made of crops"),
        ({"labeler": "codr"}, UnknownNameError, "did you mean 'coder'"),
        ({"trainable": "lor"}, UnknownNameError, "did you mean 'lora'"),
        ({"trainable": "k_adaptation", "trainable_options": {"rnk": 2}}, UnknownNameError, "did you mean 'rank'"),
        ({"trainable_options": {"rank": 2}}, UnknownNameError, "option of target 'layer_norms'"),
        ({"trainable": "k_adaptation", "trainable_options": {"n": 7}}, InputError, "to divide the width"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_work(settings, error, sentence, digits, text, encoder) -> None:
    method = FAIR(**(QUICK | settings))
    with pytest.raises(error, match=sentence):
        method.fit(digits, text=text, encoder=encoder)
    assert not hasattr(method, "tensors_")
