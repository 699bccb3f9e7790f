"""Ridge: known solutions, scikit-learn, metamorphic laws, limits, gradients, failure points.

The fixture builds X from an SVD, so that the ridge solution is known without solving anything; the metamorphic tests
follow scikit-learn's own for Ridge.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from modalign.core.errors import InputError
from modalign.linalg.ridge import ridge_weights

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
@pytest.mark.parametrize("lam", [1e-6, LAM, 1e3])
def test_the_known_solution_is_found(shape, lam):
    X, Y, solution = known(*shape)
    assert torch.allclose(ridge_weights(X, Y, lam), solution(lam), atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_scikit_learn_agrees(shape):
    X, Y = torch.randn(*shape, dtype=torch.float64) + 2, torch.randn(shape[0], 3, dtype=torch.float64) - 1
    other = Ridge(alpha=LAM, fit_intercept=False).fit(X.numpy(), Y.numpy())
    assert np.allclose(ridge_weights(X, Y, LAM), other.coef_.T, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_side_by_side_twice_share_the_coefficients(shape):
    X, Y, _ = known(*shape)
    once, twice = ridge_weights(X, Y, LAM), ridge_weights(torch.hstack([X, X]), Y, 2 * LAM)
    assert torch.allclose(twice, torch.vstack([once, once]) / 2, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_stacked_twice_need_twice_the_penalty(shape):
    X, Y, _ = known(*shape)
    twice = ridge_weights(torch.vstack([X, X]), torch.vstack([Y, Y]), 2 * LAM)
    assert torch.allclose(twice, ridge_weights(X, Y, LAM), atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotations_scales_and_orders_of_the_data(shape):
    X, Y, _ = known(*shape)
    weight = ridge_weights(X, Y, LAM)
    Q = torch.linalg.qr(torch.randn(shape[1], shape[1], dtype=torch.float64))[0]
    assert torch.allclose(ridge_weights(X @ Q, Y, LAM), Q.T @ weight, atol=1e-10)
    assert torch.allclose(ridge_weights(3 * X, Y, 9 * LAM), weight / 3, atol=1e-10)
    order = torch.randperm(shape[0])
    assert torch.allclose(ridge_weights(X[order], Y[order], LAM), weight, atol=1e-10)


def test_primal_and_dual_forms_agree_where_both_apply():
    """Rows of zeros change nothing but the shape, so they carry a wide problem into the primal form."""
    X, Y, _ = known(12, 40)
    tall, padded = torch.vstack([X, torch.zeros(40, 40).double()]), torch.vstack([Y, torch.zeros(40, 3).double()])
    assert torch.allclose(ridge_weights(tall, padded, LAM), ridge_weights(X, Y, LAM), atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_limits_of_the_penalty(shape):
    X, Y, _ = known(*shape)
    assert torch.allclose(ridge_weights(X, Y, 1e-10), torch.linalg.pinv(X) @ Y, atol=1e-8)
    assert torch.allclose(1e8 * ridge_weights(X, Y, 1e8), X.T @ Y, rtol=1e-5, atol=1e-5)


def test_float32_keeps_its_digits_in_an_ill_conditioned_problem():
    """The Gram matrix squares a condition of 1e4; in float32 nothing would be left of it."""
    U = torch.linalg.qr(torch.randn(200, 8, dtype=torch.float64))[0]
    X = (U * torch.logspace(0, -4, 8, dtype=torch.float64)).float()
    Y = torch.randn(200, 2)
    exact = torch.linalg.lstsq(X.double(), Y.double()).solution
    weight = ridge_weights(X, Y, 1e-15)
    assert weight.dtype == torch.float32
    assert torch.allclose(weight.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_fit_of_the_same_numbers(dtype):
    X, Y = torch.randn(30, 5).to(dtype), torch.randn(30, 2).to(dtype)
    assert torch.equal(ridge_weights(X, Y, LAM), ridge_weights(X.float(), Y.float(), LAM))


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_weights_are_differentiable_in_everything_and_batched(shape):
    X = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    Y = torch.randn(2, shape[0], 2, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ridge_weights, (X, Y, lam))
    for k in range(2):
        assert torch.allclose(ridge_weights(X, Y, lam)[k], ridge_weights(X[k], Y[k], float(lam[k].detach())))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, Y: ridge_weights(X, Y, 0.0), "every λ > 0, got 0"),
        (lambda X, Y: ridge_weights(X, Y, float("nan")), "every λ > 0, got nan"),
        (lambda X, Y: ridge_weights(torch.ones(4, 2), Y[:4], 1e-300), "take a larger one"),
        (lambda X, Y: ridge_weights(X, Y[:2], 1.0), "Expected X"),
        (lambda X, Y: ridge_weights(X[:0], Y[:0], 1.0), "Expected X"),
        (lambda X, Y: ridge_weights(X[:, :0], Y, 1.0), "Expected X"),
        (lambda X, Y: ridge_weights(torch.full_like(X, float("nan")), Y, 1.0), "finite numbers in X"),
        (lambda X, Y: ridge_weights(X, Y / 0, 1.0), "finite numbers in Y"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.randn(6, 4), torch.randn(6, 2))
