"""The LaFTer-like self-trainer: sentences teach a classifier, which stays as it is and labels whole images."""

from __future__ import annotations

import copy

import pytest
import torch
from self_training import begun, features, saved_and_loaded
from torch.nn.functional import cross_entropy

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES
from modalign.data.items import Items
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Towers
from modalign.methods.fair.lafter_like import LaFTerLike, text_classifier

QUICK = {"epochs": 2, "batch_size": 16, "augmentation": "randaugment", "random_state": 0, "text_steps": 50}


def test_sentences_teach_what_their_mean_direction_does_not_know() -> None:
    draws = torch.Generator().manual_seed(0)
    # Two classes whose sentences differ in one direction of small variance, beside one of large variance.
    rows = torch.randn(2, 40, 6, generator=draws) * torch.tensor([3.0, 1, 1, 1, 1, 0.05])
    rows[0, :, 5] += 0.4
    rows[1, :, 5] -= 0.4
    rows[..., 1] += 4
    rows = unit(rows)
    rows[1, 30:] = 0
    options = {"noise": 0.02, "logit_scale": 50.0, "random_state": 0}
    start = text_classifier(rows, steps=0, **options)
    torch.testing.assert_close(start, text_prototypes(rows))
    learned = text_classifier(rows, steps=400, **options)

    def right(Z: torch.Tensor) -> int:
        found = (rows @ Z.T).argmax(2)
        return int((found[0] == 0).sum() + (found[1, :30] == 1).sum())

    assert right(start) < 60 < 65 < right(learned)
    torch.testing.assert_close(learned.norm(dim=1), torch.ones(2))


def test_the_loss_is_that_of_the_frozen_classifiers_names(encoder, digits: Items, text) -> None:
    towers, learner, data = begun(LaFTerLike(**QUICK), digits, text, encoder)
    classifier = text_classifier(towers.class_text, steps=50, noise=0.5, logit_scale=towers.logit_scale, random_state=0)
    batch = data.batch(torch.arange(8), 0)
    weak, strong = features(towers, batch)
    expected = cross_entropy(towers.logit_scale * strong @ classifier.T, (weak @ classifier.T).argmax(1))
    loss = learner.loss(batch)["loss"]
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert learner.anchors.grad is None
    assert all(bool((p.grad != 0).any()) for p in learner.tuned.values())


def test_layer_norms_alone_learn_and_it_is_saved(encoder, digits: Items, text, tmp_path) -> None:
    before = copy.deepcopy(encoder.model.state_dict())
    model = ma.adapt(digits, encoder=encoder, method=LaFTerLike(**QUICK), shots=3, templates=DIGIT_TEMPLATES)
    method = model.method
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    tower = Towers.open(encoder, text).vision
    assert method.diagnosis_["trainable"] == sum(2 * len(norm.weight) for norm in tower.norms().values())
    expected = text_classifier(
        method.class_text_, steps=50, noise=0.5, logit_scale=float(encoder.logit_scale), random_state=0
    )
    torch.testing.assert_close(method.tensors_["anchors"], expected)
    assert method.diagnosis_["gamma"] == [1.0, 1.0]
    saved_and_loaded(model, tmp_path / "model", digits, encoder)


def test_several_strong_views_are_refused(encoder, digits: Items, text) -> None:
    with pytest.raises(InputError, match="one augmentation"):
        LaFTerLike(augmentation=["center", "strong"]).fit(digits, text=text, encoder=encoder)
