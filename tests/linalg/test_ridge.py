"""Ridge: known solutions, scikit-learn, metamorphic laws, brute-force leave-one-out, limits, failure points.

The fixture builds X from an SVD, so that the least-squares and the ridge solution are known without solving anything;
the metamorphic tests follow scikit-learn's own for Ridge.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from modalign.core.errors import InputError
from modalign.linalg import ridge as module
from modalign.linalg.ridge import RidgeFactorization, ridge, ridge_weights

SHAPES = [(40, 12), (12, 40), (20, 20)]
LAM = 0.7


def known(n, d, dy=3):
    """X = U S Vᵀ with known factors, Y, and the ridge solution V S / (S² + λ) Uᵀ Y as a function of λ."""
    k = min(n, d)
    U = torch.linalg.qr(torch.randn(n, k, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(d, k, dtype=torch.float64))[0]
    S = torch.linspace(1, 5, k, dtype=torch.float64)
    Y = torch.randn(n, dy, dtype=torch.float64)
    return (U * S) @ V.T, Y, lambda lam: V @ ((S / (S.square() + lam))[:, None] * (U.T @ Y))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lam", [0, 1e-6, LAM, 1e3])
def test_the_known_solution_is_found(shape, lam):
    X, Y, solution = known(*shape)
    fit = ridge(X, Y, lam)
    assert torch.allclose(fit.weight, solution(lam), atol=1e-11)
    assert fit.bias is None
    assert fit.rank == min(shape)
    assert fit.residual == pytest.approx(float((X @ fit.weight - Y).norm() / Y.norm()), abs=1e-8)
    if lam:
        assert torch.allclose(ridge_weights(X, Y, lam), fit.weight, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [False, True])
def test_scikit_learn_agrees(shape, intercept):
    X, Y = torch.randn(*shape, dtype=torch.float64) + 2, torch.randn(shape[0], 3, dtype=torch.float64) - 1
    fit = ridge(X, Y, LAM, intercept=intercept)
    other = Ridge(alpha=LAM, fit_intercept=intercept).fit(X.numpy(), Y.numpy())
    assert np.allclose(fit.weight, other.coef_.T, atol=1e-10)
    assert np.allclose(fit.apply(X), other.predict(X.numpy()), atol=1e-10)
    if intercept:
        assert np.allclose(fit.bias, other.intercept_, atol=1e-10)
    assert fit.residual == pytest.approx(float((fit.apply(X) - Y).norm() / Y.norm()), abs=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [False, True])
def test_features_side_by_side_twice_share_the_coefficients(shape, intercept):
    X, Y, _ = known(*shape)
    X = X + 1
    once = ridge(X, Y, LAM, intercept=intercept)
    twice = ridge(torch.hstack([X, X]), Y, 2 * LAM, intercept=intercept)
    assert torch.allclose(twice.weight, torch.vstack([once.weight, once.weight]) / 2, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [False, True])
def test_rows_stacked_twice_need_twice_the_penalty(shape, intercept):
    X, Y, _ = known(*shape)
    X = X + 1
    once = ridge(X, Y, LAM, intercept=intercept)
    twice = ridge(torch.vstack([X, X]), torch.vstack([Y, Y]), 2 * LAM, intercept=intercept)
    assert torch.allclose(twice.weight, once.weight, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotations_scales_and_orders_of_the_data(shape):
    X, Y, _ = known(*shape)
    weight = ridge(X, Y, LAM).weight
    Q = torch.linalg.qr(torch.randn(shape[1], shape[1], dtype=torch.float64))[0]
    assert torch.allclose(ridge(X @ Q, Y, LAM).weight, Q.T @ weight, atol=1e-10)
    assert torch.allclose(ridge(3 * X, Y, 9 * LAM).weight, weight / 3, atol=1e-10)
    order = torch.randperm(shape[0])
    assert torch.allclose(ridge(X[order], Y[order], LAM).weight, weight, atol=1e-10)


def test_primal_and_dual_forms_agree_where_both_apply():
    """Rows of zeros change nothing but the shape, so they carry a wide problem into the primal form."""
    X, Y, _ = known(12, 40)
    dual, tall = RidgeFactorization(X), RidgeFactorization(torch.vstack([X, torch.zeros(40, 40).double()]))
    assert (dual.primal, tall.primal) == (False, True)
    padded = torch.vstack([Y, torch.zeros(40, 3).double()])
    assert torch.allclose(tall.solve(padded, LAM).weight, dual.solve(Y, LAM).weight, atol=1e-10)
    assert tall.rank == dual.rank == 12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [False, True])
def test_the_path_is_made_of_single_fits(shape, intercept):
    X, Y, _ = known(*shape)
    lams = [0.0, 1e-3, LAM, 50.0]
    for lam, fit in zip(lams, RidgeFactorization(X + 1, intercept=intercept).path(Y, lams), strict=True):
        single = ridge(X + 1, Y, lam, intercept=intercept)
        assert torch.allclose(fit.weight, single.weight, atol=1e-10)
        assert fit.residual == pytest.approx(single.residual, abs=1e-9)


@pytest.mark.parametrize("shape", [(15, 4), (9, 20), (8, 8)])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", [1e-6, LAM, 30.0])
def test_leave_one_out_is_what_leaving_one_out_gives(shape, intercept, lam):
    X, Y, _ = known(*shape, dy=2)
    X, Y = X + 1, Y + 3
    predictions = []
    for i in range(len(X)):
        rest = torch.arange(len(X)) != i
        predictions.append(ridge(X[rest], Y[rest], lam, intercept=intercept).apply(X[i : i + 1]))
    predictions = torch.cat(predictions)
    factorization = RidgeFactorization(X, intercept=intercept)
    tolerance = 1e-9 * float(predictions.abs().max())
    assert torch.allclose(factorization.leave_one_out_predictions(Y, lam), predictions, atol=tolerance, rtol=1e-7)
    brute = float((predictions - Y).square().mean())
    assert float(factorization.leave_one_out(Y, [lam])[0]) == pytest.approx(brute, rel=1e-7)


def test_leave_one_out_with_identical_rows():
    X, Y, _ = known(6, 20)
    X, Y = X.repeat(2, 1), Y.repeat(2, 1)
    errors = RidgeFactorization(X).leave_one_out(Y, [1e-4, 1e-2])
    assert (errors < 1e-4).all(), "each row is predicted by its twin"


@pytest.mark.parametrize("shape", SHAPES)
def test_limits_of_the_penalty(shape):
    X, Y, _ = known(*shape)
    least_squares = torch.linalg.pinv(X) @ Y
    assert torch.allclose(ridge(X, Y, 1e-10).weight, least_squares, atol=1e-8)
    assert torch.allclose(ridge(X, Y, 0).weight, least_squares, atol=1e-10)
    assert torch.allclose(1e8 * ridge(X, Y, 1e8).weight, X.T @ Y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_rank_deficient_data_give_the_fit_of_minimum_norm(shape):
    X, Y, _ = known(*shape)
    X = X @ torch.randn(shape[1], 5, dtype=torch.float64) @ torch.randn(5, shape[1], dtype=torch.float64)
    fit = ridge(X, Y, 0)
    assert fit.rank == 5
    assert torch.allclose(fit.weight, torch.linalg.pinv(X, rtol=1e-10) @ Y, atol=1e-8)
    assert math.isfinite(fit.condition)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lam", [0, LAM])
def test_condition_is_that_of_the_stacked_least_squares_problem(shape, lam):
    X, Y, _ = known(*shape)
    stacked = torch.vstack([X, math.sqrt(lam) * torch.eye(shape[1], dtype=torch.float64)])
    singular = torch.linalg.svdvals(stacked)
    expected = singular[0] / singular[singular > 1e-9 * singular[0]][-1]
    assert ridge(X, Y, lam).condition == pytest.approx(float(expected), rel=1e-8)


def test_float32_keeps_its_digits_in_an_ill_conditioned_problem():
    """The Gram matrix squares a condition of 1e4; in float32 nothing would be left of it."""
    U = torch.linalg.qr(torch.randn(200, 8, dtype=torch.float64))[0]
    X = (U * torch.logspace(0, -4, 8, dtype=torch.float64)).float()
    Y = torch.randn(200, 2)
    exact = torch.linalg.lstsq(X.double(), Y.double()).solution
    fit = ridge(X, Y, 0)
    assert fit.weight.dtype == torch.float32
    assert torch.allclose(fit.weight.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_fit_of_the_same_numbers(dtype):
    X, Y = torch.randn(30, 5).to(dtype), torch.randn(30, 2).to(dtype)
    assert torch.equal(ridge(X, Y, LAM).weight, ridge(X.float(), Y.float(), LAM).weight)
    assert ridge_weights(X, Y, LAM).dtype == torch.float32


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
@pytest.mark.parametrize("intercept", [False, True])
def test_rows_are_read_in_blocks_of_any_size(monkeypatch, shape, intercept):
    X, Y = torch.randn(*shape), torch.randn(shape[0], 2)
    whole = RidgeFactorization(X, intercept=intercept)
    expected = whole.solve(Y, LAM).weight, whole.leave_one_out(Y, [LAM]), whole.leave_one_out_predictions(Y, LAM)
    monkeypatch.setattr(module, "_CHUNK", 4 * shape[1])
    blocks = RidgeFactorization(X, intercept=intercept)
    got = blocks.solve(Y, LAM).weight, blocks.leave_one_out(Y, [LAM]), blocks.leave_one_out_predictions(Y, LAM)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_weights_are_differentiable_in_everything_and_batched(shape):
    X = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    Y = torch.randn(2, shape[0], 2, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ridge_weights, (X, Y, lam))
    for k in range(2):
        single = ridge(X[k].detach(), Y[k].detach(), float(lam[k].detach()))
        assert torch.allclose(ridge_weights(X, Y, lam)[k], single.weight, atol=1e-12)


def test_one_row_and_constant_columns():
    X, Y = torch.randn(1, 4).double(), torch.randn(1, 2).double()
    assert torch.allclose(ridge(X, Y, 0).apply(X), Y)
    centered = ridge(X, Y, 1.0, intercept=True)
    assert torch.equal(centered.weight, torch.zeros(4, 2).double())
    assert torch.allclose(centered.bias, Y[0])
    constant = ridge(torch.ones(5, 2).double(), torch.randn(5, 1).double(), 0.0, intercept=True)
    assert (constant.rank, constant.condition) == (0, math.inf)
    assert torch.equal(constant.weight, torch.zeros(2, 1).double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, Y: ridge(X, Y, -1.0), "finite and ≥ 0"),
        (lambda X, Y: ridge(X, Y, float("nan")), "finite and ≥ 0"),
        (lambda X, Y: ridge(X, Y[:3], 1.0), "same rows"),
        (lambda X, Y: ridge(X[:0], Y[:0], 1.0), "at least one"),
        (lambda X, Y: ridge(X[:, :0], Y, 1.0), "at least one row and one column"),
        (lambda X, Y: ridge(torch.full_like(X, float("nan")), Y, 1.0), "finite numbers in X"),
        (lambda X, Y: ridge(X, Y / 0, 1.0), "finite numbers in Y"),
        (lambda X, Y: ridge(X[0], Y, 1.0), "2 dimensions"),
        (lambda X, Y: RidgeFactorization(X).leave_one_out(Y, [0.0]), "> 0"),
        (lambda X, Y: RidgeFactorization(X).leave_one_out(Y[:3], [1.0]), "one row of Y"),
        (lambda X, Y: RidgeFactorization(X).path(Y, []), "at least one λ"),
        (lambda X, Y: ridge_weights(X, Y, 0.0), "every λ > 0"),
        (lambda X, Y: ridge_weights(torch.ones(4, 2), Y[:4], 1e-300), "take a larger one"),
        (lambda X, Y: ridge_weights(X, Y[:2], 1.0), "Expected X"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.randn(6, 4), torch.randn(6, 2))
