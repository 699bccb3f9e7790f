"""ReCLIP against its equations: propagation in dense matrices, both losses, and counts of parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_clip import NAMES, SCALE, small_clip, towers_of

from modalign import ReCLIP
from modalign.evaluate.publications.parameter_counts import counted
from modalign.methods.fair.label_propagation import affinity, propagate, text_projection
from modalign.tune.batches import Batch
from modalign.tune.prompts import count_parameters
from modalign.tune.targets import LayerNorms


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def normals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_the_projection_leaves_out_what_all_classes_share() -> None:
    texts = unit(normals(4, 9) + 3 * normals(9, seed=1))
    P = text_projection(torch.from_numpy(texts)).numpy()
    vectors = np.linalg.svd(texts.T)[0]
    np.testing.assert_allclose(P @ vectors[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(P @ vectors[:, 1:4], vectors[:, 1:4], atol=1e-12)
    np.testing.assert_allclose(P @ vectors[:, 4:], 0, atol=1e-12)


def test_labels_propagate_as_by_the_inverse_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense, with a loop over the neighbors; conjugate gradients end at the solution on so few points."""
    monkeypatch.setattr("modalign.methods.fair.label_propagation.ROWS", 5)
    K, n, d, k, alpha = 3, 14, 6, 4, 0.9
    texts, images = unit(normals(K, d)), unit(normals(n, d, seed=2))
    P = text_projection(torch.from_numpy(texts)).numpy()
    points = unit(np.concatenate([texts, images]) @ P)
    A = np.zeros((K + n, K + n))
    for i in range(K + n):
        weights = [(1 + points[i] @ points[j]) / 2 if i != j else 0.0 for j in range(K + n)]
        for j in sorted(range(K + n), key=lambda j: -weights[j])[:k]:
            A[i, j] = weights[j]
    W = (A + A.T) / 2
    D = np.diag(W.sum(axis=1) ** -0.5)
    np.testing.assert_allclose(affinity(torch.from_numpy(points), k).toarray(), D @ W @ D, atol=1e-12)
    z = np.linalg.inv(np.eye(K + n) - alpha * D @ W @ D)[:K]
    answers = z.argmax(axis=0)

    options = {"neighbors": k, "alpha": alpha, "iterations": 100}
    found = propagate(*map(torch.from_numpy, (texts, images, P)), **options)
    np.testing.assert_array_equal(found.labels, answers[K:])
    everything = np.concatenate([texts, images])
    expected = unit(np.stack([everything[answers == c].sum(axis=0) for c in range(K)]))
    np.testing.assert_allclose(found.centroids, expected, atol=1e-12)


def test_both_classifiers_learn_where_their_labels_agree() -> None:
    towers = towers_of(small_clip())
    learner = ReCLIP()._learner(towers, torch.Generator()).double()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) / 10)
    pixels = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    learner.register_buffer("labels", torch.tensor([2, -1, 0, 1]))
    batch = Batch((pixels,), torch.full((3,), -1), torch.tensor([0, 1, 2]), 0)
    found = learner.loss(batch)

    images = learner.image.tower(towers.vision)(pixels).pooled[0].detach().numpy()
    frozen = towers.vision(pixels).pooled[0].numpy()
    texts = learner.text.tower(towers.text)(towers.text.tokenize(NAMES)).pooled[0].detach().numpy()
    losses = []
    for rows, classes in ((images, learner.centroids.numpy()), (frozen, texts)):
        logits = SCALE * unit(rows) @ unit(classes).T
        losses.append(np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, y] for i, y in ((0, 2), (2, 0))]))
    assert found["image_loss"].item() == pytest.approx(losses[0], rel=1e-5)
    assert found["text_loss"].item() == pytest.approx(losses[1], rel=1e-5)
    assert found["loss"].item() == pytest.approx(sum(losses), rel=1e-5)

    learner.labels.fill_(-1)
    assert learner.loss(batch)["loss"].item() == 0


def test_the_layer_norms_of_the_text_tower_start_as_they_are_and_act() -> None:
    text = towers_of(small_clip()).text
    sentences, norms = text.tokenize(NAMES), LayerNorms(text)
    before = text(sentences).pooled
    torch.testing.assert_close(norms.tower(text)(sentences).pooled, before, rtol=1e-5, atol=1e-6)
    for name, parameter in norms.items():
        with torch.no_grad():
            parameter.add_(0.5)
            moved = norms.tower(text)(sentences).pooled
            parameter.sub_(0.5)
        assert (moved - before).abs().max() > 1e-4, name


def test_trainable_numbers_at_the_published_size() -> None:
    assert counted("ReCLIP", "trainable parameters", "ViT-B/32") == 65_536
    towers = towers_of(small_clip())
    learner = ReCLIP()._learner(towers, torch.Generator())
    assert count_parameters(learner) == (2 * 4 + 2) * 2 * 30 + (2 * 3 + 1) * 2 * 24
