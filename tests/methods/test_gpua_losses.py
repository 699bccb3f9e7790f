"""The refinement: every loss against its equation in loops, and descent that never leaves the manifold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from modalign.methods.gpua.gpua_losses import Ranking, Slope, refine_map
from modalign.methods.gpua.gpua_rows import Images

N, D, R, K, NEAR, S = 30, 12, 6, 8, 3, 2.0


def draw(seed: int = 0):
    rng = np.random.default_rng(seed)
    Z, Y = rng.normal(size=(N, D)), rng.normal(size=(K, R))
    Z, Y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (Z, Y))
    Q = np.linalg.qr(rng.normal(size=(D, R)))[0]
    return Z, Y, Q, rng.integers(K, size=N)


def ranking(Y, kind, *, hub_weight=1.0, hubs="share"):
    return Ranking(torch.from_numpy(Y), kind, NEAR, S, hub_weight, hubs, 20.0)


def geometry(Z, Y, Q, labels):
    """Unit mapped images, distances to all prototypes, and the nearest competing ones, image by image."""
    F = [Q.T @ z / np.linalg.norm(Q.T @ z) for z in Z]
    d = [[np.linalg.norm(f - y) for y in Y] for f in F]
    near = [sorted((c for c in range(K) if c != labels[i]), key=lambda c: d[i][c])[:NEAR] for i in range(N)]
    return F, d, near


def literal_ths(Z, Y, Q, labels, hubs):
    """Equations 15 and 16, term by term."""
    _, d, near = geometry(Z, Y, Q, labels)
    h = [sum(c in near[i] for i in range(N)) / N for c in range(K)]
    if hubs == "excess":
        h = [max(0.0, value - sum(h) / K) for value in h]
    total = 0.0
    for i in range(N):
        for c in near[i]:
            base = (1 - Y[labels[i]] @ Y[c]) / S
            total += max(0.0, d[i][labels[i]] + base + h[c] - d[i][c])
    return total / (N * NEAR)


@pytest.mark.parametrize("hubs", ["share", "excess"])
def test_ths_is_equations_15_and_16(hubs):
    Z, Y, Q, labels = draw()
    loss = ranking(Y, "ths", hubs=hubs)(torch.from_numpy(Z @ Q), torch.from_numpy(labels))
    assert float(loss) == pytest.approx(literal_ths(Z, Y, Q, labels, hubs), abs=1e-9)


def literal(kind, Z, Y, Q, labels):
    F, d, near = geometry(Z, Y, Q, labels)
    total = 0.0
    if kind in ("adaptive", "triplet"):
        mean = np.mean([(1 - Y[a] @ Y[b]) / S for a in range(K) for b in range(K) if a != b])
        for i in range(N):
            for c in near[i]:
                margin = (1 - Y[labels[i]] @ Y[c]) / S if kind == "adaptive" else mean
                total += max(0.0, d[i][labels[i]] + margin - d[i][c]) / NEAR
    elif kind == "contrastive":
        for i in range(N):
            logits = [20 * F[i] @ y for y in Y]
            total += np.log(sum(np.exp(logits))) - logits[labels[i]]
    else:
        for i in range(N):
            own = Y[labels[i]]
            total += -2 * F[i] @ own + np.mean(sorted(F[i] @ y for y in Y)[-NEAR:])
            total += np.mean(sorted(f @ own for f in F)[-NEAR:])
    return total / N


def test_raw_distances_are_those_of_images_of_any_length():
    Z, Y, Q, labels = draw()
    mapped = torch.from_numpy(3 * Z @ Q)
    loss = float(replace(ranking(Y, "adaptive"), raw=True)(mapped, torch.from_numpy(labels)))
    total = 0.0
    for f, a in zip(mapped.numpy(), labels, strict=True):
        d = [np.linalg.norm(f - y) for y in Y]
        for c in sorted((c for c in range(K) if c != a), key=d.__getitem__)[:NEAR]:
            total += max(0.0, d[a] + (1 - Y[a] @ Y[c]) / S - d[c])
    assert loss == pytest.approx(total / (N * NEAR), abs=1e-9)


@pytest.mark.parametrize("kind", ["adaptive", "triplet", "contrastive", "csls"])
def test_the_other_losses_are_their_definitions(kind):
    Z, Y, Q, labels = draw(1)
    loss = ranking(Y, kind)(torch.from_numpy(Z @ Q), torch.from_numpy(labels))
    assert float(loss) == pytest.approx(literal(kind, Z, Y, Q, labels), abs=1e-9)


def test_without_hub_penalty_ths_is_the_adaptive_loss():
    Z, Y, Q, labels = draw(2)
    mapped, labels = torch.from_numpy(Z @ Q), torch.from_numpy(labels)
    assert ranking(Y, "ths", hub_weight=0.0)(mapped, labels) == ranking(Y, "adaptive")(mapped, labels)


def refined(kind="ths", steps=60, batch_size=1000, d=D, seed=0, rate=0.025):
    Z, Y, _, labels = draw()
    Z = Z[:, :d]
    start = np.linalg.qr(np.random.default_rng(3).normal(size=(max(d, R), min(d, R))))[0]
    start = torch.tensor(start if d >= R else start.T, dtype=torch.float32)
    images = Images(torch.tensor(Z, dtype=torch.float32), None, [d], n_classes=K, memory=2**20)
    loss, generator = ranking(Y.astype(np.float32), kind), torch.Generator().manual_seed(seed)
    slope = Slope(images, torch.from_numpy(labels), loss, batch_size, generator)
    return refine_map(slope, start, steps=steps, learning_rate=rate)


@pytest.mark.parametrize("d", [D, R, 4])
@pytest.mark.parametrize("kind", ["ths", "adaptive", "triplet", "contrastive", "csls"])
def test_descent_lowers_the_loss_and_stays_orthonormal(kind, d):
    found = refined(kind, d=d)
    assert found.losses[-1] < found.losses[0]
    Q = found.map.double()
    gram = Q.T @ Q if d >= R else Q @ Q.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)
    assert found.defect < 1e-12 * 60


def test_one_step_goes_the_promised_way_along_the_tangent():
    """The first step is the tangent gradient, as long as the rate times the length of the map."""
    Z, Y, _, labels = draw()
    Q = torch.from_numpy(np.linalg.qr(np.random.default_rng(3).normal(size=(D, R)))[0]).float().double()
    images = torch.from_numpy(Z.astype(np.float32)).double()
    loss = ranking(Y.astype(np.float32), "contrastive")

    def value(Q):
        return float(loss(images @ Q, torch.from_numpy(labels)))

    gradient = np.zeros((D, R))
    for i in range(D):
        for j in range(R):
            step = torch.zeros_like(Q)
            step[i, j] = 1e-5
            gradient[i, j] = (value(Q + step) - value(Q - step)) / 2e-5
    inner = Q.numpy().T @ gradient
    tangent = gradient - Q.numpy() @ (inner + inner.T) / 2
    move = (refined("contrastive", steps=1, rate=1e-4).map.double() - Q).numpy()
    np.testing.assert_allclose(np.linalg.norm(move), 1e-4 * np.sqrt(R), rtol=1e-2)
    np.testing.assert_allclose(move / np.linalg.norm(move), -tangent / np.linalg.norm(tangent), atol=1e-2)


def test_a_loss_of_zero_moves_nothing():
    Z, _, _, labels = draw()
    images = Images(torch.tensor(Z, dtype=torch.float32), None, [D], n_classes=K, memory=0)
    start = torch.eye(D)[:, :R]
    slope = Slope(images, torch.from_numpy(labels), lambda mapped, _: mapped.sum() * 0, 100, torch.Generator())
    found = refine_map(slope, start, steps=5, learning_rate=0.1)
    assert torch.equal(found.map, start)


def test_batches_are_drawn_from_the_seed():
    assert torch.equal(refined(batch_size=8, seed=1).map, refined(batch_size=8, seed=1).map)
    assert not torch.equal(refined(batch_size=8, seed=1).map, refined(batch_size=8, seed=2).map)
    assert refined(batch_size=8, seed=1).defect < 1e-10


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", ["ths", "adaptive", "triplet", "contrastive", "csls"])
def test_the_gradient_of_every_loss_is_that_of_finite_differences(kind, raw):
    """At a point where no hinge, nearest prototype or hub changes within the step."""
    Z, Y, Q, labels = draw(seed=2)
    images = torch.from_numpy(Z.astype(np.float32))  # as they are held
    loss = replace(ranking(Y, kind, hubs="excess"), raw=raw)
    slope = Slope(
        Images(images, None, [D], n_classes=K, memory=2**20), torch.from_numpy(labels), loss, N, torch.Generator()
    )
    W = torch.from_numpy(Q)
    value, gradient = slope(W)
    assert float(value) == pytest.approx(float(loss(images.double() @ W, torch.from_numpy(labels))), rel=1e-7)
    for direction in torch.from_numpy(np.random.default_rng(0).normal(size=(6, D, R))):
        ahead, behind = (float(slope(W + h * direction)[0]) for h in (1e-6, -1e-6))
        assert (ahead - behind) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-8)
