"""The linear probe against scikit-learn's own, and its search for C against trying everything."""

from __future__ import annotations

import numpy as np
import pytest
from problems import few_shot
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from modalign.core.errors import InputError
from modalign.methods.baselines.linear_probe import COARSE, LinearProbe
from modalign.methods.contract.calibrating import without_calibration


def unit(a):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize("validated", [True, False])
def test_with_fewer_images_than_dimensions_it_is_the_same_problem(validated):
    """Zeros that are appended to all vectors change nothing, though the images then span fewer dimensions."""
    data = few_shot(shots=4, noise=1.0)
    assert len(data.X) < 24 + 40
    fitted = []
    for d in (24, 64):
        wide = [np.pad(a, ((0, 0), (0, d - 24))) for a in (data.X, data.Xv, data.Xt)]
        validation = (wide[1], data.yv) if validated else None
        model = LinearProbe(max_iterations=100).fit(wide[0], data.y, validation=validation)
        fitted.append((model.C_, model.scores(wide[2]), model.coef_[:, :24]))
    assert fitted[0][0] == fitted[1][0]
    np.testing.assert_allclose(fitted[0][1], fitted[1][1], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(fitted[0][2], fitted[1][2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_and_probabilities_are_those_of_scikit_learn(classes):
    data = few_shot(shots=8, classes=classes)
    with without_calibration():
        model = LinearProbe(C=20.0).fit(3 * data.X, data.y)
    reference = LogisticRegression(C=20.0, max_iter=1000).fit(unit(data.X), data.y)
    np.testing.assert_allclose(model.decision_function(data.Xt), reference.decision_function(unit(data.Xt)), atol=1e-4)
    np.testing.assert_allclose(model.predict_proba(data.Xt), reference.predict_proba(unit(data.Xt)), atol=1e-5)
    assert model.coef_.shape == (classes, 24)
    assert model.diagnosis_["chosen_on"] == "nothing"


def test_solution_is_stationary():
    """∂/∂V of ½‖V‖² + C Σ CE, V − C Σ (onehot − p) x̂, is within the tolerance of L-BFGS: 1e-4 of C n."""
    data = few_shot(shots=8)
    with without_calibration():
        model = LinearProbe(C=3.0).fit(data.X, data.y)
    X = unit(data.X)
    residual = np.eye(5)[data.y] - model.predict_proba(data.X)
    gradient = model.coef_ - 3.0 * residual.T @ X
    assert np.abs(gradient).max() <= 1.1e-4 * 3.0 * len(X)
    assert np.abs(model.coef_).max() > 100 * np.abs(gradient).max()


def grid(data) -> dict[float, tuple[float, float]]:
    """Exponent → (accuracy, −log-loss) on validation, for all 97 values of CLIP's sweep."""
    found = {}
    for exponent in np.arange(COARSE[0], COARSE[-1] + 1e-9, 1 / 8):
        reference = LogisticRegression(C=10.0**exponent, max_iter=1000).fit(unit(data.X), data.y)
        found[float(exponent)] = (
            reference.score(unit(data.Xv), data.yv),
            -log_loss(data.yv, reference.predict_proba(unit(data.Xv))),
        )
    return found


@pytest.mark.slow
def test_halving_finds_a_strength_as_good_as_the_full_sweep():
    data = few_shot(shots=4, noise=2.0)
    model = LinearProbe().fit(data.X, data.y, validation=(data.Xv, data.yv))
    tried = grid(data)
    exponent = np.log10(model.diagnosis_["C"])
    assert exponent * 8 == pytest.approx(round(exponent * 8), abs=1e-6)
    assert model.diagnosis_["validation_accuracy"] == pytest.approx(tried[round(exponent * 8) / 8][0])
    best = max(accuracy for accuracy, _ in tried.values())
    assert model.diagnosis_["validation_accuracy"] >= best - 1 / len(data.yv)  # at most one image behind


def test_cross_validation_and_nothing():
    several, single = few_shot(shots=6), few_shot(shots=1)
    model = LinearProbe(max_iterations=100).fit(several.X, several.y)
    assert model.diagnosis_["chosen_on"] == "cross-validation"
    assert 0 < model.diagnosis_["cross_validation_accuracy"] <= 1
    assert model.diagnosis_["C"] != 1.0
    model = LinearProbe().fit(single.X, single.y)
    assert (model.diagnosis_["C"], model.diagnosis_["chosen_on"]) == (1.0, "nothing")


def test_validation_decides_between_a_strong_and_a_weak_penalty():
    """Labels that only a weak penalty can follow, and noise that only a strong one survives."""
    rng = np.random.default_rng(0)
    data = few_shot(shots=20, noise=0.3)
    clean = LinearProbe(max_iterations=200).fit(data.X, data.y, validation=(data.Xv, data.yv)).diagnosis_["C"]
    wrong = np.where(rng.random(len(data.y)) < 0.6, rng.integers(5, size=len(data.y)), data.y)
    noisy = LinearProbe(max_iterations=200).fit(data.X, wrong, validation=(data.Xv, data.yv)).diagnosis_["C"]
    assert noisy < clean


def test_text_is_ignored_but_names_the_classes():
    data = few_shot()
    seen = data.y != 2
    model = LinearProbe(C=5.0).fit(data.X[seen], data.y[seen], text=data.text)
    assert (model.predict(data.Xt) != 2).all()
    without = LinearProbe(C=5.0).fit(data.X[seen], data.y[seen])
    np.testing.assert_allclose(np.delete(model.scores(data.Xt), 2, axis=1), without.scores(data.Xt), atol=1e-4)
    with pytest.raises(InputError, match="at least 2 classes"):
        LinearProbe().fit(data.X[data.y == 1], data.y[data.y == 1], text=data.text)


def test_validation_labels_of_a_class_without_training_images_count_as_wrong():
    data = few_shot(shots=8, noise=0.2)
    seen = data.y != 2
    model = LinearProbe(max_iterations=100).fit(
        data.X[seen], data.y[seen], text=data.text, validation=(data.Xv, data.yv)
    )
    assert model.diagnosis_["validation_accuracy"] == pytest.approx(model.score(data.Xv, data.yv))
    assert model.diagnosis_["validation_accuracy"] <= 0.8


def test_stopping_early_is_admitted():
    data = few_shot(shots=8)
    assert LinearProbe(C=1e4, max_iterations=2).fit(data.X, data.y).diagnosis_["converged"] is False
    assert LinearProbe(C=1.0).fit(data.X, data.y).diagnosis_["converged"] is True


def test_images_that_are_all_alike_get_equal_probabilities():
    X, y = np.tile(np.eye(4, dtype=np.float32)[:1], (6, 1)), np.arange(6) % 3
    np.testing.assert_allclose(LinearProbe().fit(X, y).predict_proba(X), 1 / 3, atol=1e-6)
