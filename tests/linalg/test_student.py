"""Quantiles of Student's t against scipy.stats and closed forms."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from modalign.linalg.student import student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 1e6])
@pytest.mark.parametrize("probability", [0.025, 0.5, 0.9, 0.975])
def test_it_is_the_inverse_of_the_distribution_function(probability: float, degrees: float) -> None:
    t = student_quantile(probability, degrees)
    assert stats.t.cdf(t, degrees) == pytest.approx(probability, rel=1e-9)
    assert student_quantile(1 - probability, degrees) == pytest.approx(-t, rel=1e-9, abs=1e-12)


def test_with_one_degree_of_freedom_it_is_that_of_cauchy() -> None:
    assert student_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-9)
