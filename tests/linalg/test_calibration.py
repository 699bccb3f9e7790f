"""Temperature and calibration error: against scipy and plain loops, by laws, and where they could fail."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from modalign.core.errors import InputError
from modalign.linalg import scale_search
from modalign.linalg.calibration import expected_calibration_error, fit_temperature, sharpened


def sample(n=2000, classes=10, true=3.0, seed=0):
    """Logits whose labels are drawn at temperature ``true``."""
    generator = torch.Generator().manual_seed(seed)
    z = 6 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    y = torch.multinomial((z / true).softmax(dim=1), 1, generator=generator)[:, 0]
    return z, y


def nll(z, y, temperature):
    z = np.asarray(z, dtype=np.float64) / temperature
    return float(np.mean(logsumexp(z, axis=1) - z[np.arange(len(y)), np.asarray(y)]))


def test_the_temperature_is_the_minimum_that_scipy_finds():
    z, y = sample()
    best = minimize_scalar(lambda t: nll(z, y, math.exp(t)), bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    got = fit_temperature(z, y)
    assert got == pytest.approx(math.exp(best.x), rel=1e-6)
    assert nll(z, y, got) == pytest.approx(best.fun, rel=1e-10)


@pytest.mark.parametrize("true", [3.0, 10.0, 40.0])
def test_a_search_that_starts_on_a_part_of_the_rows_ends_at_the_same_temperature(true, monkeypatch):
    z, y = sample(n=500, true=true)
    passes, at = [], scale_search.ScaledState.at
    monkeypatch.setattr(scale_search.ScaledState, "at", lambda z, y, beta: passes.append(len(z)) or at(z, y, beta))
    whole = fit_temperature(z, y)
    before = len(passes)
    monkeypatch.setattr(scale_search, "_PILOT", 500)
    assert fit_temperature(z, y) == pytest.approx(whole, rel=1e-8)
    assert passes[before:].count(500) < before


def test_the_temperature_that_made_the_labels_is_found_and_calibrates():
    z, y = sample(n=20_000, true=2.5)
    got = fit_temperature(z, y)
    assert got == pytest.approx(2.5, rel=0.03)
    before, after = (expected_calibration_error((z / T).softmax(dim=1), y) for T in (1, got))
    assert after < 0.015 < 0.1 < before


def test_scaling_shifting_and_reordering_the_logits():
    z, y = sample(n=500)
    value = fit_temperature(z, y)
    assert fit_temperature(1e-3 * z, y) == pytest.approx(1e-3 * value, rel=1e-8)
    assert fit_temperature(1e4 * z, y) == pytest.approx(1e4 * value, rel=1e-8)
    assert fit_temperature(z + torch.randn(500, 1), y) == pytest.approx(value, rel=1e-8)
    rows, columns = torch.randperm(500), torch.randperm(10)
    assert fit_temperature(z[rows][:, columns], columns.argsort()[y[rows]]) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("classes", [2, 7])
def test_perfect_separation_stays_as_confident_as_n_examples_allow(classes):
    z, _ = sample(n=200, classes=classes)
    y = z.argmax(dim=1)
    got = fit_temperature(z, y)
    assert 0 < got < math.inf
    confidence = (z / got).softmax(dim=1).amax(dim=1).mean()
    assert float(confidence) == pytest.approx(201 / 202, rel=1e-9)


def test_one_class_in_the_labels_is_allowed():
    z, _ = sample(n=100, classes=3)
    y = torch.zeros(100, dtype=torch.long)
    got = fit_temperature(z, y)
    assert math.isfinite(got)
    assert nll(z, y, got) <= nll(z, y, 1)


def test_constant_logits_give_equal_probabilities_and_no_failure():
    z, _ = sample(n=200)
    against = fit_temperature(z, z.argmin(dim=1))
    assert nll(z, z.argmin(dim=1), against) == pytest.approx(math.log(10), rel=1e-3)
    assert fit_temperature(torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])) == 1.0


def test_ties_on_top_do_not_send_the_temperature_to_zero():
    z = torch.tensor([[1.0, 1, 0], [0, 2, 2], [3, 0, 0]]).repeat(10, 1)
    got = fit_temperature(z, torch.tensor([0, 2, 0]).repeat(10))
    assert 0.01 < got < 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_float64(dtype):
    z, y = sample(n=500)
    z = z.to(dtype)
    assert fit_temperature(z, y) == pytest.approx(fit_temperature(z.double(), y), rel=1e-9)


def test_logits_of_any_size_do_not_overflow():
    z, y = sample(n=300)
    got = fit_temperature(1e30 * z.float(), y)
    assert got == pytest.approx(1e30 * fit_temperature(z.float(), y), rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "labels in"),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1]), "labels in"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), "3 integer labels"),
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), "C ≥ 2"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "n ≥ 1"),
        (torch.full((3, 2), float("nan")), torch.zeros(3, dtype=torch.long), "NaN or infinity"),
        (torch.full((3, 2), float("inf")), torch.zeros(3, dtype=torch.long), "NaN or infinity"),
        (np.zeros((3, 2)), torch.zeros(3, dtype=torch.long), "torch tensor"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(logits, labels, message):
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, labels)


def test_calibration_error_is_the_sum_over_bins_as_published():
    z, y = sample(n=1000)
    p = z.softmax(dim=1)
    confidence, right = p.max(dim=1).values.numpy(), (p.argmax(dim=1) == y).numpy()
    expected = 0.0
    for m in range(1, 16):  # B_m = {i : conf_i in ((m − 1)/M, m/M]}
        inside = ((m - 1) / 15 < confidence) & (confidence <= m / 15)
        if inside.any():
            expected += inside.sum() / 1000 * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(p, y) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_cases():
    y = torch.tensor([0, 0, 0, 1])
    p = torch.tensor([[0.75, 0.25]]).repeat(4, 1)
    assert expected_calibration_error(p, y) == pytest.approx(0, abs=1e-12)
    certain = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert expected_calibration_error(certain, y) == pytest.approx(0.25)
    order = torch.tensor([3, 1, 0, 2])
    assert expected_calibration_error(p[order], y[order]) == pytest.approx(0, abs=1e-12)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(InputError, match="use softmax"):
        expected_calibration_error(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))


def test_no_growth_leaves_the_scale_as_it_is():
    logits, _ = sample(n=50)
    assert sharpened(logits, 0.7, 1.0) == 0.7
    assert sharpened(logits, 0.7, 0.5) == 0.7
    assert sharpened(logits, 0.7, 2.0) > 0.7
