"""Class shares found without labels: flat, long-tailed and natural subsets, synthetic and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modalign.linalg.divergence import divergence_from_uniform
from modalign.methods.gpua.gpua import GPUA

REAL = Path(__file__).parents[3] / "shared" / "data" / "clip-vitb32" / "caltech101.npz"


def long_tail(y: np.ndarray, factor: float, seed: int) -> np.ndarray:
    """Indices such that class sizes fall geometrically by ``factor`` over the classes, in random order."""
    rng = np.random.default_rng(seed)
    K, counts = int(y.max()) + 1, np.bincount(y)
    largest = 1.5 * np.median(counts)
    sizes = np.maximum(1, np.round(largest * factor ** (-np.arange(K) / (K - 1)))).astype(int)
    rows = [rng.permutation(np.flatnonzero(y == k))[:size] for k, size in zip(rng.permutation(K), sizes, strict=True)]
    return np.sort(np.concatenate(rows))


def at_most(y: np.ndarray, cap: int) -> np.ndarray:
    return np.sort(np.concatenate([np.flatnonzero(y == k)[:cap] for k in np.unique(y)]))


def test_divergence_from_uniform():
    assert divergence_from_uniform(torch.ones(7)) == pytest.approx(0, abs=1e-12)
    assert divergence_from_uniform(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(np.log(3))
    assert divergence_from_uniform(torch.tensor([1.0, 3.0])) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))


def problem(sizes: list[int], seed: int = 0, d: int = 32, text_noise: float = 0.7):
    """Images of classes of the given sizes, one text of which attracts the images of another class."""
    rng = np.random.default_rng(seed)
    K = len(sizes)
    centers = rng.normal(size=(K, d))
    y = np.repeat(np.arange(K), sizes)
    Z = centers[y] + 0.8 * rng.normal(size=(len(y), d))
    text = centers + text_noise * rng.normal(size=centers.shape)
    text[0] += 1.2 * centers[1]
    Z, text = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (Z, text))
    return torch.tensor(Z, dtype=torch.float32), torch.tensor(text, dtype=torch.float32), y


def estimate(Z, text, **settings):
    """The default's shares for images that are their own language view."""
    method = GPUA(steps=0, logit_scale=20.0, **settings).fit(Z, text=text)
    return method.class_prior_, method.diagnosis_["class_prior"]


def test_even_classes_come_out_more_even_than_by_zero_shot_on_average():
    estimated = zero_shot = 0.0
    for seed in range(4):
        Z, text, _ = problem([40] * 8, seed)
        shares, kind = estimate(Z, text, class_prior="estimate")
        assert kind == "estimated"
        estimated += divergence_from_uniform(shares)
        zero_shot += divergence_from_uniform(torch.bincount((Z @ text.T).argmax(dim=1), minlength=8))
    assert estimated < zero_shot


@pytest.mark.parametrize("seed", range(4))
def test_uneven_classes_are_detected_and_their_sizes_estimated(seed):
    sizes = [100, 10, 80, 20, 60, 5, 40, 30]
    Z, text, y = problem(sizes, seed)
    shares, kind = estimate(Z, text)
    assert kind == "estimated"
    true = torch.tensor(sizes) / sum(sizes)
    zero_shot = torch.bincount((Z @ text.T).argmax(dim=1), minlength=8) / len(y)
    assert float((shares - true).abs().sum()) <= float((zero_shot - true).abs().sum()) + 0.02
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert bool((shares > 0).all())


def test_shares_do_not_depend_on_order_or_rotation():
    Z, text, _ = problem([60, 10, 50, 20, 30])
    found, _ = estimate(Z, text)
    new, rows = torch.tensor([3, 1, 4, 0, 2]), torch.randperm(len(Z), generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(estimate(Z[rows], text[new])[0], found[new], atol=1e-4)
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]
    np.testing.assert_allclose(estimate(Z @ rotation, text @ rotation)[0], found, atol=1e-4)


@pytest.fixture(scope="module")
def caltech():
    if not REAL.exists():
        pytest.skip("the real features (../shared/data) are not on this machine")
    with np.load(REAL, allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    order = np.argsort(data["text_labels"])
    found = {"text": data["text"].astype(np.float32)}
    for part in ("val", "test"):
        y = data[f"{part}_labels"]
        at = np.searchsorted(data["text_labels"], y, sorter=order).clip(max=len(order) - 1)
        kept = data["text_labels"][order[at]] == y
        found[part] = data[f"{part}_images"][kept].astype(np.float32), order[at][kept]
    return found


def accuracies(caltech, part: str, rows: np.ndarray | slice, **settings) -> tuple[float, float, str]:
    X, y = (a[rows] for a in caltech[part])
    method = GPUA(random_state=0, steps=0, **settings).fit(X, text=caltech["text"])
    zero_shot = ((X @ caltech["text"].T).argmax(axis=1) == y).mean()
    return 100 * float((method.transduction_ == y).mean()), 100 * float(zero_shot), method.diagnosis_["class_prior"]


@pytest.mark.parametrize("part", ["val", "test"])
def test_on_natural_sizes_it_beats_zero_shot_where_uniform_shares_collapse(caltech, part):
    ours, zero_shot, kind = accuracies(caltech, part, slice(None))
    assert kind == "estimated"
    assert ours >= 95.4
    assert ours >= zero_shot + 0.5
    assert accuracies(caltech, part, slice(None), class_prior="uniform", preset="paper")[0] < zero_shot - 15


def test_on_flat_sizes_it_is_uniform(caltech):
    rows = at_most(caltech["test"][1], 12)
    ours, zero_shot, kind = accuracies(caltech, "test", rows)
    assert kind == "uniform"
    assert ours >= 95.2
    assert ours > zero_shot + 1.5


@pytest.mark.parametrize("seed", range(3))
def test_on_a_long_tail_of_factor_fifty_it_is_not_below_zero_shot(caltech, seed):
    ours, zero_shot, kind = accuracies(caltech, "test", long_tail(caltech["test"][1], 50, seed))
    assert kind == "estimated"
    assert ours >= zero_shot - 0.2


def test_the_true_shares_are_better_still(caltech):
    y = caltech["val"][1]
    true = (np.bincount(y, minlength=68) / len(y)).tolist()
    assert accuracies(caltech, "val", slice(None), class_prior=true)[0] >= 97.3


@pytest.mark.parametrize("d", [24, 160])
@pytest.mark.parametrize("preset", ["paper", "official_code"])
def test_images_that_repeat_are_fitted_like_others(d: int, preset: str) -> None:
    """Copies leave nothing within classes, or in all but a few directions: covariances of rounding alone."""
    rng = np.random.default_rng(d)
    text, y = rng.normal(size=(5, d)), np.arange(60) % 5
    basis, uneven = np.eye(5, d), np.where(np.arange(60) < 40, 0, y)
    cases = {
        "each class one image": (text[y] + 0.3, text, y),
        "right angles, no rounding": (basis[y], basis, y),
        "two images": ((text[:2] + 0.3)[y % 2], text[:2], y % 2),
        "a few images, many times": ((text[np.arange(15) % 5] + rng.normal(size=(15, d)))[np.arange(60) % 15], text, y),
        "one large class": ((text + 0.3)[uneven], text, uneven),
    }
    for what, (X, T, expected) in cases.items():
        method = GPUA(preset=preset, steps=5, random_state=0).fit(X, text=T)
        assert np.isfinite(method.predict_proba(X)).all(), what
        assert torch.isfinite(method.weight_).all(), what
        assert (method.predict(X) == expected).all(), what
        assert (method.transduction_ == expected).all(), what


def test_one_repeated_image_gives_the_answers_of_zero_shot() -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(3, 300))
    X = np.repeat(text[1:2] + rng.normal(size=300), 40, axis=0)
    found, _ = estimate(*(torch.from_numpy(a).float() for a in (X / np.linalg.norm(X[0]), text / 17)))
    assert torch.isfinite(torch.as_tensor(found)).all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert int(found.argmax()) == 1
