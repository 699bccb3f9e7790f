"""Windows of encoders without dense features, vision-only networks of every kind, and patches without a direction."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import save_checkpoint

import modalign as ma
from modalign.core.errors import InputError
from modalign.segmentation.patch_features import PatchFeatures, vision_patches

NAMES = ["cat", "dog"]
SENTENCES = ("a photo of the {}",)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 80, 130, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_encoders_without_dense_features_have_windows(kind: str, photos: np.ndarray, tmp_path: Path) -> None:
    encoder = ma.load_encoder(save_checkpoint(tmp_path / kind, kind), cache=False)
    with pytest.raises(InputError, match=f"'{kind}' supports features='window' only"):
        ma.Segmenter(encoder, NAMES, templates=SENTENCES)
    segmenter = ma.Segmenter(encoder, NAMES, features="window", templates=SENTENCES)
    assert segmenter.sliding.window == 64
    assert next(segmenter.segment(photos)).labels.shape == (80, 130)


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers", "dinov3_vit", "vit"])
def test_vision_only_patches_have_the_requested_grid(kind: str, tmp_path: Path) -> None:
    encoder = ma.load_encoder(save_checkpoint(tmp_path / kind, kind), cache=False)
    windows = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    own = vision_patches(encoder, windows)
    assert own.shape == (2, 4, 4, 32)
    torch.testing.assert_close(vision_patches(encoder, windows, (4, 4)), own)
    torch.testing.assert_close(vision_patches(encoder, windows[1:]), own[1:])
    for grid in ((6, 5), (2, 3)):
        found = vision_patches(encoder, windows, grid)
        assert found.shape == (2, *grid, 32)
        torch.testing.assert_close(found.norm(dim=3), torch.ones(2, *grid))


def test_patches_without_a_direction_have_cosine_zero_and_are_counted(photos: np.ndarray) -> None:
    segmenter = ma.Segmenter("tiny", ["noise", "dots"], features="maskclip", templates=("{}",))
    sound = PatchFeatures._sound

    def broken(self: PatchFeatures, found: torch.Tensor) -> torch.Tensor:
        found = found.clone()
        found[0, 0, 0], found[0, 0, 1] = float("nan"), 0.0
        return sound(self, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchFeatures, "_sound", broken)
        windows = torch.from_numpy(photos[:, :32, :32]).permute(0, 3, 1, 2)
        features = segmenter.patches(windows)
        assert segmenter.patches.lost == 2
        assert not features[0, 0, :2].any()
        assert features.isfinite().all()
        with pytest.warns(UserWarning, match="2 patches had no direction and have cosine 0"):
            list(segmenter.segment(photos))


def test_coarse_patches_and_other_depths_are_doubtful(tmp_path: Path) -> None:
    encoder = ma.load_encoder("tiny", cache=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patches = ma.Segmenter(encoder, ["noise", "dots"], templates=("{}",)).patches
    patches.patch = 32
    assert "fail on patches of 32 pixels" in patches.notes()[0]
    patches.patch, patches._tower = 16, SimpleNamespace(depth=12)
    patches.side = 224
    assert patches.notes() == ()
