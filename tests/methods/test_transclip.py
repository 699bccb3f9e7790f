"""TransCLIP against its updates written as loops, their descent, its limits, and labels it must not use."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import few_shot

from modalign.core.errors import InputError
from modalign.methods.baselines.transclip import GAMMAS, TransCLIP
from modalign.methods.baselines.transclip_solver import FLOOR, TEMPER, Mixture, MixtureProblem, links
from modalign.methods.baselines.zero_shot import ZeroShot

REAL = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def task(seed=0, n=12, m=6, C=3, d=8, k=3, lam=0.7):
    rng = np.random.default_rng(seed)
    Q, S, T = (torch.from_numpy(unit(rng.normal(size=(r, d)))).float() for r in (n, m, C))
    targets = torch.eye(C)[torch.arange(m) % C]
    return MixtureProblem(Q, S, targets, T, torch.log_softmax(5 * Q @ T.T, dim=1), lam, links(Q, S, k))


def literal(Q, S, targets, text, lam, k, gamma, outer, inner, start):
    """The paper's updates, one image, class and dimension at a time; ``text`` is ŷ."""
    n, C, d = len(Q), text.shape[1], Q.shape[1]
    everything = np.concatenate([Q, S])
    W = np.zeros((len(everything), len(everything)))
    for i in range(len(everything)):
        cosines = [(-np.inf if j == i else everything[i] @ everything[j], j) for j in range(len(everything))]
        for cosine, j in sorted(cosines, reverse=True)[:k]:
            W[i, j] = max(0.0, cosine)
    z = text
    means, variances = start
    for _ in range(outer):
        log_p = np.zeros((n, C))
        for i in range(n):
            for c in range(C):
                log_p[i, c] = -0.5 * sum(
                    (Q[i, j] - means[c, j]) ** 2 / variances[j] + math.log(variances[j]) for j in range(d)
                )
        for _ in range(inner):
            fixed, new = np.concatenate([z, targets]), np.zeros_like(z)
            for i in range(n):
                pull = sum((W[j, i] + W[i, j]) * fixed[j] for j in range(len(everything))) * 50 / (2 * max(1, k))
                e = lam * np.log(text[i]) + (log_p[i] + pull) / 50
                e = np.exp(e - e.max())
                new[i] = e / e.sum()
            z = new
        weight = [1 / n] * n + [50 * gamma / max(1, len(S))] * len(S)
        assigned = np.concatenate([z, targets])
        means = unit(
            np.stack([sum(a * assigned[i, c] * everything[i] for i, a in enumerate(weight)) for c in range(C)])
        )
        variances = np.zeros(d)
        for i, a in enumerate(weight):
            for c in range(C):
                variances += a * assigned[i, c] * (everything[i] - means[c]) ** 2
        variances = np.maximum(variances / sum(weight), FLOOR / d)
    return z, means, variances


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("gamma", [0.02, 1.5])
def test_the_iteration_is_that_of_the_paper(k, gamma):
    given = task(k=k)
    method = TransCLIP(outer_iterations=4, inner_iterations=2)
    start = given.start(8)
    found = method._iterate(given, start, gamma)
    parts = [part.double().numpy() for part in (given.queries, given.support, given.targets, given.log_text.exp())]
    z, means, variances = literal(*parts, 0.7, k, gamma, 4, 2, tuple(part.double().numpy() for part in start))
    np.testing.assert_allclose(found.assignments, z, atol=1e-5)
    np.testing.assert_allclose(found.mixture.means, means, atol=1e-5)
    np.testing.assert_allclose(found.mixture.variances, variances, atol=1e-5)


def test_zero_shot_fit_is_that_iteration_from_the_surest_images():
    data = few_shot()
    method = TransCLIP(outer_iterations=3, inner_iterations=2).fit(data.Xt, text=data.text)
    Q, T = unit(data.Xt.astype(float)), unit(data.text.astype(float))
    text = np.exp(100 * (Q @ T.T))
    text /= text.sum(axis=1, keepdims=True)
    surest = np.argsort(-text, axis=0, kind="stable")[:8]
    weighted = [sum(text[i, c] * Q[i] for i in surest[:, c]) for c in range(5)]
    start = unit(np.stack(weighted)), np.full(24, 1 / 24)
    z, means, variances = literal(Q, Q[:0], np.zeros((0, 5)), text, 1.0, 3, 0.0, 3, 2, start)
    np.testing.assert_array_equal(method.transduction_, z.argmax(axis=1))
    np.testing.assert_allclose(method.means_, means, atol=1e-4)
    np.testing.assert_allclose(method.variances_, variances, atol=1e-4)


def objective(given, Z, mixture, gamma):
    """L of the docstring, with the normalizer of the Gaussian; k = 1 and the full Gram matrix as w."""
    Q, S = given.queries.double(), given.support.double()
    everything, Z = torch.cat([Q, S]), Z.double()
    means, variances = mixture.means.double(), mixture.variances.double()

    def log_p(X):
        squares = ((X[:, None] - means) ** 2 / variances).sum(dim=2)
        return -squares / 2 - variances.log().sum() / 2

    assigned = torch.cat([Z, given.targets.double()])
    weights = (everything @ everything.T).clamp_min(0)
    return (
        -(Z * log_p(Q)).sum() / TEMPER
        - gamma * len(Q) / len(S) * (given.targets.double() * log_p(S)).sum()
        - 0.5 * (weights * (assigned @ assigned.T)).sum()
        + torch.special.xlogy(Z, Z).sum()
        - given.text_weight * (Z * given.log_text.double()).sum()
    ).item()


@pytest.mark.parametrize("seed", range(3))
def test_every_assignment_and_covariance_lowers_the_objective_where_the_majorizer_holds(seed):
    """With the positive semi-definite Gram matrix as w, no cosine negative, each z-step is a descent.

    Unit means minimize the likelihood only under an isotropic Σ, so that this is not required.
    """
    rng = np.random.default_rng(seed)
    Q, S, T = (torch.from_numpy(unit(np.abs(rng.normal(size=(r, 8))))).float() for r in (15, 6, 3))
    gram = Q @ torch.cat([Q, S]).T  # (w + wᵀ) / 2k for k = 1
    given = MixtureProblem(
        Q, S, torch.eye(3)[torch.arange(6) % 3], T, torch.log_softmax(10 * Q @ T.T, dim=1), 0.5, gram
    )
    mixture, gamma, Z = given.start(8), 0.3, given.log_text.exp()
    for _ in range(6):
        fixed = 0.5 * given.log_text + mixture.log_density(Q) / TEMPER
        values = [objective(given, Z, mixture, gamma)]
        for _ in range(3):
            Z = given.assign(fixed, Z)
            values.append(objective(given, Z, mixture, gamma))
        assert all(after <= before + 1e-4 for before, after in pairwise(values))
        found = given.estimate(Z, gamma, mixture)
        least = objective(given, Z, found, gamma)
        for factor in (0.9, 1.1):
            assert least < objective(given, Z, Mixture(found.means, found.variances * factor), gamma)
        mixture = found


def test_all_the_weight_on_the_text_is_zero_shot():
    data = few_shot()
    method = TransCLIP(text_weight=1e6).fit(data.Xt, text=data.text)
    zero_shot = ZeroShot().fit(data.Xt, text=data.text)
    np.testing.assert_array_equal(method.transduction_, zero_shot.predict(data.Xt))
    np.testing.assert_array_equal(method.predict(data.X), zero_shot.predict(data.X))
    assert method.diagnosis_["changed"] == 0


def test_all_the_weight_on_the_labels_is_the_mixture_of_the_labels():
    data = few_shot(shots=8)
    X, y = np.concatenate([data.X, data.Xt]), np.concatenate([data.y, np.full(len(data.Xt), -1)])
    both = TransCLIP(support_weight=1e6, text_weight=0.5).fit(X, y, text=data.text)
    labels = TransCLIP(text_weight=0.5).fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(both.means_, labels.means_, atol=1e-4)
    np.testing.assert_allclose(both.variances_, labels.variances_, atol=1e-5)
    for c in range(5):
        np.testing.assert_allclose(labels.means_[c], unit(data.X[data.y == c].sum(axis=0)[None])[0], atol=1e-5)


def test_no_weight_on_the_labels_leaves_the_unlabeled_images_to_themselves():
    """γ = 0: the labelled images start the means, and no more."""
    given = task(k=0)
    found = TransCLIP()._iterate(given, given.start(8), 0.0)
    expected = unit((found.assignments.double().T @ given.queries.double()).numpy())
    np.testing.assert_allclose(found.mixture.means, expected, atol=1e-5)


def test_labeled_images_keep_their_labels_and_pull_the_others():
    data = few_shot(noise=0.8)
    X, y = np.concatenate([data.X, data.Xt]), np.concatenate([data.y, np.full(len(data.Xt), -1)])
    method = TransCLIP().fit(X, y, text=data.text)
    np.testing.assert_array_equal(method.transduction_[: len(data.y)], data.y)
    accuracy = np.mean(method.transduction_[len(data.y) :] == data.yt)
    assert accuracy > ZeroShot().fit(data.X, text=data.text).score(data.Xt, data.yt)


def test_more_neighbors_than_images_are_all_of_them():
    given = task(k=99)
    everything = torch.cat([given.queries, given.support])
    expected = (given.queries @ everything.T).clamp_min(0) / 17
    expected.fill_diagonal_(0)
    torch.testing.assert_close(given.links.to_dense(), expected)


def test_densities_are_those_of_scipy():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    means, variances, X = rng.normal(size=(3, 4)), rng.uniform(0.5, 2, size=4), rng.normal(size=(5, 4))
    found = Mixture(torch.from_numpy(means), torch.from_numpy(variances)).log_density(torch.from_numpy(X)).numpy()
    expected = np.stack([multivariate_normal(m, np.diag(variances)).logpdf(X) for m in means], axis=1)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-9)


def test_a_new_image_is_decided_by_density_and_text():
    data = few_shot()
    method = TransCLIP().fit(data.Xt, text=data.text)
    X, T = unit(data.X.astype(float)), unit(data.text.astype(float))
    logits = 100 * X @ T.T
    squares = ((X[:, None] - method.means_.double().numpy()) ** 2 / method.variances_.double().numpy()).sum(axis=2)
    expected = -squares / 2 / 50 + logits
    found = method.scores(data.X)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-3)


def test_the_labels_of_the_unlabeled_images_do_not_exist_for_it():
    """What they would be changes nothing, and how many classes there are is not read from what was labelled."""
    data = few_shot()
    seen = data.y < 3
    X = np.concatenate([data.X[seen], data.Xt])
    y = np.concatenate([data.y[seen], np.full(len(data.Xt), -1)])
    method = TransCLIP().fit(X, y, text=data.text)
    assert method.classes_.tolist() == [0, 1, 2, 3, 4]
    assert set(method.transduction_[seen.sum() :]) > {0, 1, 2}


def test_gamma_is_chosen_by_validation_labels():
    data = few_shot(noise=1.6)
    X, y = np.concatenate([data.X, data.Xt]), np.concatenate([data.y, np.full(len(data.Xt), -1)])
    method = TransCLIP(criterion="accuracy").fit(X, y, text=data.text, validation=(data.Xv, data.yv))
    tried = {
        gamma: TransCLIP(support_weight=gamma).fit(X, y, text=data.text).score(data.Xv, data.yv)
        for gamma in (0.002, 0.01, 0.02, 0.2)
    }
    assert method.diagnosis_["chosen_on"] == "validation"
    assert tried[method.support_weight_] == max(tried.values())
    assert TransCLIP().fit(X, y, text=data.text).diagnosis_["chosen_on"] == "nothing"


def test_published_text_weights():
    data = few_shot()
    assert TransCLIP().fit(data.X, text=data.text).text_weight_ == 1.0
    assert TransCLIP().fit(data.X, data.y, text=data.text).text_weight_ == 0.5


def test_one_image_a_class_and_no_more_keeps_the_first_variance():
    data = few_shot(shots=1)
    method = TransCLIP().fit(data.X, data.y, text=data.text)
    np.testing.assert_allclose(method.variances_, 1 / 24, rtol=1e-6)
    assert np.isfinite(method.scores(data.Xt)).all()


def test_identical_images_have_a_variance():
    data = few_shot()
    method = TransCLIP().fit(np.tile(data.X[:1], (10, 1)), text=data.text)
    assert np.isfinite(method.scores(data.Xt)).all()
    np.testing.assert_allclose(method.variances_, FLOOR / 24, rtol=1e-4)


def test_string_labels_are_returned_in_the_transduction():
    data = few_shot()
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    method = TransCLIP().fit(data.X, names[data.y], text=data.text, classes=names)
    assert method.transduction_.tolist() == names[data.y].tolist()


def test_mistakes_are_one_sentence():
    data = few_shot()
    with pytest.raises(InputError, match=r"TransCLIP\(n_neighbors=…\)"):
        TransCLIP(n_neighbors=-1).fit(data.X, text=data.text)
    with pytest.raises(InputError, match="requires y"):
        TransCLIP().fit(data.X)


@pytest.fixture(scope="module")
def real():
    with np.load(REAL) as file:
        text, rows = file["text"].astype(np.float32), {int(k): i for i, k in enumerate(file["text_labels"])}
        kept = np.isin(file["val_labels"], file["text_labels"])
        return (
            text,
            file["val_images"][kept].astype(np.float32),
            np.array([rows[int(k)] for k in file["val_labels"][kept]]),
        )


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/clip-vitb32")
def test_real_images_are_answered_as_well_as_by_zero_shot(real):
    text, X, y = real
    method = TransCLIP().fit(X, text=text)
    zero_shot = np.mean(ZeroShot().fit(X, text=text).predict(X) == y)
    assert np.mean(method.transduction_ == y) > zero_shot - 0.01
    assert method.score(X, y) > zero_shot - 0.01


@pytest.mark.parametrize("shots", [0, 2])
def test_blocks_of_any_size_give_the_same_answers(shots, monkeypatch):
    """No image-by-image matrix and no copy in float64 is held as a whole, and nothing depends on how it is cut."""
    import modalign.methods.baselines.transclip as method
    import modalign.methods.baselines.transclip_solver as solver

    data = few_shot()
    y = np.concatenate([np.where(np.arange(len(data.y)) % 4 < shots, data.y, -1), np.full(len(data.Xt), -1)])
    X = np.concatenate([data.X, data.Xt])
    whole = TransCLIP().fit(X, y, text=data.text)
    for module, name, size in ((solver, "CHUNK", 7 * len(X)), (solver, "ROWS", 7), (method, "ROWS", 7)):
        monkeypatch.setattr(module, name, size)
    cut = TransCLIP().fit(X, y, text=data.text)
    np.testing.assert_array_equal(cut.transduction_, whole.transduction_)
    np.testing.assert_allclose(cut.scores(data.Xt), whole.scores(data.Xt), atol=1e-4)


def test_the_weights_of_the_labels_are_those_of_the_paper_and_the_diagnosis_is_of_what_predicts():
    assert GAMMAS == (0.002, 0.01, 0.02, 0.2)
    data = few_shot(noise=1.6)
    method = TransCLIP(n_neighbors=2).fit(data.Xt, text=data.text, validation=(data.Xv, data.yv))
    found = method.diagnosis_
    assert found["validation_accuracy"] == method.score(data.Xv, data.yv)
    zero_shot = ZeroShot().fit(data.Xt, text=data.text)
    assert found["validation_accuracy_zero_shot"] == zero_shot.score(data.Xv, data.yv)
