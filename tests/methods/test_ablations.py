"""Ablations switch off what they name: most of them leave zero-shot, which can be computed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import few_shot, quick

from modalign.linalg.similarity import unit
from modalign.methods.baselines.cross_modal_probe import Samples
from modalign.methods.contract.vectors import Problem

ZERO_SHOT = [
    ("lfa", "identity map"), ("tip_adapter", "no cache"), ("tip_adapter_f", "no cache"),
    ("cma", "cosine alone"),
]  # fmt: skip


def scores(name: str, **settings):
    data = few_shot()
    method = quick(name, **settings)
    return method.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv)).scores(data.Xt)


@pytest.mark.parametrize(("name", "words"), ZERO_SHOT)
def test_without_its_ingredient_the_method_answers_as_zero_shot(name: str, words: str) -> None:
    left = scores(name, **type(quick(name)).ablations[words])
    np.testing.assert_array_equal(left.argmax(axis=1), scores("zero_shot").argmax(axis=1))
    if name != "cma":  # whose published form never leaves zero-shot
        assert (scores(name).argmax(axis=1) != left.argmax(axis=1)).any()


@pytest.mark.parametrize(("words", "weight"), [("no zero-shot scores", 0.0), ("zero-shot scores with weight 1", 1.0)])
def test_the_scores_of_cmm_are_the_mapped_ones_and_this_share_of_zero_shot(words: str, weight: float) -> None:
    data = few_shot()
    method = quick("cmm", **type(quick("cmm")).ablations[words])
    method.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    mapped = unit(torch.from_numpy(method.transform(data.Xt))) @ unit(method.prototypes_).T
    zero_shot = unit(torch.from_numpy(data.Xt)) @ unit(torch.from_numpy(data.text)).T
    expected = method.logit_scale_ * (mapped + weight * zero_shot)
    np.testing.assert_allclose(method.scores(data.Xt), expected.numpy(), rtol=1e-4, atol=1e-3)


def test_a_uniform_plan_leaves_gpua_at_chance() -> None:
    data = few_shot(shots=40)
    accuracies = {}
    for words, settings in {"": {}, "off": type(quick("gpua")).ablations["uniform plan"]}.items():
        method = quick("gpua", steps=100, **settings).fit(data.X, text=data.text)
        accuracies[words] = method.score(data.Xt, data.yt)
        entropy = method.diagnosis_["plan_entropy"]
    assert entropy == pytest.approx(1, abs=1e-6)
    assert accuracies[""] > 0.5
    assert accuracies["off"] < 0.4  # chance is 0.2


def test_the_uni_modal_probe_starts_from_the_text_and_learns_from_images_alone() -> None:
    data = few_shot()
    X, y, text = torch.from_numpy(data.X), torch.from_numpy(data.y), torch.from_numpy(data.text)[:, None]
    alone, without_text = (
        Samples.of(Problem(X, y, 5, given, None, None), 8, 50, 0, sentences=False) for given in (text, None)
    )
    for name in ("rows", "targets", "batches", "weights"):
        torch.testing.assert_close(getattr(alone, name), getattr(without_text, name), rtol=0, atol=0)
    assert len(alone.rows) == len(X)

    method = quick("cross_modal_probe", cross_modal=False, ratio=0.0).fit(data.X, data.y, text=data.text)
    assert method.diagnosis_["sentences"] == 0
    unit_text = data.text / np.linalg.norm(data.text, axis=1, keepdims=True)
    np.testing.assert_allclose(method.coef_, unit_text, atol=1e-6)
    assert np.abs(method.learned_.numpy() - unit_text).max() > 1e-4
