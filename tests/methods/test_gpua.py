"""GPUA against Algorithm 1 written out, its invariances, its streaming, and what users get wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from modalign.core.errors import InputError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.linalg.procrustes import procrustes
from modalign.methods.gpua.gpua import GPUA
from modalign.methods.gpua.gpua_correspondence import find_correspondences, zero_shot
from modalign.methods.gpua.gpua_marginals import Marginals
from modalign.methods.gpua.gpua_rows import Images
from modalign.model.persistence import load_model, save_model


class Pair(NamedTuple):
    """Vision-only vectors Z, language view X, unit text Y and labels of one set of images."""

    Z: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    y: np.ndarray


def unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def pair(seed: int = 0, n: int = 120, K: int = 5, d_v: int = 24, d_t: int = 16, noise: float = 0.5) -> Pair:
    """Two noisy views of the same classes in unrelated coordinates; the text is a noisy copy of the second."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    seen, meant = rng.normal(size=(K, d_v)), rng.normal(size=(K, d_t))
    Z = unit(seen[y] + noise * rng.normal(size=(n, d_v)))
    X = unit(meant[y] + 2 * noise * rng.normal(size=(n, d_t)))
    Y = unit(meant + 1.2 * noise * rng.normal(size=(K, d_t)))
    return Pair(*(a.astype(np.float32) for a in (Z, X, Y)), y)


def fit(data: Pair, **settings) -> GPUA:
    """The paper's algorithm, which is what most tests here are about."""
    return GPUA(**{"random_state": 0, "preset": "paper", **settings}).fit(data.Z, text=data.Y, clip_features=data.X)


def algorithm_1(Z, X, Y, lam, epsilon, iterations, scale, shares):
    """Lines 3 to 12 in loops: C(0) from the softmax, then R, P by alternating normalisation, C; then the SVD."""
    n, K = len(Z), len(Y)

    def centers(P):
        C = np.zeros((K, Z.shape[1]))
        for k in range(K):
            for i in range(n):
                C[k] += P[i, k] * Z[i]
            C[k] /= sum(P[i, k] for i in range(n))
        return C

    P = np.array([[np.exp(scale * (x @ y)) for y in Y] for x in X])
    P /= P.sum(axis=1, keepdims=True)
    C = centers(P)
    for _ in range(iterations):
        R = np.array([[(1 - lam) * (Z[i] @ C[k]) + lam * (X[i] @ Y[k]) for k in range(K)] for i in range(n)])
        P = np.exp(R / epsilon)
        for _ in range(2000):
            P *= (1 / n) / P.sum(axis=1, keepdims=True)
            P *= shares / P.sum(axis=0)
        C = centers(P)
    U, singular, Vt = np.linalg.svd(Z.T @ (P @ Y), full_matrices=False)
    rank = (singular > 1e-6 * singular[0]).sum()
    return P, U[:, :rank] @ Vt[:rank]


@pytest.mark.parametrize(("lam", "epsilon", "T"), [(0.9, 0.05, 1), (0.9, 0.05, 3), (0.5, 0.1, 4), (0.0, 0.1, 2)])
@pytest.mark.parametrize("shares", ["uniform", [0.1, 0.3, 0.2, 0.25, 0.15]])
def test_algorithm_1_written_out(lam, epsilon, T, shares):
    data = pair(n=40)
    exact = [a.astype(np.float64) for a in data[:3]]
    c = np.full(5, 0.2) if shares == "uniform" else np.array(shares)
    P, W = algorithm_1(*exact, lam, epsilon, T, 10.0, c)
    method = fit(
        data, semantic_weight=lam, epsilon=epsilon, max_iterations=T, logit_scale=10.0, class_prior=shares, steps=0,
        tolerance=1e-7,
    )  # fmt: skip
    assert method.diagnosis_["iterations"] == T
    np.testing.assert_array_equal(method.transduction_, P.argmax(axis=1))
    np.testing.assert_allclose(method.weight_.numpy(), W, atol=1e-5)
    entropy = -(40 * P * np.log(np.maximum(40 * P, 1e-300))).sum(axis=1).mean() / np.log(5)
    assert method.diagnosis_["plan_entropy"] == pytest.approx(entropy, abs=1e-5)
    Zt = pair(seed=0, n=60).Z.astype(np.float64)
    expected = 10 * unit(Zt @ W) @ exact[2].T
    np.testing.assert_allclose(method.scores(Zt.astype(np.float32)), expected, atol=1e-4)


@pytest.mark.parametrize("T", [1, 2, 4])
def test_without_text_entropy_and_class_shares_an_update_is_a_step_of_k_means(T):
    """Appendix A, with the inner product of equation 12 in place of the distance."""
    data = pair(n=60, noise=1.0)
    logits = data.X @ data.Y.T
    P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)  # P(0), equation 11
    for _ in range(T):
        means = P.T @ data.Z / P.sum(axis=0)[:, None]
        P = np.eye(5)[(data.Z @ means.T).argmax(axis=1)]
    options = {"semantic_weight": 0.0, "epsilon": 1e-4, "rho": 1e-7, "class_prior": "uniform", "steps": 0}
    found = GPUA(preset="paper", max_iterations=T, **options).fit(data.Z, text=data.Y, clip_features=data.X)
    np.testing.assert_array_equal(found.transduction_, P.argmax(axis=1))


def plain_steps(Z, Y, W, labels, steps, eta, near=3, s=2.0):
    """Equations 15 and 16 and line 14, image by image: raw Wᵀz, shared hubs, W ← W − η ∇L."""
    n, K = len(Z), len(Y)
    for _ in range(steps):
        mapped = [W.T @ z for z in Z]
        d = [[np.linalg.norm(f - y) for y in Y] for f in mapped]
        rivals = [sorted((c for c in range(K) if c != labels[i]), key=lambda c: d[i][c])[:near] for i in range(n)]
        h = [sum(c in own for own in rivals) / n for c in range(K)]
        gradient = np.zeros_like(W)
        for i in range(n):
            a = labels[i]
            for c in rivals[i]:
                if d[i][a] + (1 - Y[a] @ Y[c]) / s + h[c] - d[i][c] > 0:
                    gradient += np.outer(Z[i], (mapped[i] - Y[a]) / d[i][a] - (mapped[i] - Y[c]) / d[i][c])
        W = W - eta * gradient / (n * near)
    return W


@pytest.mark.parametrize("spaces", [1, 2])
def test_the_paper_preset_is_the_paper_to_the_letter(spaces):
    """All of Algorithm 1: P(0) without a temperature, uniform shares, and the refinement."""
    data = pair(n=40, noise=0.8)
    Z = np.concatenate([data.Z, data.X], axis=1)[:, : 24 if spaces == 1 else None]
    exact = [a.astype(np.float64) for a in (Z, data.X, data.Y)]
    P, W0 = algorithm_1(*exact, 0.9, 0.05, 3, 1.0, np.full(5, 0.2))
    W = plain_steps(exact[0], exact[2], W0, P.argmax(axis=1), steps=5, eta=0.3)
    method = GPUA(preset="paper", epsilon=0.05, max_iterations=3, steps=5, learning_rate=0.3, tolerance=1e-7)
    method.fit(Z, text=data.Y, clip_features=data.X)
    np.testing.assert_array_equal(method.transduction_, P.argmax(axis=1))
    np.testing.assert_allclose(method.weight_, W, atol=1e-4)
    assert np.abs(W - W0).max() > 0.05
    assert method.diagnosis_["class_prior"] == "uniform"
    np.testing.assert_array_equal(method.predict(Z), (unit(exact[0] @ W) @ exact[2].T).argmax(axis=1))


def test_several_visual_spaces_share_one_plan():
    data, other = pair(n=40), pair(seed=5, n=40, d_v=9)
    Z = np.concatenate([data.Z, other.Z], axis=1)
    P, W = algorithm_1(*(a.astype(np.float64) for a in (Z, data.X, data.Y)), 0.8, 0.1, 3, 10.0, np.full(5, 0.2))
    method = GPUA(
        preset="paper", spaces=[24, 9], semantic_weight=0.8, epsilon=0.1, max_iterations=3, logit_scale=10.0,
        class_prior="uniform", steps=0, tolerance=1e-7,
    ).fit(Z, text=data.Y, clip_features=data.X)  # fmt: skip
    np.testing.assert_array_equal(method.transduction_, P.argmax(axis=1))
    np.testing.assert_allclose(method.weight_.numpy(), W, atol=1e-5)
    scaled = np.concatenate([7 * data.Z, 1000 * other.Z], axis=1)  # the length of a space does not matter
    again = GPUA(**method.get_params()).fit(scaled, text=data.Y, clip_features=data.X)
    np.testing.assert_allclose(again.scores(scaled), method.scores(Z), atol=1e-3)


def test_it_adds_the_scores_of_the_vision_only_network():
    data, new = pair(n=300, noise=0.8), pair(n=600, noise=0.8)
    zero_shot = (data.X @ data.Y.T).argmax(axis=1)
    method = fit(data)
    assert (method.transduction_ == data.y).mean() > (zero_shot == data.y).mean() + 0.02
    assert method.score(new.Z[300:], new.y[300:]) > ((new.X @ new.Y.T).argmax(axis=1) == new.y).mean()


def test_with_one_iteration_of_text_alone_it_is_balanced_zero_shot():
    data = pair(n=100)
    method = fit(data, semantic_weight=1.0, max_iterations=1, epsilon=0.05, class_prior="uniform")
    P = np.exp((data.X @ data.Y.T).astype(np.float64) / 0.05)
    for _ in range(3000):
        P *= 0.2 / P.sum(axis=0)
        P *= 0.01 / P.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(method.transduction_, P.argmax(axis=1))


@pytest.mark.parametrize("steps", [0, 50])
def test_the_map_is_orthogonal(steps):
    """Plain gradient steps leave it; the default refinement returns to it in each step."""
    preset = "anchored" if steps else "paper"
    data = pair(K=20, n=200, d_v=24, d_t=16)
    W = fit(data, steps=steps, preset=preset).weight_.double()
    np.testing.assert_allclose(W.T @ W, np.eye(16), atol=1e-5)
    few = fit(pair(), steps=steps, preset=preset)
    W, Y = few.weight_.double(), few.prototypes_.double()
    projector = torch.linalg.pinv(Y) @ Y
    np.testing.assert_allclose(W.T @ W, projector, atol=1e-5)  # on the span of five texts it is the identity
    assert few.diagnosis_["orthogonality_defect"] < 1e-6
    assert fit(pair()).diagnosis_["orthogonality_defect"] > 1e-3
    narrow = fit(pair(K=12, d_v=6), steps=steps, preset=preset).weight_.double()
    np.testing.assert_allclose(narrow @ narrow.T, np.eye(6), atol=1e-5)


def test_class_scores_do_not_depend_on_the_choice_on_the_null_space():
    data = pair()
    method = fit(data, steps=0)
    hot = np.eye(5)[method.transduction_].T.astype(np.float32)
    moments, Y = torch.from_numpy(hot @ data.Z), torch.from_numpy(data.Y)
    least, complete = (procrustes(moments, Y, complete=c) for c in (False, True))
    full = procrustes(torch.from_numpy(data.Z), torch.from_numpy(hot.T @ data.Y))
    assert (complete - least).norm() > 1
    for W in (complete, full):
        np.testing.assert_allclose(data.Z @ W.numpy() @ data.Y.T, data.Z @ least.numpy() @ data.Y.T, atol=1e-5)
    np.testing.assert_allclose(full, least, atol=1e-5)


def test_input_noise_does_not_change_the_map():
    data = pair()
    noisy = data._replace(Z=data.Z + 1e-6 * np.random.default_rng(1).normal(size=data.Z.shape).astype(np.float32))
    np.testing.assert_allclose(fit(noisy, steps=0).weight_, fit(data, steps=0).weight_, atol=1e-4)


def test_rotating_the_visual_space_rotates_the_map():
    data = pair()
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(24, 24)))[0].astype(np.float32)
    turned = fit(data._replace(Z=data.Z @ rotation))
    plain = fit(data)
    np.testing.assert_allclose(turned.weight_, rotation.T @ plain.weight_.numpy(), atol=1e-3)
    np.testing.assert_allclose(turned.scores(data.Z @ rotation), plain.scores(data.Z), atol=0.05)


def test_the_order_of_images_and_of_classes_does_not_matter():
    data = pair(n=150)
    rows, new = np.random.default_rng(3).permutation(150), np.array([2, 0, 4, 1, 3])
    plain = fit(data)
    moved = fit(Pair(data.Z[rows], data.X[rows], data.Y[new], data.y[rows]))
    np.testing.assert_array_equal(new[moved.transduction_], plain.transduction_[rows])
    np.testing.assert_allclose(moved.scores(data.Z), plain.scores(data.Z)[:, new], atol=0.05)


def test_labels_are_never_used():
    data = pair()
    with_labels = GPUA(random_state=0, preset="paper").fit(data.Z, (data.y + 1) % 5, text=data.Y, clip_features=data.X)
    np.testing.assert_array_equal(with_labels.scores(data.Z), fit(data).scores(data.Z))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("preset", ["anchored", "paper"])
def test_a_memory_map_read_in_blocks_gives_the_same_answer(tmp_path, monkeypatch, dtype, joint, preset):
    """Without room for scores, vectors or a plan, and in many blocks; batches are smaller than the data as well."""
    import modalign.methods.gpua.gpua_rows as rows

    monkeypatch.setattr(rows, "BLOCK", 64 * 40)
    data = pair(n=700)
    Z = (np.concatenate([data.Z, data.X], axis=1) if joint else data.Z).astype(dtype)
    files = {"Z": Z, "X": data.X.astype(dtype)}
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    Zm, Xm = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in files)
    settings = {"random_state": 0, "batch_size": 128, "preset": preset}
    held = GPUA(**settings).fit(files["Z"], text=data.Y, clip_features=files["X"])
    streamed = GPUA(memory=1e-9, **settings).fit(Zm, text=data.Y, clip_features=Xm)
    np.testing.assert_allclose(streamed.weight_, held.weight_, atol=1e-5)
    np.testing.assert_array_equal(streamed.transduction_, held.transduction_)
    np.testing.assert_allclose(streamed.scores(Zm), held.scores(files["Z"]), atol=1e-5 * 100)
    assert streamed.spaces_ == ([24, 16] if joint else [24])


def test_block_size_does_not_matter(monkeypatch):
    import modalign.methods.gpua.gpua_rows as rows

    data = pair(n=500)
    expected = fit(data)
    monkeypatch.setattr(rows, "BLOCK", 1)
    np.testing.assert_allclose(fit(data).weight_, expected.weight_, atol=1e-5)


def test_the_language_view_is_found_among_the_columns():
    data = pair()
    for Z, spaces in ((np.concatenate([50 * data.Z, data.X], axis=1), [24, 16]),
                      (np.concatenate([data.X, 50 * data.Z], axis=1), [16, 24]),
                      (np.concatenate([data.Z, data.X[::-1]], axis=1), [40])):  # fmt: skip
        assert GPUA().fit(Z, text=data.Y, clip_features=data.X).spaces_ == spaces
    given = GPUA(spaces=[24, 16]).fit(np.concatenate([50 * data.Z, data.X], axis=1), text=data.Y, clip_features=data.X)
    found = GPUA().fit(np.concatenate([50 * data.Z, data.X], axis=1), text=data.Y, clip_features=data.X)
    np.testing.assert_array_equal(given.weight_, found.weight_)


def test_without_anchor_the_language_view_is_the_visual_space():
    data = pair()
    np.testing.assert_array_equal(
        GPUA().fit(data.X, text=data.Y).weight_, GPUA().fit(data.X, text=data.Y, clip_features=data.X.copy()).weight_
    )


def test_transform_lands_in_the_space_of_the_text():
    data = pair()
    method = fit(data)
    mapped = method.transform(data.Z)
    assert mapped.shape == (120, 16)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(100 * mapped @ method.prototypes_.numpy().T, method.scores(data.Z), atol=1e-4)


@pytest.mark.parametrize("loss", ["ths", "adaptive", "triplet", "contrastive", "csls"])
def test_every_loss_fits(loss):
    method = fit(pair(n=300), loss=loss)
    assert method.diagnosis_["loss_after"] <= method.diagnosis_["loss_before"]
    assert method.score(pair(n=300).Z, pair(n=300).y) > 0.9


def test_released_code_leaves_the_manifold_and_reports_it():
    method = fit(pair(n=200), preset="official_code")
    assert method.diagnosis_["orthogonality_defect"] > 1
    assert method.score(pair(n=200).Z, pair(n=200).y) > 0.5
    with pytest.raises(InputError, match="at least 8 images"):
        fit(pair(n=6), preset="official_code")


def test_the_published_stopping_rule_stops_too_early_with_many_images():
    from modalign.methods.gpua.gpua_official import correspondences

    data = [torch.from_numpy(a) for a in pair(n=20_000, noise=0.9)[:3]]
    P = correspondences(*data)
    assert float((P.sum(dim=0) * 5 - 1).abs().max()) > 0.01
    assert fit(pair(n=20_000, noise=0.9), class_prior="uniform", steps=0).diagnosis_["marginal_error"] < 1e-6


@pytest.mark.parametrize("memory", [2**30, 0])
def test_scores_that_fit_into_memory_are_computed_once_per_update(memory, monkeypatch):
    data, computed, scores = pair(n=200), [], Images.scores
    monkeypatch.setattr(Images, "scores", lambda *given: computed.append(1) or scores(*given))
    images = Images(torch.from_numpy(data.Z), torch.from_numpy(data.X), [data.Z.shape[1]], n_classes=5, memory=2**30)
    text = torch.from_numpy(data.Y)
    begin = zero_shot(images, text, 100.0)
    computed.clear()
    found = find_correspondences(
        images, text, begin, Marginals(torch.full((5,), 0.2), "uniform", {}),
        weight=0.4, epsilon=0.01, memory=memory,
    )  # fmt: skip
    assert (len(computed) == found.iterations) == bool(memory)


def test_diagnosis_reports_what_happened():
    data = pair(n=200)
    report = fit(data, class_prior="uniform").diagnosis_
    changed = (fit(data, class_prior="uniform").transduction_ != (data.X @ data.Y.T).argmax(axis=1)).mean()
    assert report["changed_from_zero_shot"] == pytest.approx(changed)
    assert 0 < report["plan_entropy"] < 0.5
    assert report["class_prior"] == "uniform"
    assert report["centers_rest"]
    unsure = fit(data, class_prior="uniform", epsilon=100.0, max_iterations=1).diagnosis_
    assert unsure["plan_entropy"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("preset", ["anchored", "paper"])
@pytest.mark.filterwarnings("ignore:About")
def test_fewer_images_than_classes_are_fitted(preset):
    data = pair(n=4)
    method = fit(data, preset=preset)
    assert np.isfinite(method.scores(pair().Z)).all()
    assert method.transduction_.shape == (4,)


def test_a_penalty_of_any_strength_can_be_requested():
    data = pair(n=200)
    off = [0.4, 0.3, 0.1, 0.1, 0.1]
    sizes = [np.bincount(fit(data, class_prior=off, rho=rho, steps=0).transduction_, minlength=5) / 200 for rho in
             (1e-6, 0.05, float("inf"))]  # fmt: skip
    gaps = [np.abs(size - off).sum() for size in sizes]
    assert gaps[0] >= gaps[1] >= gaps[2]
    np.testing.assert_allclose(fit(data, class_prior=[4, 3, 1, 1, 1]).class_prior_, off, atol=1e-6)


def test_class_shares_given_as_an_array_are_saved(tmp_path):
    data = pair()
    method = fit(data, class_prior=np.array([0.3, 0.1, 0.2, 0.2, 0.2]))
    save_model(tmp_path / "model", method)
    again, _ = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.scores(data.Z), method.scores(data.Z))
    np.testing.assert_array_equal(again.fit(data.Z, text=data.Y, clip_features=data.X).weight_, method.weight_)


def test_text_and_anchor_are_of_one_encoder():
    data = pair()
    clip, dino = (EncoderSpec(name, name * 20, dim) for name, dim in (("clip", 16), ("dino", 24)))
    text = ClassText(data.Y, tuple("abcde"), spec=clip)
    images = Features(data.Z, spec=dino)
    method = GPUA().fit(images, text=text, clip_features=Features(data.X, spec=clip))
    assert method.encoder_ == dino
    with pytest.raises(InputError, match="Expected features of encoder 'dino'"):
        GPUA().fit(images, text=text, clip_features=Features(data.X, spec=dino))


BAD = {
    "few images": (lambda d: (d.Z[:7], d.Y, d.X[:7]), {"preset": "official_code"}, "at least 8 images, .*, got 7"),
    "nobody": (lambda d: (d.Z, np.concatenate([d.Y[:4], -d.Y.sum(axis=0, keepdims=True)]), d.X),
               {"preset": "official_code"}, "none is similar to the text of class 4"),
    "NaN in X": (lambda d: (np.where(np.eye(120, 24) > 0, np.nan, d.Z), d.Y, d.X), {}, "NaN"),
    "NaN in clip_features": (lambda d: (d.Z, d.Y, np.where(np.eye(120, 16) > 0, np.nan, d.X)), {},
                             "finite numbers in clip_features"),
    "other rows": (lambda d: (d.Z, d.Y, d.X[:-1]), {}, r"as many rows in clip_features as in X \(120\), got 119"),
    "one class": (lambda d: (d.Z, d.Y[:1], d.X), {}, "at least 2 classes, got 1"),
    "no anchor": (lambda d: (d.Z, d.Y, None), {}, r"\(24\), got 16; if X is of another encoder, give clip_features"),
    "narrow text": (lambda d: (d.Z, d.Y[:, :9], d.X), {}, r"width of clip_features \(16\), got 9"),
    "spaces": (lambda d: (d.Z, d.Y, d.X), {"spaces": [20, 5]}, "adding up to 24"),
    "shares": (lambda d: (d.Z, d.Y, d.X), {"class_prior": [1.0, 0.0, 1.0, 1.0, 1.0]}, "5 positive numbers"),
    "word": (lambda d: (d.Z, d.Y, d.X), {"class_prior": "unform"}, "expected 'auto' or 'uniform' or 'estimate'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_gets_one_sentence(case):
    change, settings, message = BAD[case]
    Z, Y, X = change(pair(noise=0.2))
    with pytest.raises(ValueError, match=message):
        GPUA(**settings).fit(Z, text=Y, clip_features=X)


def test_not_finite_numbers_in_a_memory_map_are_found(tmp_path):
    data = pair()
    data.Z[77, 3] = np.inf
    np.save(tmp_path / "Z.npy", data.Z)
    with pytest.raises(InputError, match="finite numbers in X"):
        GPUA().fit(np.load(tmp_path / "Z.npy", mmap_mode="r"), text=data.Y, clip_features=data.X)
