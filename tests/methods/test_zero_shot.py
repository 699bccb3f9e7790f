"""Zero-shot scores against their formulas, sentence by sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import few_shot

from modalign.core.errors import InputError, UnknownNameError
from modalign.methods.baselines.zero_shot import CHUNK, ZeroShot


def unit(a):
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def sentences(data, seed: int = 0, counts=(3, 1, 4, 2, 4)):
    """(C, T, d) with different numbers of sentences of different lengths; absent ones are zero rows."""
    rng = np.random.default_rng(seed)
    text = np.zeros((5, max(counts), 24), dtype=np.float32)
    for c, count in enumerate(counts):
        text[c, :count] = (data.text[c] + 0.1 * rng.normal(size=(count, 24))) * rng.uniform(0.5, 2, size=(count, 1))
    return text, counts


FORMULAS = {
    "mean-prototype": lambda x, own: x @ unit(np.mean(own, axis=0)),
    "mean-score": lambda x, own: np.mean([x @ t for t in own]),
    "max-score": lambda x, own: max(x @ t for t in own),
}


@pytest.mark.parametrize("aggregate", FORMULAS)
def test_scores_are_the_formula(aggregate):
    data = few_shot()
    text, counts = sentences(data)
    model = ZeroShot(aggregate=aggregate, logit_scale=50.0).fit(data.X, text=text)
    expected = [
        [50 * FORMULAS[aggregate](unit(x), unit(text[c, : counts[c]].astype(np.float64))) for c in range(5)]
        for x in data.Xt.astype(np.float64)
    ]
    np.testing.assert_allclose(model.scores(data.Xt), expected, atol=1e-4)
    np.testing.assert_allclose(model.scores(7 * data.Xt), expected, atol=1e-4)  # only directions count


def test_with_one_sentence_a_class_all_ways_are_one():
    data = few_shot()
    first, *others = [ZeroShot(aggregate=a).fit(data.X, text=data.text).scores(data.Xt) for a in FORMULAS]
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-4)
    np.testing.assert_allclose(ZeroShot().fit(data.X, text=data.text[:, None]).scores(data.Xt), first)


def test_repeating_a_sentence_changes_only_means():
    data = few_shot()
    text, _ = sentences(data, counts=(2, 2, 2, 2, 2))
    twice = np.concatenate([text, text[:, :1]], axis=1)
    for aggregate in FORMULAS:
        a, b = (ZeroShot(aggregate=aggregate).fit(data.X, text=t).scores(data.Xt) for t in (text, twice))
        assert (np.abs(a - b).max() < 1e-4) == (aggregate == "max-score")


def test_max_score_in_blocks_equals_max_score_at_once(monkeypatch):
    data = few_shot()
    text, _ = sentences(data)
    model = ZeroShot(aggregate="max-score").fit(data.X, text=text)
    assert 20 * len(data.Xt) < CHUNK
    at_once = model.scores(data.Xt)
    monkeypatch.setattr("modalign.methods.baselines.zero_shot.CHUNK", 130)  # 6 rows a block
    np.testing.assert_allclose(model.scores(data.Xt), at_once, atol=1e-4)


def test_labels_teach_nothing_where_there_is_text():
    data = few_shot()
    with_labels = ZeroShot().fit(data.X, np.roll(data.y, 1), text=data.text)
    np.testing.assert_array_equal(with_labels.scores(data.Xt), ZeroShot().fit(data.X, text=data.text).scores(data.Xt))


def test_without_text_it_is_the_nearest_class_mean():
    data = few_shot()
    model = ZeroShot().fit(data.X, data.y)
    means = np.stack([unit(unit(data.X[data.y == c]).mean(axis=0)) for c in range(5)])
    np.testing.assert_allclose(model.scores(data.Xt), 100 * unit(data.Xt) @ means.T, atol=1e-4)
    assert model.diagnosis_["sentences"] == 0
    with pytest.raises(InputError, match="requires y to be passed"):
        ZeroShot().fit(data.X)


def test_diagnosis_finds_classes_that_the_text_cannot_distinguish():
    data = few_shot()
    text, counts = sentences(data)
    found = ZeroShot().fit(data.X, text=text, validation=(data.Xv, data.yv)).diagnosis_
    assert found["sentences"] == sum(counts)
    assert found["classes"] == 5
    first = ZeroShot().fit(data.X, text=text[:, 0])
    assert found["validation_accuracy_first_sentence"] == first.score(data.Xv, data.yv)
    assert found["closest_prototypes"] < 0.99
    text[3] = text[0]
    twins = ZeroShot().fit(data.X, text=text).diagnosis_
    assert twins["closest_prototypes"] == pytest.approx(1, abs=1e-5)
    assert 0.9 < twins["sentence_agreement"] < 1


def test_a_misspelt_way_is_corrected():
    data = few_shot()
    with pytest.raises(UnknownNameError, match="did you mean 'max-score'"):
        ZeroShot(aggregate="maxscore").fit(data.X, text=data.text)


def test_prototypes_follow_the_device_of_the_images():
    data = few_shot()
    model = ZeroShot().fit(torch.from_numpy(data.X), text=data.text)
    assert model.scores(torch.from_numpy(data.Xt)).device.type == "cpu"
    np.testing.assert_array_equal(model.scores(torch.from_numpy(data.Xt)).numpy(), model.scores(data.Xt))
