"""Gaussian classes anchored in the texts: the estimate, what a class falls back to, and what is chosen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import few_shot
from scipy.optimize import lsq_linear
from scipy.stats import multivariate_normal

from modalign.linalg.similarity import unit
from modalign.methods.anchored.anchored_classes import SPREAD, AnchoredClasses
from modalign.methods.anchored.anchored_gaussian import AnchoredGaussian, _coverage
from modalign.methods.baselines.zero_shot import ZeroShot

REAL = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"


def assignments(n: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=n)).float()


@pytest.mark.parametrize("labeled", [[True, False, True, False, False], [False] * 5], ids=["some labels", "none"])
def test_the_estimate_is_that_of_the_equations(labeled):
    data, rng = few_shot(), np.random.default_rng(1)
    X, text, kappa = torch.from_numpy(data.X), torch.from_numpy(data.text), 3.0
    P, a = assignments(len(X), 5), torch.from_numpy(rng.uniform(0.2, 1.5, len(X))).float()
    labeled = torch.tensor(labeled)
    found = AnchoredClasses.estimate(X, P, a, text, kappa, labeled)

    n = np.array([sum(float(a[i] * P[i, k]) for i in range(len(X))) for k in range(5)])
    average = np.stack([sum(float(a[i] * P[i, k]) * data.X[i] for i in range(len(X))) / n[k] for k in range(5)])
    w, d = n / (n + kappa), data.X.shape[1]
    # unknowns: b and the d entries of c; equations: sqrt(w_k) (c + b t_k) = sqrt(w_k) average_k
    system = np.vstack([np.sqrt(w[k]) * np.column_stack([data.text[k], np.eye(d)]) for k in range(5)])
    solution = lsq_linear(system, np.concatenate([np.sqrt(w[k]) * average[k] for k in range(5)])).x
    prior = solution[1:] + solution[0] * data.text
    means = (n[:, None] * average + kappa * prior) / (n + kappa)[:, None]
    around = average if labeled.any() else means
    scatter = sum(
        float(a[i] * P[i, k]) * np.outer(data.X[i] - around[k], data.X[i] - around[k])
        for i in range(len(X)) for k in range(5)
    )  # fmt: skip
    freedom = float(a.sum())
    if labeled.any():
        freedom -= sum(sum(float(a[i] * P[i, k]) ** 2 for i in range(len(X))) / n[k] for k in range(5))
    origin = np.average(data.X, axis=0, weights=a)
    variance = np.average(np.sum((data.X - origin) ** 2, axis=1), weights=a)
    level = (np.trace(scatter) + variance) / (freedom + 1) / d
    covariance = (scatter + d * level * np.eye(d)) / (freedom + d)

    assert found.slope == pytest.approx(solution[0], abs=1e-5)
    np.testing.assert_allclose(found.sizes, n, rtol=1e-5)
    np.testing.assert_allclose(found.means, means, atol=1e-5)
    np.testing.assert_allclose(found.factor @ found.factor.T, covariance, atol=1e-5)
    np.testing.assert_allclose(found.spread, np.where(labeled, 1, 1 + SPREAD / (n + kappa)), rtol=1e-5)

    density = found.log_density(X).numpy()
    expected = np.column_stack(
        [multivariate_normal(means[k], float(found.spread[k]) * covariance).logpdf(data.X) for k in range(5)]
    )
    np.testing.assert_allclose(density - density[:, :1], expected - expected[:, :1], atol=2e-3)


def test_without_the_discriminant_it_is_zero_shot():
    data = few_shot()
    none = AnchoredGaussian(discriminant_weight=0.0, random_state=0).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(none.scores(data.Xt), ZeroShot().fit(data.X, text=data.text).scores(data.Xt), atol=1e-4)


def test_unlabeled_images_of_weight_zero_teach_nothing():
    data = few_shot()
    X, y = np.concatenate([data.X, data.Xt]), np.concatenate([data.y, np.full(len(data.Xt), -1)])
    settings = {"discriminant_weight": 0.3, "strength": 2.0, "unlabeled_weight": 0.0}
    alone = AnchoredGaussian(**settings).fit(data.X, data.y, text=data.text).scores(data.Xv)
    np.testing.assert_allclose(AnchoredGaussian(**settings).fit(X, y, text=data.text).scores(data.Xv), alone, atol=1e-4)
    counted = AnchoredGaussian(**settings | {"unlabeled_weight": 1.0}).fit(X, y, text=data.text).scores(data.Xv)
    assert np.abs(counted - alone).max() > 0.1


def test_given_labels_stay_and_the_others_are_found():
    data = few_shot(noise=0.6)
    X, y = np.concatenate([data.X, data.Xt]), np.concatenate([data.y, np.full(len(data.Xt), -1)])
    model = AnchoredGaussian(random_state=0).fit(X, y, text=data.text)
    np.testing.assert_array_equal(model.transduction_[: len(data.y)], data.y)
    assert np.mean(model.transduction_[len(data.y) :] == data.yt) > 0.9


def test_a_class_without_images_keeps_the_mean_of_its_text():
    data = few_shot()
    present = data.y < 4
    model = AnchoredGaussian(discriminant_weight=0.2, strength=4.0).fit(
        data.X[present], data.y[present], text=data.text
    )
    assert float(model.class_sizes_[4]) == 0
    text = unit(torch.from_numpy(data.text))
    prior = model.means_[4] - model.diagnosis_["slope"] * text[4]  # c, which all priors share
    kappa, n = 4.0, model.class_sizes_[0]
    average = torch.from_numpy(data.X[data.y == 0]).mean(dim=0)
    expected = (n * average + kappa * (prior + model.diagnosis_["slope"] * text[0])) / (n + kappa)
    np.testing.assert_allclose(model.means_[0], expected, atol=1e-5)
    assert float(model.spread_[4]) == pytest.approx(1 + SPREAD / kappa)
    assert model.score(data.Xt, data.yt) > 0.6  # the class that was never seen is found as well


def test_new_images_get_less_of_the_discriminant_where_classes_are_absent():
    data = few_shot(shots=40, noise=0.6)
    whole = AnchoredGaussian().fit(data.X, text=data.text)
    one = AnchoredGaussian().fit(data.X[data.y == 2], text=data.text)
    assert whole.new_image_weight_ == pytest.approx(whole.discriminant_weight_)
    assert one.new_image_weight_ < 0.3 * one.discriminant_weight_


@pytest.mark.parametrize("copies", ["one picture", "one picture per class"])
def test_copies_leave_no_variance_and_are_survived(copies):
    data = few_shot()
    rows = np.zeros(20, dtype=int) if copies == "one picture" else np.arange(20) % 5
    model = AnchoredGaussian(random_state=0).fit(data.X[rows], text=data.text)
    assert np.isfinite(model.predict_proba(data.Xt)).all()
    labeled = AnchoredGaussian(random_state=0).fit(data.X[np.arange(20) % 5], np.arange(20) % 5, text=data.text)
    assert (labeled.predict(data.X[:5]) == np.arange(5)).all()


def test_the_choice_refitted_is_the_model():
    data = few_shot()
    model = AnchoredGaussian(random_state=0).fit(data.X, data.y, text=data.text)
    again = AnchoredGaussian(**model.chosen()).fit(data.X, data.y, text=data.text)
    np.testing.assert_array_equal(again.scores(data.Xt), model.scores(data.Xt))
    assert model.diagnosis_["chosen_on"] == "cross-validation"


def test_one_label_per_class_leaves_nothing_to_choose_on():
    data = few_shot(shots=1)
    model = AnchoredGaussian(random_state=0).fit(data.X, data.y, text=data.text)
    assert model.diagnosis_["chosen_on"] == "nothing"
    assert model.score(data.Xt, data.yt) >= ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)


@pytest.mark.skipif(not REAL.exists(), reason="needs real CLIP features beside the repository")
@pytest.mark.parametrize("kind", ["natural", "half absent", "2 present", "100 images", "tail ×100"])
def test_never_far_below_zero_shot_on_folders_of_any_kind(kind):
    from bench.label_free import caltech, measure

    row = measure(caltech(), "anchored_gaussian", kind, seeds=2)
    assert row.transduction > -1
    assert row.new > -1
    if kind == "natural":
        assert min(row.transduction, row.new) > 1.5


@pytest.mark.parametrize("spread", [[1.0, 1.0, 1.0], [1.0, 1.5, 2.0]])
def test_log_densities_are_those_of_scipy_up_to_a_constant_of_the_image(spread):
    rng = np.random.default_rng(0)
    factor = np.linalg.cholesky(np.cov(rng.normal(size=(20, 4)).T))
    means, X = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    parts = (torch.from_numpy(part) for part in (means, factor, np.array(spread), np.ones(3)))
    classes, images = AnchoredClasses(*parts, 0.0), torch.from_numpy(X)
    sums = classes.expanded()
    expanded = images @ sums.slopes.T + sums.offsets - sums.radius(images)[:, None] * sums.curvatures
    expected = [multivariate_normal(m, h * factor @ factor.T).logpdf(X) for m, h in zip(means, spread, strict=True)]
    for found in (classes.log_density(images), expanded):
        difference = found.numpy() - np.stack(expected, axis=1)
        np.testing.assert_allclose(difference, np.repeat(difference[:, :1], 3, axis=1), atol=1e-10)


def test_coverage_is_the_number_of_classes_over_that_expected_of_equal_ones():
    assert _coverage(torch.full((4,), 250.0), 1000) == pytest.approx(1.0)
    assert _coverage(torch.tensor([500.0, 500.0, 0.0, 0.0]), 1000) == pytest.approx(0.5)
    assert _coverage(torch.ones(4), 4) == pytest.approx(1 / (1 - math.exp(-1)))
