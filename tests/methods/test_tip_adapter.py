"""Tip-Adapter against its equations written as loops, its limits, and what may choose its hyper-parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import few_shot

from modalign.core.errors import InputError
from modalign.linalg.calibration import fit_temperature, sharpened
from modalign.linalg.similarity import unit
from modalign.methods.baselines import tip_adapter, tip_adapter_cache
from modalign.methods.baselines.tip_adapter import TipAdapter, TipAdapterF
from modalign.methods.baselines.tip_adapter_cache import Cache
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.selection import ScaledLikelihood
from modalign.methods.contract.vectors import Problem


def literal(X, keys, labels, text, alpha, beta):
    """Equations 4 to 6, one image, one key at a time."""
    scores = np.zeros((len(X), len(text)))
    for i, x in enumerate(X):
        for c, t in enumerate(text):
            scores[i, c] = 100 * float(x @ t)
        for key, label in zip(keys, labels, strict=True):
            scores[i, label] += alpha * math.exp(-beta * (1 - float(x @ key)))
    return scores


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 5.5), (3.0, 0.7), (0.2, 20.0)])
def test_scores_are_the_equations_of_the_paper(alpha, beta):
    data = few_shot()
    method = TipAdapter(alpha=alpha, beta=beta).fit(data.X, data.y, text=data.text)
    expected = literal(data.Xt.astype(float), data.X.astype(float), data.y, data.text.astype(float), alpha, beta)
    np.testing.assert_allclose(method.scores(data.Xt), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("cls", [TipAdapter, TipAdapterF])
def test_without_cache_it_is_zero_shot(cls):
    data = few_shot()
    method = cls(alpha=0.0, random_state=0).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(
        method.scores(data.Xt), ZeroShot().fit(data.X, text=data.text).scores(data.Xt), atol=1e-4
    )


def test_a_cache_that_ignores_distance_counts_the_images_of_a_class():
    data = few_shot()
    kept = np.flatnonzero((data.y != 1) | (np.arange(len(data.y)) < 6))
    method = TipAdapter(alpha=2.0, beta=0.0).fit(data.X[kept], data.y[kept], text=data.text)
    zero_shot = ZeroShot().fit(data.X, text=data.text).scores(data.Xt)
    counts = np.bincount(data.y[kept], minlength=5)
    np.testing.assert_allclose(method.scores(data.Xt) - zero_shot, np.tile(2.0 * counts, (len(data.Xt), 1)), atol=1e-3)


def test_an_infinitely_sharp_cache_recognizes_its_own_images_only():
    data = few_shot()
    method = TipAdapter(alpha=1e4, beta=1e5).fit(data.X, data.y, text=data.text)
    assert (method.predict(data.X) == data.y).all()
    zero_shot = ZeroShot().fit(data.X, text=data.text).scores(data.Xt)
    np.testing.assert_allclose(method.scores(data.Xt), zero_shot, atol=1e-3)


def test_defaults_without_validation_are_the_papers():
    data = few_shot()
    method = TipAdapter().fit(data.X, data.y, text=data.text)
    assert (method.alpha_, method.beta_, method.diagnosis_["chosen_on"]) == (1.0, 5.5, "nothing")


def test_the_search_finds_the_best_pair_of_the_grid():
    data = few_shot(noise=1.6)
    method = TipAdapter(criterion="accuracy").fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    tried = [
        TipAdapter(alpha=a, beta=b).fit(data.X, data.y, text=data.text).score(data.Xv, data.yv)
        for a in tip_adapter.ALPHAS[::2]
        for b in tip_adapter.BETAS[::2]
    ]
    assert method.diagnosis_["validation_accuracy"] >= max(tried)
    assert method.alpha_ in tip_adapter.ALPHAS
    assert method.beta_ in tip_adapter.BETAS


def test_what_is_given_is_not_searched():
    data = few_shot()
    method = TipAdapter(alpha=2.5).fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    assert method.alpha_ == 2.5
    assert method.beta_ in tip_adapter.BETAS


@pytest.mark.parametrize("cls", [TipAdapter, TipAdapterF])
def test_validation_labels_decide_and_nothing_else_does(cls):
    """Other validation labels, another choice; test images are never an argument of ``fit``."""
    data = few_shot(noise=1.6)
    wrong = (data.yv + 1) % 5
    right, misled = (
        cls(random_state=0).fit(data.X, data.y, text=data.text, validation=(data.Xv, labels))
        for labels in (data.yv, wrong)
    )
    assert (right.alpha_, right.beta_) != (misled.alpha_, misled.beta_)


@pytest.mark.parametrize("seed", range(4))
def test_climbing_finds_the_pair_of_the_whole_grid(seed):
    """By log-loss some pairs are left out; the least log-loss of all of them is found nevertheless."""
    data = few_shot(noise=(0.7, 1.2, 1.6, 2.2)[seed])
    method = TipAdapter().fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    X, y = torch.from_numpy(data.Xv), torch.from_numpy(data.yv)

    def log_likelihood(alpha, beta):
        cache = Cache(method.keys_, method.key_classes_, method.prototypes_, 100.0, alpha, beta)
        return ScaledLikelihood()(cache.logits(unit(X)) / 100, y)

    best = max(log_likelihood(a, b) for a in tip_adapter.ALPHAS for b in tip_adapter.BETAS)
    assert log_likelihood(method.alpha_, method.beta_) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_that_starts_on_a_part_of_the_images_ends_at_the_best_of_its_neighbors(seed, monkeypatch):
    """On these data, where the likelihood has one maximum, that is the best pair of the whole grid."""
    data = few_shot(noise=(0.7, 1.2, 1.6)[seed])
    whole, some = TipAdapter(), TipAdapter()
    whole.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    monkeypatch.setattr(tip_adapter_cache, "SAMPLE", 5 * (len(data.yv) // 3))
    tried = []
    votes = Cache.votes
    monkeypatch.setattr(
        Cache, "votes", lambda self, X, betas: tried.append((len(X), len(betas))) or votes(self, X, betas)
    )
    some.fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    assert (some.alpha_, some.beta_) == (whole.alpha_, whole.beta_)
    on_all = sum(betas for images, betas in tried if images == len(data.yv))
    assert on_all < len(tip_adapter.BETAS) / 2


@pytest.mark.parametrize("cls", [TipAdapter, TipAdapterF])
@pytest.mark.parametrize("sample", [2**19, 20])
def test_what_is_said_of_the_validation_images_is_what_the_model_answers(cls, sample, monkeypatch):
    """The logits that the search leaves are those of the model, also where it starts on a part of the images."""
    monkeypatch.setattr(tip_adapter_cache, "SAMPLE", sample)
    data = few_shot(noise=1.6)
    method = cls(random_state=0).fit(data.X, data.y, text=data.text, validation=(data.Xv, data.yv))
    logits = torch.from_numpy(method.scores(data.Xv))
    scale = sharpened(logits.double(), 1 / fit_temperature(logits, torch.from_numpy(data.yv)), 1.0)
    assert method.temperature_ == pytest.approx(1 / scale, rel=1e-4)
    assert method.diagnosis_["validation_accuracy"] == method.score(data.Xv, data.yv)
    assert method.diagnosis_["chosen_on"] == "validation"


@settings(max_examples=30)
@given(n=st.integers(1, 9), classes=st.lists(st.integers(0, 6), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_votes_are_the_product_with_one_hot_labels(n, classes, seed):
    """In whatever order the keys are, with classes that have no key, and with blocks smaller than the problem."""
    generator = torch.Generator().manual_seed(seed)
    X, keys = (unit(torch.randn(rows, 5, generator=generator)) for rows in (n, len(classes)))
    owners, betas = torch.tensor(classes), (0.3, 5.5, 0.6, 11.0, 1.2, 7.0)
    cache = Cache(keys, owners, torch.eye(7)[:, :5], 100.0, 1.0, 1.0)
    one_hot = torch.nn.functional.one_hot(owners, 7).double()
    plain = torch.stack([torch.exp(beta * ((X @ keys.T).double() - 1)) @ one_hot for beta in betas])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tip_adapter_cache, "IMAGES", 4)
        patch.setattr(tip_adapter_cache, "BLOCK", 8)
        found = cache.votes(X, betas)
    torch.testing.assert_close(found.double(), plain, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_keys_is_that_of_the_cross_entropy():
    """The first AdamW step moves every entry by the learning rate against the sign of the gradient."""
    data = few_shot()
    rate = 1e-4
    method = TipAdapterF(epochs=1, learning_rate=rate, weight_decay=0.0, random_state=0)
    method.fit(data.X, data.y, text=data.text)
    X, y, T = (torch.from_numpy(a) for a in (data.X, data.y, data.text))
    keys = X.clone().requires_grad_()
    logits = 100 * X @ T.T + torch.exp(-5.5 * (1 - X @ keys.T)) @ torch.eye(5)[y]
    loss = torch.nn.functional.cross_entropy(logits, y)
    loss.backward()
    assert method.losses_[0].item() == pytest.approx(loss.item(), rel=1e-5)
    clear = keys.grad.abs() > 1e-5
    assert clear.float().mean() > 0.5
    moved = (method.keys_ - X)[clear]
    torch.testing.assert_close(moved, -rate * keys.grad.sign()[clear], atol=rate * 0.02, rtol=0)


def test_training_lowers_the_loss_and_keeps_the_better_of_the_two():
    data = few_shot(noise=1.6)
    method = TipAdapterF(random_state=0, criterion="accuracy").fit(
        data.X, data.y, text=data.text, validation=(data.Xv, data.yv)
    )
    assert method.losses_[-1] < method.losses_[0]
    found = method.diagnosis_
    assert found["validation_accuracy"] >= found["validation_accuracy_without_training"]
    assert 0 <= found["epoch"] <= 20


def test_mirrored_rows_are_more_keys():
    data = few_shot()
    twice = TipAdapter(alpha=1.0, beta=5.5).fit(np.tile(data.X, (2, 1)), np.tile(data.y, 2), text=data.text)
    double = TipAdapter(alpha=2.0, beta=5.5).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(twice.scores(data.Xt), double.scores(data.Xt), atol=1e-4)


def test_mistakes_are_one_sentence():
    data = few_shot()
    with pytest.raises(InputError, match=r"TipAdapter\(alpha=…\): expected float in \[0"):
        TipAdapter(alpha=-1.0).fit(data.X, data.y, text=data.text)
    with pytest.raises(InputError, match=r"or 'auto', got 'aut'"):
        TipAdapter(beta="aut").fit(data.X, data.y, text=data.text)
    with pytest.raises(InputError, match="requires y"):
        TipAdapter().fit(data.X, text=data.text)
    without_class_2 = torch.from_numpy(np.where(data.y == 2, 3, data.y))
    problem = Problem(torch.from_numpy(data.X), without_class_2, 5, None, None, None)
    with pytest.raises(InputError, match="at least one labeled image per class"):
        TipAdapter()._fit(problem)


def test_the_cache_is_judged_after_every_epoch_of_several_steps():
    data, seen = few_shot(noise=1.6), []
    method = TipAdapterF(epochs=3, batch_size=8, random_state=0)  # 20 images: three steps per epoch
    method.fit(data.X, data.y, text=data.text)
    keys, text = (unit(torch.from_numpy(part)) for part in (data.X, data.text))
    start = Cache(keys, torch.from_numpy(data.y), text, 100.0, 1.0, 5.5)
    method._trained(start, lambda epoch, cache: seen.append(epoch))
    assert seen == [1, 2, 3]
