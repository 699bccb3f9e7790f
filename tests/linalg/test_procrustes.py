"""Procrustes: scipy, optimality, equivariances, the null space, thin factors, failure points."""

import numpy as np
import pytest
import scipy.linalg
import torch

from modalign.core.errors import InputError
from modalign.linalg.procrustes import procrustes


def orthonormal(rows, columns):
    """A matrix with orthonormal rows or columns, whichever are fewer."""
    tall = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), dtype=torch.float64))[0]
    return tall if rows >= columns else tall.T


def rank_of(isometry):
    """The number of directions that a partial isometry does not map to zero."""
    return round(float(isometry.square().sum()))


def data(n, dx, dy):
    return torch.randn(n, dx, dtype=torch.float64), torch.randn(n, dy, dtype=torch.float64)


def test_scipy_agrees_between_spaces_of_one_width():
    X, Y = data(50, 7, 7)
    assert np.allclose(procrustes(X, Y), scipy.linalg.orthogonal_procrustes(X.numpy(), Y.numpy())[0], atol=1e-10)


@pytest.mark.parametrize(("dx", "dy"), [(9, 4), (4, 9)])
def test_scipys_polar_factor_agrees_between_spaces_of_different_width(dx, dy):
    X, Y = data(50, dx, dy)
    expected = scipy.linalg.polar((X.T @ Y).numpy())[0]
    assert np.allclose(procrustes(X, Y), expected, atol=1e-10)


@pytest.mark.parametrize(("dx", "dy"), [(6, 6), (4, 9)])
def test_no_other_isometry_fits_better(dx, dy):
    X, Y = data(40, dx, dy)
    best = float((X @ procrustes(X, Y) - Y).norm())
    near = scipy.linalg.expm(0.1 * (lambda K: K - K.T)(np.random.randn(dy, dy)))
    others = [orthonormal(dx, dy) for _ in range(20)] + [procrustes(X, Y) @ torch.from_numpy(near)]
    assert all(float((X @ other - Y).norm()) > best for other in others)


def test_a_rotation_is_recovered():
    X, _ = data(40, 5, 5)
    R = orthonormal(5, 5)
    assert torch.allclose(procrustes(X, X @ R), R, atol=1e-12)


@pytest.mark.parametrize(("n", "dx", "dy"), [(50, 6, 6), (50, 7, 4), (3, 7, 5)])
def test_symmetries(n, dx, dy):
    X, Y = data(n, dx, dy)
    W = procrustes(X, Y)
    P, Q = orthonormal(dx, dx), orthonormal(dy, dy)
    assert torch.allclose(procrustes(Y, X), W.T, atol=1e-10)
    assert torch.allclose(procrustes(X @ P, Y @ Q), P.T @ W @ Q, atol=1e-10)
    assert torch.allclose(procrustes(3 * X, 0.2 * Y), W, atol=1e-10)
    order = torch.randperm(n)
    assert torch.allclose(procrustes(X[order], Y[order]), W, atol=1e-10)


@pytest.mark.parametrize(("dx", "dy"), [(30, 20), (20, 30), (25, 25)])
@pytest.mark.parametrize("K", [1, 6])
def test_thin_factors_give_the_svd_of_the_product(dx, dy, K):
    A, B = data(K, dx, dy)
    U, _, Vh = np.linalg.svd((A.T @ B).numpy())
    assert np.allclose(procrustes(A, B), U[:, :K] @ Vh[:K], atol=1e-10)


def test_thick_and_thin_factors_agree():
    A, B = data(6, 30, 20)
    mixing = torch.randn(6, 40, dtype=torch.float64)
    X, Y = torch.linalg.pinv(mixing) @ A, mixing.T @ B  # 40 rows with the same product AᵀB
    assert torch.allclose(procrustes(X, Y), procrustes(A, B), atol=1e-9)


def test_soft_assignments_as_gpua_has_them():
    Z, Y, P = torch.randn(200, 12).double(), torch.randn(5, 9).double(), torch.rand(200, 5).double()
    textbook = scipy.linalg.svd((Z.T @ P @ Y).numpy())
    expected = textbook[0][:, :5] @ textbook[2][:5]
    assert np.allclose(procrustes(P.T @ Z, Y), expected, atol=1e-10)


def test_undetermined_directions_are_mapped_to_zero():
    A, B = data(4, 15, 10)
    W = procrustes(A, B)
    assert float(W.square().sum()) == pytest.approx(4), "no isometry of rank 4 has a smaller norm"
    outside = torch.linalg.svd(A)[2][4:]
    assert torch.allclose(outside @ W, torch.zeros(11, 10).double(), atol=1e-10)


def test_the_map_is_stable_where_the_textbook_svd_is_not():
    """M has rank 4 in 15 × 10: its full U Vᵀ is arbitrary on the rest, and noise of 1e-9 changes it altogether."""
    A, B = data(4, 15, 10)
    M = (A.T @ B).numpy()

    def textbook(noise):
        U, _, Vh = np.linalg.svd(M + noise, full_matrices=False)
        return U @ Vh

    noise = 1e-9 * np.random.randn(15, 10)
    assert np.abs(textbook(noise) - textbook(-noise)).max() > 0.1
    X, Y = A + 1e-9 * torch.randn_like(A), B + 1e-9 * torch.randn_like(B)
    change = procrustes(X, Y) - procrustes(A, B)
    assert float(change.abs().max()) < 1e-7


@pytest.mark.parametrize(("dx", "dy"), [(8, 8), (9, 6), (6, 9)])
@pytest.mark.parametrize("rank", [0, 2, 6])
def test_completion_keeps_what_is_determined_and_makes_an_isometry(dx, dy, rank):
    A, B = data(max(rank, 1), dx, dy)
    A = A if rank else A * 0
    partial = procrustes(A, B)
    full = procrustes(A, B, complete=True)
    small = full.T @ full if dx >= dy else full @ full.T
    assert torch.allclose(small, torch.eye(min(dx, dy)).double(), atol=1e-10)
    assert rank_of(partial) == rank
    # On the determined directions both are one map, from either side.
    assert torch.allclose(partial @ partial.T @ full, partial, atol=1e-10)
    assert torch.allclose(full @ partial.T @ partial, partial, atol=1e-10)


def test_completion_leaves_in_place_what_nothing_is_known_about():
    R = torch.eye(6).double()
    R[:2, :2] = torch.tensor([[0.0, 1], [-1, 0]])
    X = torch.zeros(5, 6).double()
    X[:, :2] = torch.randn(5, 2).double()
    assert torch.allclose(procrustes(X, X @ R, complete=True), R, atol=1e-10)
    assert torch.equal(procrustes(0 * X, X, complete=True), torch.eye(6).double())


def test_completion_where_the_identity_itself_vanishes():
    first, second = torch.eye(2).double()[:1], torch.eye(2).double()[1:]
    W = procrustes(first, second, complete=True)  # e1 goes to e2, so e2 can only go to ±e1
    assert torch.allclose(W, torch.tensor([[0.0, 1], [1, 0]]).double(), atol=1e-12)


def test_determinism_to_the_bit():
    A, B = torch.randn(6, 40), torch.randn(6, 30)
    one, other = (procrustes(A.clone(), B.clone(), complete=True) for _ in range(2))
    assert torch.equal(one, other)


def test_float32_finds_the_rank_that_rounding_hides():
    basis = torch.randn(3, 40).double()
    A = (torch.randn(8, 3).double() @ basis).float()  # rank 3 up to rounding in float32
    W = procrustes(A, torch.randn(8, 30))
    assert rank_of(W) == 3
    assert W.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_map_of_the_same_numbers(dtype):
    A, B = torch.randn(6, 20).to(dtype), torch.randn(6, 12).to(dtype)
    assert torch.equal(procrustes(A, B), procrustes(A.float(), B.float()))


def test_nothing_to_align_gives_the_zero_map():
    assert torch.equal(procrustes(torch.zeros(5, 4), torch.randn(5, 4)), torch.zeros(4, 4))


def test_it_does_not_depend_on_divide_and_conquer(monkeypatch):
    """LAPACK's fastest SVD gives up on some matrices with hundreds of equal singular values."""
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(5, 12, generator=generator), torch.randn(5, 12, generator=generator)
    expected = procrustes(X, Y, complete=True)

    def fail(*args, **kwargs):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "svd", fail)
    torch.testing.assert_close(procrustes(X, Y, complete=True), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, Y: procrustes(X, Y[:3]), "same rows"),
        (lambda X, Y: procrustes(X[:0], Y[:0]), "at least one"),
        (lambda X, Y: procrustes(X * float("nan"), Y), "finite numbers in X"),
        (lambda X, Y: procrustes(X, Y / 0), "finite numbers in Y"),
        (lambda X, Y: procrustes(X[:, :0], Y), "width at least 1"),
        (lambda X, Y: procrustes(X, Y[0]), "2 dimensions"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.randn(6, 4), torch.randn(6, 3))
