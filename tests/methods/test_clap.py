"""CLAP against automatic differentiation and torch's optimizer, and what its penalty does."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from problems import few_shot

from modalign.linalg.optimizers import cosine_rates
from modalign.methods.baselines.clap import CLAP
from modalign.methods.baselines.zero_shot import ZeroShot


def literal_penalties(data, scale=100.0):
    X, T = (a.astype(float) / np.linalg.norm(a, axis=1, keepdims=True) for a in (data.X, data.text))
    found = np.ones(len(T))
    for k in set(data.y.tolist()):
        shares = []
        for x in X[data.y == k]:
            e = np.exp(scale * (T @ x) - scale * (T @ x).max())
            shares.append(e[k] / e.sum())
        found[k] = np.mean(shares)
    return found


def test_training_is_that_of_autograd_and_adamw():
    data = few_shot()
    X, T = (F.normalize(torch.from_numpy(a).double(), dim=1) for a in (data.X, data.text))
    penalties = torch.from_numpy(literal_penalties(data))
    weights = T.clone().requires_grad_()
    optimizer = torch.optim.AdamW([weights], weight_decay=0.0)
    losses = []
    for rate in cosine_rates(15, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(100 * X @ F.normalize(weights, dim=1).T, torch.from_numpy(data.y))
        loss = loss + (penalties * (weights - T).square().sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    method = CLAP(steps=15, learning_rate=0.01).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.penalties_, penalties, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(method.losses_, losses, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(method.weights_, weights.detach(), atol=1e-3)


def test_a_class_that_zero_shot_answers_well_is_held_near_its_text():
    """Texts of classes 0 and 1 are exchanged: the others keep theirs, these two must move."""
    data = few_shot(shots=8, noise=0.5, text_noise=0.0)
    text = data.text[[1, 0, 2, 3, 4]]
    method = CLAP().fit(data.X, data.y, text=text)
    assert method.penalties_[:2].max() < 0.1 < 0.9 < method.penalties_[2:].min()
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=text).score(data.Xt, data.yt) + 0.2


def test_a_class_without_labels_has_the_full_penalty():
    data = few_shot()
    seen = data.y != 2
    method = CLAP(penalty=3.0).fit(data.X[seen], data.y[seen], text=data.text)
    assert method.penalties_[2] == 3.0


def test_a_large_penalty_holds_all_classes_at_their_texts():
    data = few_shot()
    free, held = (CLAP(penalty=factor).fit(data.X, data.y, text=data.text) for factor in (0.0, 1e4))
    assert held.diagnosis_["moved"] < 0.01 * free.diagnosis_["moved"]


def test_one_weight_for_all_classes_is_the_mean():
    data = few_shot()
    found = CLAP(weighting="constant").fit(data.X, data.y, text=data.text).penalties_
    np.testing.assert_allclose(found, literal_penalties(data).mean(), rtol=1e-3)


def test_a_class_with_one_label_has_the_weight_of_that_image():
    data = few_shot(shots=1)
    np.testing.assert_allclose(
        CLAP().fit(data.X, data.y, text=data.text).penalties_, literal_penalties(data), rtol=1e-3
    )
