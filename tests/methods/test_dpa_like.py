"""The DPA-like self-trainer: two kinds of prototypes, in loops, and a resumption that brings back its memory."""

from __future__ import annotations

import pytest
import torch
from self_training import begun, broken_off_and_resumed, features, saved_and_loaded

import modalign as ma
from modalign.data.digits import DIGIT_TEMPLATES
from modalign.data.items import Items
from modalign.linalg.similarity import unit
from modalign.methods.fair.dpa_like import DPALike, DualPrototypes
from modalign.tune.history import Epoch

QUICK = {"epochs": 3, "batch_size": 16, "augmentation": "randaugment", "random_state": 0}


def test_labels_weights_and_loss_in_loops(encoder, digits: Items, text) -> None:
    towers, learner, data = begun(DPALike(**QUICK, image_weight=0.3), digits, text, encoder)
    s, K = towers.logit_scale, len(towers)
    batches = [data.batch(torch.arange(start, start + 16), 0) for start in (0, 16, 32)]
    for batch in batches:
        assert "alignment" not in learner.loss(batch)
    learner.ended(Epoch(0, 1.0, 0.1, 1.0))
    weak = [features(towers, batch)[0] for batch in batches]
    Z, memory = learner.anchors.detach(), torch.cat(weak)
    torch.testing.assert_close(learner.memory, memory)
    for k in range(K):
        members = [memory[i] for i in range(48) if learner.labels[i] == k]
        expected = unit(sum(members)) if members else torch.zeros_like(Z[0])
        torch.testing.assert_close(learner.image_prototypes[k], expected)

    P, batch = learner.image_prototypes.clone(), data.batch(torch.arange(16), 1)
    f, strong = features(towers, batch)
    means = [(s * x @ Z.T).softmax(1).mean(0) for x in (*weak, f)]
    running = sum(means) / 4
    terms = []
    predictions = (s * strong @ Z.T).softmax(1)
    for i in range(16):
        by_text = (s * Z @ f[i]).softmax(0) / running
        by_text = by_text / by_text.sum()
        there = [k for k in range(K) if bool((P[k] != 0).any())]
        by_images = torch.zeros(K)
        by_images[there] = torch.stack([s * P[k] @ f[i] for k in there]).softmax(0)
        y = int((0.3 * by_images + 0.7 * by_text).argmax())
        w = by_text[y] / by_text.max() * by_images[y] / by_images.max()
        terms.append(-w * predictions[i, y].log())
    alignment = sum(-(s * Z @ P[k]).log_softmax(0)[k] for k in there) / len(there)
    expected = sum(terms) / 16 - predictions.mean(0).log().mean() + alignment
    found = learner.loss(batch)
    torch.testing.assert_close(found["loss"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["alignment"], alignment, rtol=1e-5, atol=1e-6)


def test_it_learns_is_saved_and_reports_the_effect_of_its_labels(encoder, digits: Items, text, tmp_path) -> None:
    model = ma.adapt(digits, encoder=encoder, method=DPALike(**QUICK), shots=3, templates=DIGIT_TEMPLATES)
    again = saved_and_loaded(model, tmp_path / "model", digits, encoder)
    found = model.method.diagnosis_
    assert found["gamma"][0] == pytest.approx(1)  # no image prototypes yet, so nothing is doubted
    assert found["gamma"][-1] < 1
    assert set(again.method.tensors_) == {"anchors"} | {n for n in again.method.tensors_ if n.startswith("tuned.")}


def test_an_interrupted_training_ends_as_if_nothing_had_been(encoder, digits, text, tmp_path) -> None:
    def fit(**checkpoint):
        return DPALike(**QUICK).fit(digits, text=text, encoder=encoder, **checkpoint)

    _, epoch = broken_off_and_resumed(fit, DualPrototypes, 8, tmp_path / "state")
    assert epoch == 2  # three batches an epoch: in the middle of the third
