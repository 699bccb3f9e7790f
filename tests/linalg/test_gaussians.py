"""Gaussian distances: torch.distributions, scipy, closed forms, laws, singular covariances, failure points."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.decomposition import PCA

from modalign.core.errors import InputError
from modalign.linalg.gaussians import Gaussian, kl, modality_gap, principal_plane, wasserstein2


def random(d, rank=None):
    root = torch.randn(d, rank or d, dtype=torch.float64)
    return Gaussian(torch.randn(d, dtype=torch.float64), root @ root.T)


def moved(p, A, shift):
    return Gaussian(A @ p.mean + shift, A @ p.covariance @ A.T)


def test_fit_is_maximum_likelihood():
    X = torch.randn(50, 4)
    p = Gaussian.fit(X)
    assert np.allclose(p.mean, X.double().mean(dim=0), atol=1e-12)
    assert np.allclose(p.covariance, np.cov(X.double().numpy().T, bias=True), atol=1e-12)


def test_kl_is_that_of_torch_distributions_and_zero_only_for_equals():
    p, q = random(5), random(5)

    def distribution(g):
        return torch.distributions.MultivariateNormal(g.mean, g.covariance)

    expected = float(torch.distributions.kl_divergence(distribution(p), distribution(q)))
    assert kl(p, q) == pytest.approx(expected, rel=1e-9)
    assert kl(p, p) == pytest.approx(0, abs=1e-10)
    assert kl(p, q) != pytest.approx(kl(q, p), rel=1e-3)


def test_kl_does_not_change_under_an_affine_map_of_both():
    p, q, A, shift = random(4), random(4), torch.randn(4, 4).double(), torch.randn(4).double()
    assert kl(moved(p, A, shift), moved(q, A, shift)) == pytest.approx(kl(p, q), rel=1e-8)


def test_kl_of_singular_gaussians_is_that_on_their_common_support():
    p, q = random(3), random(3)
    A = torch.randn(7, 3).double()
    assert kl(moved(p, A, A[:, 0]), moved(q, A, A[:, 0])) == pytest.approx(kl(p, q), rel=1e-6)


def test_kl_is_infinite_where_the_supports_differ():
    full, flat = random(4), random(4, rank=2)
    assert kl(flat, full) == kl(full, flat) == math.inf
    assert kl(random(4, rank=2), random(4, rank=2)) == math.inf
    assert kl(flat, Gaussian(flat.mean + torch.randn(4).double(), flat.covariance)) == math.inf
    points = [Gaussian(torch.full((2,), float(c)), torch.zeros(2, 2)) for c in (0, 0, 1)]
    assert kl(points[0], points[1]) == 0
    assert kl(points[0], points[2]) == math.inf


def test_wasserstein_is_the_formula_with_scipys_matrix_root():
    p, q = random(5), random(5)
    root = scipy.linalg.sqrtm(p.covariance.numpy())
    cross = scipy.linalg.sqrtm(root @ q.covariance.numpy() @ root).real
    squared = float((p.mean - q.mean).square().sum()) + np.trace((p.covariance + q.covariance).numpy() - 2 * cross)
    assert wasserstein2(p, q) == pytest.approx(math.sqrt(squared), rel=1e-7)


def test_wasserstein_between_commuting_and_between_singular_covariances():
    a, b = torch.rand(4).double(), torch.rand(4).double()
    a[0] = b[1] = 0
    p, q = (Gaussian(torch.zeros(4), torch.diag(v)) for v in (a, b))
    assert wasserstein2(p, q) == pytest.approx(float((a.sqrt() - b.sqrt()).norm()), rel=1e-9)
    points = [Gaussian(torch.randn(3), torch.zeros(3, 3)) for _ in range(2)]
    assert wasserstein2(*points) == pytest.approx(float((points[0].mean - points[1].mean).norm()), rel=1e-9)


def test_rank_deficient_covariances_keep_their_digits():
    """The textbook root of the product would add √rounding for each of the 60 missing directions."""
    p, q = random(5), random(5)
    Q = torch.linalg.qr(torch.randn(65, 5, dtype=torch.float64))[0]
    zero = torch.zeros(65).double()
    assert wasserstein2(moved(p, Q, zero), moved(q, Q, zero)) == pytest.approx(wasserstein2(p, q), rel=1e-10)


def test_wasserstein_is_a_distance():
    p, q, r = random(4), random(4, rank=2), random(4)
    size = float(p.covariance.trace().sqrt())
    assert wasserstein2(p, p) == pytest.approx(0, abs=1e-6 * size)
    assert wasserstein2(p, q) == pytest.approx(wasserstein2(q, p), rel=1e-10)
    assert wasserstein2(p, r) <= wasserstein2(p, q) + wasserstein2(q, r)
    Q, shift = torch.linalg.qr(torch.randn(4, 4).double())[0], torch.randn(4).double()
    assert wasserstein2(moved(p, Q, shift), moved(q, Q, shift)) == pytest.approx(wasserstein2(p, q), rel=1e-9)
    three = 3 * torch.eye(4).double()
    assert wasserstein2(moved(p, three, 0), moved(q, three, 0)) == pytest.approx(3 * wasserstein2(p, q), rel=1e-9)


def test_plane_is_the_pca_of_both_sets_together():
    X, T = torch.randn(60, 6) * torch.arange(1, 7), torch.randn(9, 6) + 5
    plane = principal_plane(X, T)
    pca = PCA(n_components=2).fit(torch.cat([X, T]).numpy())
    ours = plane.project(X).numpy()
    theirs = pca.transform(X.numpy())
    assert np.allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    assert np.allclose(plane.explained, pca.explained_variance_ratio_, atol=1e-6)
    assert (plane.axes.gather(0, plane.axes.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_modality_gap_as_cmm_defines_it():
    X, T = torch.randn(80, 6).double() + 1, 0.5 * torch.randn(20, 6).double()
    pca = PCA(n_components=2).fit(torch.cat([X, T]).numpy())
    planes = [pca.transform(V.numpy()) for V in (X, T)]
    (m1, S1), (m2, S2) = ((V.mean(axis=0), np.cov(V.T, bias=True)) for V in planes)
    inverse = np.linalg.inv(S2)
    divergence = np.trace(inverse @ S1) + (m2 - m1) @ inverse @ (m2 - m1) - 2
    divergence = (divergence + np.log(np.linalg.det(S2) / np.linalg.det(S1))) / 2
    gap = modality_gap(X, T)
    assert gap.kl_pca2 == pytest.approx(divergence, rel=1e-8)
    assert gap.wasserstein2 == pytest.approx(wasserstein2(Gaussian.fit(X), Gaussian.fit(T)), rel=1e-12)
    assert gap.centroid_distance == pytest.approx(float((X.mean(dim=0) - T.mean(dim=0)).norm()), rel=1e-12)


def test_modality_gap_does_not_depend_on_the_basis_and_vanishes_without_a_gap():
    X, T = torch.randn(80, 6).double() + 1, torch.randn(20, 6).double()
    Q = torch.linalg.qr(torch.randn(6, 6).double())[0]
    one, other = modality_gap(X, T), modality_gap(X @ Q, T @ Q)
    assert other.kl_pca2 == pytest.approx(one.kl_pca2, rel=1e-8)
    assert other.wasserstein2 == pytest.approx(one.wasserstein2, rel=1e-8)
    same = modality_gap(X, X[torch.randperm(80)])
    assert same.kl_pca2 == pytest.approx(0, abs=1e-8)
    assert same.wasserstein2 == pytest.approx(0, abs=1e-6)


def test_too_few_texts_have_no_area_and_fewer_rows_than_dimensions_are_fine():
    X = torch.randn(30, 40)
    assert modality_gap(X, torch.randn(2, 40)).kl_pca2 == math.inf
    assert math.isfinite(modality_gap(X, torch.randn(2, 40)).wasserstein2)
    assert math.isfinite(modality_gap(X.half(), torch.randn(10, 40).bfloat16()).kl_pca2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gaussian.fit(torch.zeros(0, 3)), "at least one row"),
        (lambda: Gaussian.fit(torch.full((4, 3), float("nan"))), "NaN"),
        (lambda: Gaussian(torch.zeros(3), torch.zeros(2, 2)), r"\(d, d\)"),
        (lambda: kl(random(3), random(4)), "one dimension"),
        (lambda: wasserstein2(random(3), random(4)), "one dimension"),
        (lambda: wasserstein2(random(3), Gaussian(torch.zeros(3), -torch.eye(3))), "semi-definite"),
        (lambda: modality_gap(torch.randn(5, 3), torch.randn(5, 4)), "one width"),
        (lambda: principal_plane(torch.randn(5, 1)), "at least 2"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
