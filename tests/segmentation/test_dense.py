"""Dense features against loops over tokens and heads, and the laws that they keep."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from dense_loops import last_layer_features, small_model
from torch import Tensor

from modalign.core.errors import InputError
from modalign.encoders.towers.vision_tower import VisionTower, full_attention, interpolated_positions
from modalign.linalg.similarity import cosine
from modalign.segmentation.calibrated import Calibration, calibrated
from modalign.segmentation.dense import (
    LAST_LAYERS,
    by_proxy,
    correlative_attention,
    identity_attention,
    of_last_layer,
    query_attention,
    similarity_attention,
)

SIZES = [(32, 32), (24, 44)]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def tower(model) -> VisionTower:
    return VisionTower.of(model)


def images(size: tuple[int, int], count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("features", LAST_LAYERS)
def test_features_are_those_of_the_loops(model, tower: VisionTower, features: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        pixels = images(size)
        expected = torch.stack([last_layer_features(model, image, features) for image in pixels])
        found = of_last_layer(tower, pixels, LAST_LAYERS[features])
        assert (found - expected).abs().max() < 1e-5  # batch of three against one by one


def test_scaled_queries_are_not_mistaken_for_queries() -> None:
    q = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scaled = q * 7**-0.5
    torch.testing.assert_close(query_attention(scaled, q, v), (q @ q.mT / 7**0.5).softmax(-1) @ v)


def test_equal_query_and_key_maps_double_the_attention_of_sclip() -> None:
    q, v = torch.randn(2, 1, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    doubled = 2 * (q @ q.mT / 7**0.5).softmax(-1) @ v
    torch.testing.assert_close(correlative_attention(q * 7**-0.5, q, v), doubled)


def test_the_tower_with_its_own_attention_gives_its_own_tokens(model, tower: VisionTower) -> None:
    with torch.no_grad():
        pixels = images((32, 32))
        own = tower(pixels, tokens=True).tokens[0][:, 1:]
        torch.testing.assert_close(of_last_layer(tower, pixels, LAST_LAYERS["clip"]), own, rtol=0, atol=1e-12)
        sclip = LAST_LAYERS["sclip"]._replace(attention=full_attention)
        torch.testing.assert_close(of_last_layer(tower, pixels, sclip), own, rtol=0, atol=1e-12)
        clearclip = LAST_LAYERS["clearclip"]._replace(attention=identity_attention)
        value = of_last_layer(tower, pixels, LAST_LAYERS["maskclip"])
        torch.testing.assert_close(of_last_layer(tower, pixels, clearclip), value, rtol=0, atol=0)


@pytest.mark.parametrize("features", LAST_LAYERS)
def test_permuted_patches_give_permuted_features(tower: VisionTower, features: str) -> None:
    attention, residual, mlp = LAST_LAYERS[features]
    x = torch.randn(2, 17, tower.width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(16)])
    last = partial(tower.last, attention=attention, residual=residual, mlp=mlp)
    torch.testing.assert_close(last(x[:, order]), last(x)[:, order])


def test_proxy_is_attention_by_another_network(model, tower: VisionTower) -> None:
    """One dense grid, one attention for all heads; on CLIP's own grid the values are not interpolated."""
    with torch.no_grad():
        pixels = images((32, 32))
        guide = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        found = by_proxy(tower, pixels, guide)
        S = cosine(guide.flatten(1, 2), guide.flatten(1, 2))
        M = 3.0 * (S - 1.2 * S.mean(dim=(1, 2), keepdim=True))
        A = M.masked_fill(M < 0, -torch.inf).softmax(2)
        *_, x = tower.states(pixels)
        value = tower.last(x[:, 1:], lambda q, k, v: A[:, None] @ v, residual=False, mlp=False)
        torch.testing.assert_close(found, tower.project(value))
        torch.testing.assert_close(by_proxy(tower, pixels[:1], guide[:1]), found[:1])
        assert by_proxy(tower, pixels, torch.randn(3, 6, 5, 6).double()).shape == (3, 30, 10)


def test_equal_tokens_keep_a_row_of_attention() -> None:
    S = torch.full((1, 5, 5), 0.3)
    S.diagonal(dim1=1, dim2=2).sub_(1e-6)
    assert similarity_attention(S, 3.0).isfinite().all()


def test_bfloat16_stays_near() -> None:
    model = small_model(depth=12, width=32, heads=4)
    tower, half = VisionTower.of(copy.deepcopy(model).float()), VisionTower.of(copy.deepcopy(model).bfloat16())
    pixels = images((32, 32)).float()
    with torch.no_grad():
        for layer in LAST_LAYERS.values():
            same = (cosine(of_last_layer(tower, pixels, layer)[..., None, :],
                           of_last_layer(half, pixels, layer).float()[..., None, :]))  # fmt: skip
            assert same.min() > 0.98
        plain = Calibration(lof="none")  # which tokens are outliers may differ
        calm = cosine(calibrated(tower, pixels, plain)[..., None, :],
                      calibrated(half, pixels, plain).float()[..., None, :])  # fmt: skip
        assert calm.min() > 0.98


def test_positions_of_another_grid() -> None:
    table = torch.randn(17, 6, generator=torch.Generator().manual_seed(0))
    assert interpolated_positions(table, 4, 4) is table
    wide = interpolated_positions(table, 3, 7)
    assert wide.shape == (22, 6)
    assert torch.equal(wide[0], table[0])
    constant = torch.ones(17, 6)
    torch.testing.assert_close(interpolated_positions(constant, 9, 2), torch.ones(19, 6))


def test_an_image_below_a_patch_is_refused(tower: VisionTower) -> None:
    with pytest.raises(InputError, match="at least one patch"):
        next(tower.states(torch.zeros(1, 3, 7, 32)))
