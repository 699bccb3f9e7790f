"""SC-CLIP against its steps as loops, its laws, and its outlier factor against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_loops import calibrated_features, small_model
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from torch import Tensor

from modalign.core.errors import InputError
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.segmentation.calibrated import (
    Calibration,
    Layers,
    aggregated,
    calibrated,
    layers_of,
    local_outlier_factor,
    outliers,
    repaired,
)
from modalign.segmentation.dense import key_attention, similarity_attention


def images(size: tuple[int, int], count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(n: int = 196, w: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(1, n, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(32, 32), (24, 44)])
@pytest.mark.parametrize(
    "changed", [{}, {"second_pass": False}, {"lof": "none", "beta": 0.1}, {"class_weight": 0.0, "neighbors": 5}]
)
def test_features_are_those_of_the_steps(size: tuple[int, int], changed: dict) -> None:
    # with all others as neighbors two tokens have one factor, of which rounding says which is the larger
    model, settings = small_model(), Calibration(**({"contamination": 0.2, "neighbors": 9} | changed))
    with torch.no_grad():
        pixels = images(size)
        expected = torch.stack([calibrated_features(model, image, layers_of(4), settings) for image in pixels])
        found = calibrated(VisionTower.of(model), pixels, settings)
    assert (found - expected).abs().max() < 1e-5  # also: a batch of two as one by one


def test_twelve_layers_are_those_of_the_paper() -> None:
    assert layers_of(12) == Layers(9, 4, (4, 10))
    assert layers_of(4) == Layers(3, 1, (1, 3))
    for depth in range(2, 30):
        mid, post, (first, last) = layers_of(depth)
        assert all(1 <= layer <= depth - 1 for layer in (mid, post, first, last))
    model = small_model(depth=12, width=12, heads=2)
    with torch.no_grad():
        pixels = images((24, 24), 1)
        expected = calibrated_features(model, pixels[0], layers_of(12), Calibration())
        found = calibrated(VisionTower.of(model), pixels, Calibration())[0]
    assert (found - expected).abs().max() < 1e-5


def test_beta_near_one_makes_both_aggregations_the_identity() -> None:
    X = tokens(16)
    S = torch.eye(16, dtype=torch.float64)[None] * 1.0 + 0.3 * (1 - torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(aggregated(X, S, 1 - 1e-9), X / (1 + 1e-6))


def test_unrelated_tokens_attend_to_themselves_and_by_keys() -> None:
    """S_mid = I: A = (I + softmax(k kᵀ/√e)) / 2, and without all else the features are P LN(O A v)."""
    eye = torch.eye(16, dtype=torch.float64)[None]
    assert torch.equal(similarity_attention(eye * 1e6, 3.0), eye)
    model = small_model()
    tower = VisionTower.of(model)
    bare = Calibration(class_weight=0.0, second_pass=False, lof="none", beta=1 - 1e-9, sharpness=1e9)
    with torch.no_grad():
        pixels = images((32, 32))
        *_, x = tower.states(pixels)
        attended = tower.last(
            x[:, 1:], lambda q, k, v: 0.5 * (v + key_attention(q, k, v)), residual=False, mlp=False
        )  # with so sharp a softmax each token is nearest to itself
        torch.testing.assert_close(calibrated(tower, pixels, bare), tower.project(attended), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("neighbors", [5, 30])
def test_standard_factor_is_that_of_scikit_learn(neighbors: int) -> None:
    X = tokens()
    fitted = LocalOutlierFactor(n_neighbors=neighbors, metric="sqeuclidean").fit(X[0].numpy())
    found = local_outlier_factor(X, neighbors, "standard")[0].numpy()
    np.testing.assert_allclose(found, -fitted.negative_outlier_factor_, rtol=1e-9)


def test_released_factor_is_the_mean_ratio_of_distances() -> None:
    X = tokens()
    distances, near = NearestNeighbors(n_neighbors=31, metric="sqeuclidean").fit(X[0].numpy()).kneighbors()
    d = distances[:, -1]
    expected = (d[:, None] / d[near]).mean(axis=1)
    np.testing.assert_allclose(local_outlier_factor(X, 31, "released")[0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("lof", ["released", "standard"])
def test_ten_of_196_tokens_are_outliers_whatever_scale_and_rotation(lof: str) -> None:
    X, settings = tokens(), Calibration(lof=lof)
    flagged = outliers(X, settings)
    assert flagged.sum() == 10
    turn = torch.linalg.qr(tokens(20, 20, seed=3)[0]).Q
    assert torch.equal(outliers(7.5 * X @ turn + 3, settings), flagged)
    assert outliers(tokens(16), replace(settings, neighbors=5)).sum() == 1
    assert outliers(tokens(2), settings).sum() == 0


@pytest.mark.parametrize("lof", ["released", "standard"])
def test_equal_tokens_are_no_outliers_and_give_no_nan(lof: str) -> None:
    same = torch.ones(1, 40, 6)
    assert not outliers(same, Calibration(lof=lof)).any()
    assert local_outlier_factor(same, 30, lof).isfinite().all()
    nearly = torch.cat([torch.ones(1, 30, 6), torch.randn(1, 10, 6) * 1e6], dim=1)
    assert local_outlier_factor(nearly, 5, lof).isfinite().all()


def test_a_flat_image_gives_finite_features() -> None:
    tower = VisionTower.of(small_model().float())
    with torch.no_grad():
        assert calibrated(tower, torch.zeros(1, 3, 32, 32), Calibration()).isfinite().all()


def test_repair_takes_the_mean_of_sound_neighbors() -> None:
    X = torch.arange(12.0)[None, :, None]  # 3 rows of 4
    flagged = torch.zeros(1, 12, dtype=torch.bool)
    flagged[0, [0, 5]] = True
    fixed = repaired(X, flagged, (3, 4))[0, :, 0]
    assert fixed[0] == (1 + 4) / 2  # the corner has three neighbors, one of them an outlier
    assert fixed[5] == pytest.approx((1 + 2 + 4 + 6 + 8 + 9 + 10) / 7)
    assert torch.equal(fixed[[1, 2, 3, 4, *range(6, 12)]], X[0, [1, 2, 3, 4, *range(6, 12)], 0])
    everything = torch.ones(1, 12, dtype=torch.bool)
    assert torch.equal(repaired(X, everything, (3, 4)), X)


@pytest.mark.parametrize(
    "wrong", [{"neighbors": 0}, {"contamination": 2.0}, {"beta": "high"}, {"sharpness": 0.0}, {"lof": "other"}]
)
def test_constants_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(Calibration(), **wrong)


def test_one_layer_is_too_few() -> None:
    with pytest.raises(InputError, match="at least 2 layers"):
        calibrated(VisionTower.of(small_model(depth=1)), images((32, 32)), Calibration())
