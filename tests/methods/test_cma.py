"""CMA against the matrices of its equations, the proof that pairs are constant, and the sets that are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from problems import few_shot

from modalign.core.errors import InputError
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.dam.cma import CMA, class_residuals, pairwise_residuals, whitened


def vectors(n, d=6, seed=0, unit=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True) if unit else X


def literal_pairwise(images, texts, lam, mu):
    """Equations 7 to 10 with the matrices themselves, one pair at a time."""
    d = images.shape[1]
    of_text, of_image = (np.zeros((len(images), len(texts))) for _ in range(2))
    for i, a in enumerate(images):
        for c, t in enumerate(texts):
            W_IT = np.outer(t, a) @ np.linalg.inv(np.outer(a, a) + lam * np.eye(d))
            W_TI = np.outer(a, t) @ np.linalg.inv(np.outer(t, t) + lam * np.eye(d))
            of_text[i, c] = np.sum((t - mu * W_IT @ a) ** 2)
            of_image[i, c] = np.sum((a - mu * W_TI @ t) ** 2)
    return of_text, of_image


@pytest.mark.parametrize(("lam", "mu"), [(0.1, 1.0), (2.0, 0.7), (1e-3, 1.4)])
def test_one_number_a_pair_equals_the_matrices(lam, mu):
    images, texts = 2 * vectors(4), vectors(5, seed=1)
    found = pairwise_residuals(torch.from_numpy(images), torch.from_numpy(texts), lam, mu)
    for part, expected in zip(found, literal_pairwise(images, texts, lam, mu), strict=True):
        np.testing.assert_allclose(part.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("lam", [0.01, 1.0])
def test_scores_are_equation_11(lam):
    images, texts = vectors(3, unit=True), vectors(4, seed=1, unit=True)
    alpha, omega, blend = 0.3, 2.0, 0.6
    of_text, of_image = literal_pairwise(images, texts, lam, 1.0)
    inner = omega * (-alpha * of_text - (1 - alpha) * of_image)
    log_softmax = inner - np.log(np.exp(inner).sum(axis=1, keepdims=True))
    expected = 100 * (blend * images @ texts.T + (1 - blend) * log_softmax)
    method = CMA(ridge=lam, alpha=alpha, omega=omega, cosine_weight=blend).fit(images, text=texts)
    np.testing.assert_allclose(method.scores(images), expected, atol=1e-4)


@pytest.mark.parametrize("lam", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_pairs_of_unit_vectors_are_constant_over_the_classes(lam, mu):
    """The published form decides as zero-shot does, whatever its scalars are."""
    data = few_shot()
    method = CMA(ridge=lam, mu=mu, alpha=0.2, omega=3.0, cosine_weight=0.5).fit(data.X, text=data.text)
    _, term = method._terms(torch.from_numpy(data.Xt))
    np.testing.assert_allclose(term, -math.log(5), atol=1e-5)
    zero_shot = ZeroShot().fit(data.X, text=data.text)
    np.testing.assert_array_equal(method.predict(data.Xt), zero_shot.predict(data.Xt))
    np.testing.assert_allclose(method.scores(data.Xt), 0.5 * zero_shot.scores(data.Xt) - 50 * math.log(5), atol=2e-3)
    assert method.diagnosis_["spread"] < 1e-6
    assert method.diagnosis_["decisions_changed"] == 0


def test_pairs_of_vectors_of_different_length_are_not_constant():
    """What the proof needs is unit length: the term depends on the lengths only."""
    of_text, _ = pairwise_residuals(torch.from_numpy(vectors(3)), torch.from_numpy(vectors(4, seed=1)), 0.1)
    assert of_text.std(dim=1).min() > 0.01 * of_text.mean()


@pytest.mark.parametrize("lam", [0.05, 1.0])
def test_sets_are_ridge_optima_written_out(lam):
    images, rows = vectors(3, unit=True), vectors(8, seed=1, unit=True).reshape(2, 4, 6).copy()
    rows[1, 3] = 0  # this class has three sentences
    X, S = torch.from_numpy(images), torch.from_numpy(rows)
    of_rows, of_image = class_residuals(X.float(), S.float(), whitened(S.float(), lam), lam)
    for i, x in enumerate(images):
        for c in range(2):
            own = rows[c][: 4 if c == 0 else 3]
            a = np.linalg.solve(own @ own.T + lam * np.eye(len(own)), own @ x)
            assert of_image[i, c].item() == pytest.approx(np.sum((x - own.T @ a) ** 2) + lam * a @ a, abs=1e-5)
            left = []
            for t in own:
                b = (x @ t) / (x @ x + lam)
                left.append(np.sum((t - b * x) ** 2) + lam * b**2)
            assert of_rows[i, c].item() == pytest.approx(np.mean(left), abs=1e-5)


def test_a_set_of_one_carries_the_cosine():
    images, texts = vectors(5, unit=True), vectors(4, seed=1, unit=True)
    X, S = torch.from_numpy(images).float(), torch.from_numpy(texts[:, None]).float()
    expected = 1 - (images @ texts.T) ** 2 / 1.5
    for part in class_residuals(X, S, whitened(S, 0.5), 0.5):
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_sets_with_several_rows_change_decisions():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(5, 4, 24)).astype(np.float32)
    images = rng.normal(size=(200, 24)).astype(np.float32)
    method = CMA(form="sets", cosine_weight=0.2, ridge=0.1).fit(images, text=text)
    assert method.diagnosis_["spread"] > 0.01
    assert method.diagnosis_["decisions_changed"] > 0.05
    assert method.diagnosis_["rows_a_class"] == 4


def test_without_the_term_it_is_zero_shot():
    data = few_shot()
    for form in ("pairwise", "sets"):
        found = CMA(form=form, cosine_weight=1.0).fit(data.X, text=data.text).scores(data.Xt)
        np.testing.assert_allclose(found, ZeroShot().fit(data.X, text=data.text).scores(data.Xt), atol=1e-4)


def test_without_text_the_labeled_images_are_the_rows():
    data = few_shot(shots=3)
    method = CMA(form="sets").fit(data.X, data.y)
    assert method.rows_.shape == (5, 3, 24)
    for c in range(5):
        np.testing.assert_allclose(method.rows_[c], data.X[data.y == c], atol=1e-6)


def test_the_order_of_the_sentences_is_free():
    rng = np.random.default_rng(0)
    text, X = rng.normal(size=(4, 5, 12)), rng.normal(size=(30, 12))
    first, second = (CMA(form="sets", ridge=0.1).fit(X, text=t).scores(X) for t in (text, text[:, ::-1].copy()))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_validation_chooses_the_scalars_of_sets_only():
    data = few_shot()
    sets, pairs = (
        CMA(form=form).fit(data.X, text=data.text, validation=(data.Xv, data.yv)).diagnosis_
        for form in ("sets", "pairwise")
    )
    assert sets["chosen_on"] == "validation"
    assert (pairs["chosen_on"], pairs["cosine_weight"]) == ("nothing", pytest.approx(1 / (1 + math.exp(-0.5))))


def test_a_blend_that_leaves_a_constant_is_refused():
    data = few_shot()
    with pytest.raises(InputError, match="needs cosine_weight > 0"):
        CMA(cosine_weight=0.0).fit(data.X, text=data.text)
    with pytest.raises(InputError, match="requires y"):
        CMA().fit(data.X)


@pytest.mark.parametrize("form", ["pairwise", "sets"])
def test_the_diagnosis_has_the_accuracies_on_validation_images(form):
    data = few_shot(noise=1.6)
    validation = (data.Xv, data.yv)
    method = CMA(form=form).fit(data.X, text=data.text, validation=validation)
    assert method.diagnosis_["validation_accuracy"] == method.score(*validation)
    zero_shot = ZeroShot().fit(data.X, text=data.text).score(*validation)
    assert method.diagnosis_["validation_accuracy_zero_shot"] == zero_shot
    assert "validation_accuracy_without_cosine" in method.diagnosis_
