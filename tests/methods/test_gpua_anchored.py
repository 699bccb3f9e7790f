"""GPUA by default: what a class without images falls back to, and folders of every kind beside zero-shot."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import few_shot

from modalign.methods.contract.transduction import likeliest
from modalign.methods.gpua.gpua import GPUA
from modalign.methods.gpua.gpua_anchored import MAP_WEIGHT, Ground, initial_map, language_map, orthogonal_mean
from modalign.methods.gpua.gpua_correspondence import Assignment, _affinity
from modalign.methods.gpua.gpua_losses import span
from modalign.methods.gpua.gpua_rows import Images

REAL = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"


def unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def joint() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two spaces side by side, the language view second; its columns; the text; the labels."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % 8
    seen, meant = rng.normal(size=(8, 20)), rng.normal(size=(8, 12))
    view = unit(meant[y] + 1.2 * rng.normal(size=(160, 12))).astype(np.float32)
    Z = np.concatenate([unit(seen[y] + 0.4 * rng.normal(size=(160, 20))), view], axis=1).astype(np.float32)
    return Z, view, unit(meant + 0.7 * rng.normal(size=(8, 12))).astype(np.float32), y


def images_of(joint) -> tuple[Images, torch.Tensor]:
    Z, view, text, _ = joint
    return Images(torch.from_numpy(Z), torch.from_numpy(view), None, n_classes=8, memory=1e9), torch.from_numpy(text)


def test_the_language_map_gives_zero_shot(joint):
    images, text = images_of(joint)
    basis = span(text)
    L = language_map(images, basis)
    Z, view, _, _ = joint
    np.testing.assert_allclose(torch.from_numpy(Z) @ L @ basis.T @ text.T, view @ joint[2].T, atol=1e-5)
    np.testing.assert_allclose(orthogonal_mean(L, torch.roll(L, 3, 0), 0.0), L, atol=1e-5)


def test_where_the_view_is_no_column_the_language_map_is_procrustes(joint):
    Z, view, text, _ = (torch.from_numpy(a) for a in joint)
    basis = span(text)
    L = language_map(Images(Z[:, :20], view, None, n_classes=8, memory=1e9), basis).double()
    U, _, Vt = np.linalg.svd((Z[:, :20].T @ view @ basis).double().numpy(), full_matrices=False)
    np.testing.assert_allclose(L, U @ Vt, atol=1e-4)


@pytest.mark.parametrize("width", [32, 20])
def test_the_terms_of_the_affinity_are_the_log_densities(joint, width):
    """With the language view among the columns of the images, and beside them; up to a constant of each image."""
    Z, view, text, _ = (torch.from_numpy(a) for a in joint)
    images = Images(Z[:, :width], view, None, n_classes=8, memory=1e9)
    ground = Ground.estimate(images, torch.arange(160), text, 0.9, 100.0)
    terms = ground.density_terms(images, 0.02)
    zero = torch.zeros(8, sum(images.widths)), torch.zeros_like(text)
    blocks = list(_affinity(images, *zero, 0.9, terms))
    found = torch.cat([R for _, R in blocks])
    expected = 0.02 * ground.classes.log_density(Z)
    assert not torch.allclose(terms.curvatures, torch.zeros(8), atol=1e-6)
    torch.testing.assert_close(
        found - found.mean(dim=1, keepdim=True), expected - expected.mean(dim=1, keepdim=True), atol=1e-5, rtol=1e-5
    )


def test_one_vote_per_class_whatever_its_size(joint):
    images, text = images_of(joint)
    basis = span(text)
    L, rng = language_map(images, basis), np.random.default_rng(1)
    centers, mass = rng.normal(size=(8, 32)), np.array([0, 1, 5, 20, 100, 1e3, 1e4, 1e-9])
    nobody = likeliest(torch.full((160, 8), 1 / 8))
    found = initial_map(
        Assignment(torch.from_numpy(mass[:, None] * centers), torch.from_numpy(mass), nobody, 0.0), text @ basis, L
    )
    expected = np.zeros((32, 8))
    for k in range(8):
        y_k = (text @ basis)[k].double().numpy()
        expected += mass[k] / (mass[k] + 2) * np.outer(centers[k], y_k) + 3 * np.outer(L.double().numpy() @ y_k, y_k)
    U, _, Vt = np.linalg.svd(expected, full_matrices=False)
    np.testing.assert_allclose(found, U @ Vt, atol=1e-4)


def test_without_images_of_a_class_only_texts_answer():
    data = few_shot(shots=40, noise=0.6)
    with pytest.warns(UserWarning, match=r"4 of the 5 classes seem to have no image"):
        one = GPUA().fit(data.X[data.y == 2], text=data.text)
    whole = GPUA().fit(data.X, text=data.text)
    assert one.diagnosis_["absent_classes"] == 4
    assert int(one.class_sizes_.argmax()) == 2
    assert float(one.class_sizes_.sum()) == pytest.approx(40, rel=1e-4)
    assert one.diagnosis_["new_image_weight"] < 0.1 * MAP_WEIGHT
    assert whole.diagnosis_["new_image_weight"] == pytest.approx(MAP_WEIGHT * 200 / 205)
    zero_shot = (data.Xt @ data.text.T).argmax(axis=1)
    assert (one.predict(data.Xt) == zero_shot).mean() > 0.95


def test_complete_folders_bring_no_warning():
    data = few_shot(shots=40, noise=0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GPUA().fit(data.X, text=data.text)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.filterwarnings("ignore:About")
def test_fewer_images_than_classes_are_answered_as_by_zero_shot(n):
    data = few_shot()
    method = GPUA().fit(data.X[:n], text=data.text)
    assert np.isfinite(method.scores(data.Xt)).all()
    zero_shot = (data.Xt @ data.text.T).argmax(axis=1)
    assert (method.predict(data.Xt) == zero_shot).mean() > 0.9


def test_a_second_space_adds_to_both_answers(joint):
    Z, view, text, y = joint
    zero_shot = ((view @ text.T).argmax(axis=1) == y).mean()
    method = GPUA(random_state=0).fit(Z, text=text, clip_features=view)
    assert (method.transduction_ == y).mean() > zero_shot + 0.02
    assert method.score(Z, y) > zero_shot + 0.02


@pytest.mark.skipif(not REAL.exists(), reason="needs real CLIP features beside the repository")
@pytest.mark.filterwarnings("ignore:About")
@pytest.mark.parametrize("kind", ["natural", "16 per class", "half absent", "2 present", "100 images", "tail ×100"])
def test_never_far_below_zero_shot_on_folders_of_any_kind(kind):
    from bench.label_free import caltech, measure

    row = measure(caltech(), "gpua", kind, seeds=2)
    assert row.transduction > -1
    assert row.new > -1
    if kind in ("natural", "16 per class"):
        assert min(row.transduction, row.new) > 1.5
