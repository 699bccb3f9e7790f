"""Cosines to labels against literal pixels: names, thresholds, background, and results of bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modalign.core.errors import InputError
from modalign.segmentation.pixel_labels import Decision, decide, probabilities
from modalign.segmentation.segmented import label_type, none_label

OWNER = torch.tensor([0, 0, 1, 2, 2, 2, 3])
SIZE = (23, 31)


def canvas(names: int = 7, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(names, 9, 12, generator=torch.Generator().manual_seed(seed))


def literal(logits: Tensor, owner: Tensor, decision: Decision) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidence pixel by pixel, from (M, H, W) cosines at full size."""
    K = int(owner.max()) + 1
    H, W = logits.shape[1:]
    p = np.zeros((K, H, W))
    for y in range(H):
        for x in range(W):
            weights = np.exp(decision.logit_scale * logits[:, y, x].double().numpy())
            for m, k in enumerate(owner.tolist()):
                p[k, y, x] = max(p[k, y, x], weights[m] / weights.sum())
    if decision.area_threshold is not None:
        first = p.argmax(0)
        foreground = (first > 0).sum()
        for k in range(1, K):
            if (first == k).sum() <= decision.area_threshold * foreground:
                p[k] = 0
    labels, confidence = p.argmax(0), p.max(0)
    labels[confidence < decision.prob_threshold] = 0 if decision.background else 255
    return labels, confidence


@pytest.mark.parametrize(
    "decision",
    [
        Decision(),
        Decision(logit_scale=5.0, prob_threshold=0.3),
        Decision(logit_scale=5.0, prob_threshold=0.3, background=True),
        Decision(logit_scale=8.0, prob_threshold=0.25, area_threshold=0.3, background=True),
        Decision(area_threshold=0.35, background=True),
    ],
)
def test_labels_are_those_of_literal_pixels(decision: Decision) -> None:
    cosines = canvas()
    whole = F.interpolate(cosines[None], SIZE, mode="bilinear", align_corners=False)[0]
    labels, confidence = literal(whole, OWNER, decision)
    found = decide(cosines, OWNER, SIZE, decision)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-3)
    np.testing.assert_array_equal(found.counts, [(labels == k).sum() for k in range(4)])
    plain = Decision(logit_scale=decision.logit_scale)
    scores = probabilities(cosines, OWNER, SIZE, decision)
    np.testing.assert_array_equal(scores.argmax(0), literal(whole, OWNER, plain)[0])
    assert scores.sum(axis=0).max() <= 1 + 1e-6


def test_permuted_classes_permute_the_labels() -> None:
    cosines, order = canvas(4), torch.tensor([2, 0, 3, 1])
    alone = torch.arange(4)
    first = decide(cosines, alone, SIZE, Decision()).labels
    second = decide(cosines[order], alone, SIZE, Decision()).labels
    np.testing.assert_array_equal(order.numpy()[second], first)


def test_a_name_given_twice_changes_no_label_and_lowers_confidence() -> None:
    cosines = canvas()
    once = decide(cosines, OWNER, SIZE, Decision())
    again = torch.cat([cosines[:1], cosines])
    twice = decide(again, torch.cat([OWNER[:1], OWNER]), SIZE, Decision())
    np.testing.assert_array_equal(once.labels, twice.labels)
    assert (twice.confidence <= once.confidence).all()


def test_names_of_a_class_are_classes_that_are_merged() -> None:
    cosines = canvas()
    apart = decide(cosines, torch.arange(7), SIZE, Decision())
    merged = decide(cosines, OWNER, SIZE, Decision())
    np.testing.assert_array_equal(OWNER.numpy()[apart.labels], merged.labels)
    np.testing.assert_array_equal(apart.confidence, merged.confidence)


def test_many_classes_need_two_bytes() -> None:
    assert (label_type(255), label_type(256)) == (np.uint8, np.uint16)
    assert (none_label(np.uint8), none_label(np.uint16)) == (255, 65535)
    found = decide(canvas(300), torch.arange(300), (4, 5), Decision(prob_threshold=1.0))
    assert found.labels.dtype == np.uint16
    assert (found.labels == 65535).all()
    assert found.counts.sum() == 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"logit_scale": 0.0}, "logit_scale=… above 0"),
        ({"logit_scale": float("inf")}, "logit_scale"),
        ({"prob_threshold": 1.5}, "prob_threshold=… between 0 and 1"),
        ({"area_threshold": -0.1, "background": True}, "area_threshold"),
        ({"area_threshold": 0.1}, "together with a background"),
    ],
)
def test_thresholds_out_of_range_are_refused(wrong: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Decision(**wrong)
