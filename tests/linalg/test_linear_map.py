"""The result object of all linear fits."""

import pytest
import torch

from modalign.core.errors import InputError
from modalign.linalg.linear_map import LinearMap, relative_residual


def test_apply_is_the_affine_map_on_rows():
    weight, bias, X = torch.randn(3, 2), torch.randn(2), torch.randn(5, 3)
    plain = LinearMap(weight, None, 0.0, 1.0, 2)
    affine = LinearMap(weight, bias, 0.0, 1.0, 2)
    for i in range(5):
        for j in range(2):
            value = sum(X[i, k] * weight[k, j] for k in range(3))
            assert plain.apply(X)[i, j] == pytest.approx(float(value), abs=1e-5)
            assert affine.apply(X)[i, j] == pytest.approx(float(value + bias[j]), abs=1e-5)


def test_apply_follows_the_type_of_the_rows_and_computes_halves_in_float32():
    fit = LinearMap(torch.randn(3, 2), torch.randn(2), 0.0, 1.0, 2)
    assert fit.apply(torch.randn(4, 3).double()).dtype == torch.float64
    assert fit.apply(torch.randn(4, 3).half()).dtype == torch.float32


def test_apply_refuses_rows_of_another_width():
    with pytest.raises(InputError, match="width 3"):
        LinearMap(torch.randn(3, 2), None, 0.0, 1.0, 2).apply(torch.randn(4, 2))


def test_residual_of_nothing_to_fit():
    X, zero = torch.randn(4, 3), torch.zeros(4, 2)
    assert relative_residual(X, zero, torch.zeros(3, 2), None) == 0
    assert relative_residual(X, zero, torch.ones(3, 2), None) == float("inf")
