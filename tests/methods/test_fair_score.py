"""FAIR's score, weights and fairness term obey the laws that their formulas promise."""

from __future__ import annotations

import math

import pytest
import torch

from modalign.core.errors import InputError
from modalign.linalg.divergence import divergence_from_uniform
from modalign.methods.fair.fair_score import (
    CropScores,
    align,
    crop_weights,
    fairness,
    sample_confidence,
    zero_shot_shares,
)

K, N = 5, 6


def test_the_score_of_kept_crops_is_linear_in_them() -> None:
    draws = torch.Generator().manual_seed(0)
    crops, anchors = torch.randn(7, N, 8, generator=draws), torch.randn(K, 8, generator=draws)
    weights = torch.rand(7, N, generator=draws)
    every = align(weights, crops, anchors, N)
    unit = torch.nn.functional.normalize(crops, dim=2)
    direction = (weights[:, :, None] * unit).sum(1)
    torch.testing.assert_close(every.scores, direction @ torch.nn.functional.normalize(anchors, dim=1).T)
    shuffled = torch.randperm(N, generator=draws)
    torch.testing.assert_close(align(weights[:, shuffled], crops[:, shuffled], anchors, 3).scores,
                               align(weights, crops, anchors, 3).scores)  # fmt: skip


def test_gamma_lies_between_doubt_and_certainty() -> None:
    draws = torch.Generator().manual_seed(0)
    weights, crops = torch.rand(500, N, generator=draws), torch.randn(500, N, 8, generator=draws)
    alignment = align(weights / weights.sum(1, keepdim=True), crops, torch.randn(K, 8, generator=draws), 3)
    gamma = sample_confidence(alignment)
    assert 0 <= gamma.min() < 0.05
    assert 0.8 < gamma.max() <= 1
    tie = alignment._replace(scores=torch.ones(1, K), mass=torch.ones(1))
    assert sample_confidence(tie) == 0
    assert sample_confidence(tie, weighting="top") == pytest.approx(1 / K)
    sure = alignment._replace(scores=torch.eye(1, K) * 9, mass=torch.ones(1))
    assert sample_confidence(sure) == 1


def test_fairness_is_least_for_even_predictions_and_as_strong_with_memory() -> None:
    even = torch.zeros(3, K)
    loss, average = fairness(even, torch.full((K,), 1 / K), 0.5)
    assert float(loss) * 0.5 == pytest.approx(math.log(K))
    logits = torch.randn(8, K, dtype=torch.float64, requires_grad=True)
    plain, mean = fairness(logits, torch.zeros(K), 0.0)
    assert plain > math.log(K)
    steady = fairness(logits, mean, 0.5)[0]
    (first,), (second,) = (torch.autograd.grad(value, logits, retain_graph=True) for value in (plain, steady))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(average, torch.full((K,), 1 / K))


def test_zero_shot_shares_sum_to_one_follow_the_classes_and_add_up_over_batches() -> None:
    anchors = 3 * torch.eye(K)
    images = torch.eye(K)[[0, 0, 0, 1]] * torch.tensor([1.0, 5.0, 0.1, 2.0])[:, None]
    shares = zero_shot_shares(images, anchors, 100.0)
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25, *[0.0] * (K - 2)]))
    images = torch.randn(7, K)
    parts = [len(few) * zero_shot_shares(few, anchors, 2.0) for few in images.split([5, 2])]
    torch.testing.assert_close(zero_shot_shares(images, anchors, 2.0), sum(parts) / 7)
    assert float(zero_shot_shares(images, anchors, 2.0).sum()) == pytest.approx(1)


def test_the_divergence_from_even_classes() -> None:
    counts = torch.tensor([[4.0, 4, 4, 4], [8, 8, 0, 0], [16, 0, 0, 0]])
    expected = torch.tensor([0, math.log(2), math.log(4)], dtype=torch.float64)
    torch.testing.assert_close(divergence_from_uniform(counts), expected)


def test_weights_are_shares_whatever_the_signs_of_the_cosines() -> None:
    draws = torch.Generator().manual_seed(0)
    whole, crops = torch.randn(200, 8, generator=draws), torch.randn(200, N, 8, generator=draws)
    weights = crop_weights(whole, crops)
    assert 0 <= weights.min() <= weights.max() <= 1
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200))
    cosines = torch.nn.functional.cosine_similarity(whole[:, None], crops, dim=2)
    positive = (cosines > 0).all(dim=1)
    torch.testing.assert_close(weights[positive], cosines[positive] / cosines[positive].sum(dim=1, keepdim=True))
    assert bool((weights.argmax(dim=1) == cosines.argmax(dim=1))[(cosines > 0).any(dim=1)].all())
    for opposite in (-whole[:, None].expand(-1, N, -1), torch.zeros_like(crops)):
        assert bool((crop_weights(whole, opposite) == 1 / N).all())


def test_no_weight_is_no_confidence_and_one_class_no_question() -> None:
    nothing = CropScores(torch.zeros(2, K), torch.zeros(2), torch.zeros(2, 1, dtype=torch.long))
    for score in ("prob", "raw", "logit"):
        assert bool((sample_confidence(nothing, score=score) == 0).all())
    with pytest.raises(InputError, match="at least 2 classes, got 1"):
        sample_confidence(CropScores(torch.ones(2, 1), torch.ones(2), torch.zeros(2, 1, dtype=torch.long)))
