"""The temperature of methods that hold no image out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.linalg.calibration import expected_calibration_error, fit_temperature, sharpened
from modalign.methods import METHODS, method_class
from modalign.methods.contract.calibrating import (
    SPREADS,
    lone_labels_temperature,
    mean_margin,
    without_calibration,
)
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.selection import folds
from modalign.testing import few_shot_problem

REFITTED = sorted(name for name in METHODS if method_class(name).refits_to_calibrate)


@pytest.fixture(scope="module")
def problem():
    """Four labels per class, none of which is held out, and test images."""
    X, y, Xv, yv, Xt, yt, T = few_shot_problem(shots=4, noise=2.0, seed=3)
    return X, y, np.concatenate([Xv, Xt]), np.concatenate([yv, yt]), T


def test_there_are_methods_that_refit():
    assert {
        "zero_shot",
        "tip_adapter",
        "tip_adapter_f",
        "lp_plus_plus",
        "clap",
        "task_res",
        "clip_adapter",
        "cross_modal_probe",
        "wise_ft",
        "linear_probe",
    } == set(REFITTED)


@pytest.mark.parametrize("name", REFITTED)
def test_probabilities_are_closer_to_the_shares_of_right_answers_and_answers_stay(name, problem):
    X, y, Xt, yt, T = problem
    calibrated = method_class(name)(random_state=0, **_few(name)).fit(X, y, text=T)
    with without_calibration():
        plain = method_class(name)(random_state=0, **_few(name)).fit(X, y, text=T)
    assert plain.temperature_ == 1.0
    assert calibrated.temperature_ != 1.0
    np.testing.assert_array_equal(calibrated.scores(Xt), plain.scores(Xt))

    def error(method):
        return expected_calibration_error(torch.from_numpy(method.predict_proba(Xt)), torch.from_numpy(yt))

    assert error(calibrated) <= error(plain) + 0.02


def test_the_temperature_is_that_of_all_scores_of_models_without_the_fold(problem):
    X, y, _, _, T = problem
    method = ma.CLAP(steps=20, random_state=0).fit(X, y, text=T)
    fold = folds(torch.from_numpy(y), random_state=0).numpy()
    scores, truth, gains = [], [], []
    for k in range(fold.max() + 1):
        out = fold == k
        with without_calibration():
            other = ma.CLAP(steps=20, random_state=0).fit(X[~out], y[~out], text=T)
        scores.append(other.scores(X[out]))
        truth.append(y[out])
        gains.append(np.log2(np.bincount(y)[y[out]] / np.bincount(y[~out])[y[out]]))
    logits = torch.from_numpy(np.concatenate(scores))
    scale = 1 / fit_temperature(logits, torch.from_numpy(np.concatenate(truth)))
    expected = 1 / sharpened(logits.double(), scale, float(2 ** np.concatenate(gains).mean()))
    assert method.temperature_ == pytest.approx(expected, rel=1e-5)


def test_zero_shot_is_calibrated_on_the_labels_that_it_does_not_learn_from(problem):
    X, y, Xt, yt, T = problem
    one_label = ma.ZeroShot(logit_scale=300).fit(X[:1], y[:1], text=T)
    all_labels = ma.ZeroShot(logit_scale=300).fit(X, y, text=T)
    best = fit_temperature(torch.from_numpy(all_labels.scores(Xt)), torch.from_numpy(yt))

    def off(method):
        return abs(np.log(method.temperature_ / best))

    assert off(all_labels) < 0.3 < off(one_label)
    assert ma.ZeroShot().fit(X, text=T).temperature_ == 1.0  # nothing to fit it to


@pytest.mark.parametrize("name", [*REFITTED, "lfa", "cmm"])
def test_one_label_per_class_without_text_gets_its_temperature_from_the_class_spread(name):
    X, y, *_ = few_shot_problem(shots=1, seed=1)
    method = method_class(name)(random_state=0, **_few(name)).fit(X, y)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    between = (unit @ unit.T)[~np.eye(len(X), dtype=bool)]
    scores = method.scores(X)
    right = scores[np.arange(len(y)), y]
    margin = (right - (scores.sum(axis=1) - right) / (scores.shape[1] - 1)).mean()
    assert method.temperature_ == pytest.approx(SPREADS * margin * between.std() / (1 - between.mean()), rel=1e-3)


def test_one_label_per_class_without_text_depends_on_angles_and_scales_with_the_scores():
    def problem(X, y):
        return Problem(X, y, 8, None, None, None)

    X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    lengths = torch.rand(8, 1, generator=torch.Generator().manual_seed(2)) + 0.5
    scores, y = torch.randn(8, 8, generator=torch.Generator().manual_seed(3)) + 3 * torch.eye(8), torch.arange(8)
    expected = lone_labels_temperature(problem(X, y), scores, 100)
    for other in (X @ rotation, X * lengths):
        assert lone_labels_temperature(problem(other, y), scores, 100) == pytest.approx(expected, rel=1e-5)
    assert lone_labels_temperature(problem(X, y), 7 * scores + 5, 100) == pytest.approx(7 * expected, rel=1e-5)
    assert lone_labels_temperature(problem(X[:1].repeat(8, 1), y), scores, 100) == 1.0
    own = torch.nn.functional.normalize(X, dim=1)
    cosines = own @ own.T
    assert mean_margin(cosines, y) == pytest.approx(1 - float(cosines[~torch.eye(8, dtype=bool)].mean()), rel=1e-5)


def test_refits_leave_the_method_as_it_was_fitted(problem):
    X, y, _, _, T = problem
    method = ma.TipAdapterF(epochs=2, random_state=0).fit(X, y, text=T)
    with without_calibration():
        plain = ma.TipAdapterF(epochs=2, random_state=0).fit(X, y, text=T)
    for name, value in vars(plain).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(method, name), value, rtol=0, atol=0)
    assert method.diagnosis_ == plain.diagnosis_


def _few(name: str) -> dict[str, int]:
    """Short training."""
    if name == "linear_probe":
        return {"C": 3.0}  # its own choice of C brings a temperature of its own
    return {"steps": 20} if name in ("clap", "lp_plus_plus", "cmm", "cross_modal_probe", "wise_ft") else {}
