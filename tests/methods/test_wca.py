"""WCA: its double sum in loops, its limits, and crops as Features carry them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.methods.baselines.wca import WCA, text_weights
from modalign.methods.baselines.zero_shot import ZeroShot

n, N, C, M, D = 7, 5, 4, 3, 16


def unit_rows(*shape: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def images() -> Features:
    return Features(unit_rows(n, D, seed=0), tokens=unit_rows(n, N, D, seed=1))


@pytest.fixture
def text() -> np.ndarray:
    return unit_rows(C, M, D, seed=2)


def double_sum(images: Features, text: np.ndarray, tau_w: float, tau_v: float, reference: str) -> np.ndarray:
    """Equations 6 to 10, one product at a time."""
    scores = np.zeros((n, C))
    for x in range(n):
        w = [math.exp(float(images.vectors[x] @ images.tokens[x, i]) / tau_w) for i in range(N)]
        for y in range(C):
            sentences = [text[y, j].astype(float) for j in range(M) if np.any(text[y, j])]
            if reference == "first":
                named, sentences = sentences[0], sentences[1:] or sentences
            else:
                named = sum(sentences) / np.linalg.norm(sum(sentences))
            v = [math.exp(float(named @ t) / tau_v) for t in sentences]
            for i in range(N):
                for j, t in enumerate(sentences):
                    scores[x, y] += w[i] / sum(w) * v[j] / sum(v) * float(images.tokens[x, i] @ t)
    return scores


@pytest.mark.parametrize("reference", ["mean", "first"])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.05, 0.2)])
def test_it_is_the_double_sum(images: Features, text: np.ndarray, reference: str, temperatures) -> None:
    text[1, 2:] = 0  # two sentences
    text[3, 1:] = 0  # one
    method = WCA(
        image_temperature=temperatures[0], text_temperature=temperatures[1], reference=reference, logit_scale=1.0
    ).fit(images, text=text)
    expected = double_sum(images, text, *temperatures, reference)
    np.testing.assert_allclose(method.scores(images), expected, atol=1e-6)
    np.testing.assert_array_equal(method.predict(images), expected.argmax(axis=1))


def test_limits_are_the_scores_that_are_known(images: Features, text: np.ndarray) -> None:
    even = WCA(image_temperature=1e9, text_temperature=1e9).fit(images, text=text)
    mean = ZeroShot(aggregate="mean-score").fit(images, text=text)
    crops = np.stack([mean.scores(images.tokens[:, i]) for i in range(N)]).mean(axis=0)
    np.testing.assert_allclose(even.scores(images), crops, atol=1e-4)
    np.testing.assert_allclose(even.scores(images.vectors), mean.scores(images.vectors), atol=1e-4)
    assert even.diagnosis_["text_evenness"] == pytest.approx(1)
    sharp = WCA(image_temperature=1e-4, text_temperature=1e-4).fit(images, text=text)
    nearest = np.einsum("nd,nid->ni", images.vectors, images.tokens).argmax(axis=1)
    np.testing.assert_allclose(sharp.scores(images), sharp.scores(images.tokens[np.arange(n), nearest]), atol=1e-3)
    assert sharp.diagnosis_["text_evenness"] < 0.1


def test_weights_of_descriptions_sum_to_one_and_leave_out_what_is_absent(text: np.ndarray) -> None:
    text[0, 1:] = 0
    for reference in ("mean", "first"):
        weights = text_weights(torch.from_numpy(text), 0.5, reference)
        torch.testing.assert_close(weights.sum(1), torch.ones(C))
        assert weights[0].tolist() == [1, 0, 0]
        assert bool((weights[1:, 0] == 0).all()) == (reference == "first")


def test_crops_of_another_space_are_refused(images: Features, text: np.ndarray) -> None:
    wrong = Features(images.vectors, tokens=images.tokens[:, :, :-1])
    with pytest.raises(InputError, match="tokens of shape"):
        WCA().fit(images, text=text).scores(wrong)
    broken = images.tokens.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="finite numbers in tokens"):
        WCA().fit(Features(images.vectors, tokens=broken), text=text)
