"""What training moved, from vectors whose angles are known."""

from __future__ import annotations

import torch

from modalign.methods.cmm.cmm_diagnosis import movement


def test_movement_is_one_minus_the_mean_cosine() -> None:
    X, text = torch.eye(4), torch.eye(4)[[1, 2, 3]]
    still = movement(X, X, text, text)
    assert still["images_moved"] == still["texts_moved"] == 0.0
    turned = movement(X, X.roll(1, dims=0), text, torch.cat([text[:2], -text[2:]]))
    assert turned["images_moved"] == 1.0
    assert abs(turned["texts_moved"] - 2 / 3) < 1e-6
