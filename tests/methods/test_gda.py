"""GDA against loops over its equations, its limits, classes without images and images without labels."""

from __future__ import annotations

import numpy as np
import pytest
from problems import few_shot

from modalign.methods.baselines.gda import GDA
from modalign.methods.baselines.zero_shot import ZeroShot


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def literal(X, P):
    """Weights and biases from the paper's equations, one image and class at a time, in float64."""
    n, C, d = len(X), P.shape[1], X.shape[1]
    means = [sum(P[i, k] * X[i] for i in range(n)) / P[:, k].sum() for k in range(C)]
    covariance = np.zeros((d, d))
    for i in range(n):
        for k in range(C):
            covariance += P[i, k] * np.outer(X[i] - means[k], X[i] - means[k]) / (n - 1)
    precision = d * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    return np.stack([precision @ m for m in means]), np.array([-m @ precision @ m / 2 for m in means])


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_scores_are_those_of_the_equations():
    data = few_shot()
    method = GDA(discriminant_weight=0.3).fit(data.X, data.y, text=data.text)
    X, T = unit(data.Xt.astype(float)), unit(data.text.astype(float))
    W, b = literal(unit(data.X.astype(float)), np.eye(5)[data.y])
    np.testing.assert_allclose(method.scores(data.Xt), 100 * X @ T.T + 0.3 * (X @ W.T + b), rtol=1e-4, atol=1e-3)


def test_without_text_the_discriminant_stands_alone():
    data = few_shot()
    W, b = literal(unit(data.X.astype(float)), np.eye(5)[data.y])
    found = GDA().fit(data.X, data.y).scores(data.Xt)
    np.testing.assert_allclose(found, unit(data.Xt.astype(float)) @ W.T + b, rtol=1e-4, atol=1e-3)


def test_without_labels_it_is_expectation_maximization():
    data = few_shot()
    method = GDA(rounds=3).fit(data.Xt, text=data.text)
    X, T = unit(data.Xt.astype(float)), unit(data.text.astype(float))
    zero_shot = 100 * X @ T.T
    W, b = literal(X, softmax(zero_shot))
    for _ in range(3):
        W, b = literal(X, softmax(zero_shot + X @ W.T + b))
    np.testing.assert_allclose(method.scores(data.Xt), zero_shot + X @ W.T + b, rtol=1e-3, atol=1e-2)
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)


def test_no_weight_is_zero_shot():
    data = few_shot()
    method = GDA(discriminant_weight=0.0).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(
        method.scores(data.Xt), ZeroShot().fit(data.X, text=data.text).scores(data.Xt), atol=1e-4
    )


def test_a_class_without_labels_has_the_mean_of_the_images_nearest_to_its_text():
    data = few_shot()
    seen = data.y != 2
    X, T = unit(data.X[seen].astype(float)), unit(data.text.astype(float))
    method = GDA(discriminant_weight=1.0, nearest_images=3).fit(data.X[seen], data.y[seen], text=data.text)
    nearest = X[np.argsort(-X @ T[2])[:3]].mean(axis=0)
    # w = precision μ for one precision: with W of the labeled classes unchanged, so is the precision
    means = np.stack([X[data.y[seen] == k].mean(axis=0) for k in (0, 1, 3, 4)])
    W, _ = literal(X, np.eye(5)[data.y[seen]][:, [0, 1, 3, 4]])
    np.testing.assert_allclose(method.weights_[[0, 1, 3, 4]], W, rtol=1e-3, atol=1e-2)
    assert method.biases_[2] == pytest.approx(-method.weights_[2].numpy() @ nearest / 2, rel=1e-4)
    np.testing.assert_allclose(means @ method.weights_[2].numpy(), W @ nearest, rtol=1e-3, atol=1e-2)


def test_one_image_of_each_class_is_enough():
    data = few_shot(shots=1, noise=0.6)
    assert GDA(random_state=0).fit(data.X, data.y, text=data.text).diagnosis_["chosen_on"] == "nothing"
    method = GDA(discriminant_weight=1.0).fit(data.X, data.y, text=data.text)
    assert method.score(data.Xt, data.yt) > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)
    assert np.isfinite(GDA().fit(data.X[[0, 0]], [0, 1]).scores(data.Xt)).all()  # copies have no covariance


@pytest.mark.parametrize("validated", [True, False])
def test_the_weight_is_chosen_where_labels_are_held_out(validated):
    data = few_shot(shots=8)
    validation = (data.Xv, data.yv) if validated else None
    method = GDA(random_state=0).fit(data.X, data.y, text=data.text, validation=validation)
    where = "validation" if validated else "cross-validation"
    prefix = where.replace("-", "_") + "_accuracy"
    assert method.diagnosis_["chosen_on"] == where
    assert method.diagnosis_[prefix] > method.diagnosis_[f"{prefix}_zero_shot"]
    again = GDA(random_state=1).set_params(**method.chosen()).fit(data.X, data.y, text=data.text)
    np.testing.assert_array_equal(again.scores(data.Xt), method.scores(data.Xt))
