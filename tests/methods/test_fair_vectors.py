"""FAIR on vectors: the same score on cached crops, only anchors learn, class shares are not forced to be even."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import sentences
from modalign.encoders.features.crop_features import embed_crops
from modalign.linalg.similarity import unit
from modalign.methods.baselines.wca import WCA
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.fair.fair_score import align, crop_weights
from modalign.methods.fair.fair_vectors import FAIRVectors, gather
from modalign.tune.crops import CropBatches

C, D = 4, 32


def clusters(counts: list[int], seed: int = 0, crops: int = 6) -> tuple[Features, np.ndarray, np.ndarray]:
    """Images around class directions with crops that scatter around them, and texts beside the directions."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(C, D))
    y = np.repeat(np.arange(C), counts)
    X = centers[y] + 0.9 * rng.normal(size=(len(y), D))
    tokens = X[:, None] + 0.8 * rng.normal(size=(len(y), crops, D))
    text = centers + 1.1 * rng.normal(size=centers.shape)
    X, tokens, text = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (X, tokens, text))
    return Features(X.astype(np.float32), tokens=tokens.astype(np.float32)), y, text.astype(np.float32)


def test_kept_crops_as_one_vector_give_the_score_of_fair() -> None:
    features, _, text = clusters([5, 5, 5, 5])
    whole, parts, anchors = (unit(torch.from_numpy(a)) for a in (features.vectors, features.tokens, text))
    evidence, mass, chosen = gather(whole, parts, 3)
    expected = align(crop_weights(whole, parts), parts, anchors, 3)
    torch.testing.assert_close(evidence @ anchors.T, expected.scores)
    torch.testing.assert_close(mass, expected.mass)
    torch.testing.assert_close((chosen @ anchors.T).argmax(2), expected.votes)


def test_one_step_is_the_gradient_of_the_loss_as_written() -> None:
    """AdamW's first step depends on the sign of the gradient alone, so only its direction is compared, in loops."""
    features, _, text = clusters([6, 6, 6, 6], crops=1)
    method = FAIRVectors(steps=1, learning_rate=1e-4, fairness_weight=0.7, logit_scale=10.0, random_state=0)
    method.fit(features, text=text)
    Z = torch.from_numpy(text).double().requires_grad_()
    X, parts = torch.from_numpy(features.vectors).double(), torch.from_numpy(features.tokens).double()
    start = (10 * X @ Z.detach().T).softmax(1).mean(0)
    terms, predictions = [], []
    for f in parts[:, 0]:
        p = torch.stack([10 * torch.dot(f, z / z.norm()) for z in Z]).softmax(0)
        S = p.detach().sort().values
        terms.append(-S[-1] * (S[-1] - S[-2]) * p.max().log())
        predictions.append(p)
    mean = sum(predictions) / len(predictions)
    loss = sum(terms) / len(terms) - 0.7 * sum(q * m.log() for q, m in zip(start, mean, strict=True))
    loss.backward()
    stepped = unit(Z.detach() - 1e-4 * Z.grad.sign())
    torch.testing.assert_close(method.prototypes_.double(), stepped, atol=1e-6, rtol=0)


def test_it_learns_from_crops_what_zero_shot_does_not_know() -> None:
    features, y, text = clusters([60, 60, 60, 60], seed=3)
    before = ZeroShot().fit(features, text=text).predict(features)
    method = FAIRVectors(random_state=0, logit_scale=20.0).fit(features, text=text)
    assert (method.predict(features) == y).mean() > (before == y).mean() + 0.03
    np.testing.assert_array_equal(method.classes_[[0, 3]], [0, 3])
    assert method.transduction_.shape == y.shape
    assert method.diagnosis_["crops"] == 6
    assert 0 < method.diagnosis_["agreement"] <= 1
    assert method.diagnosis_["gamma"]["end"] > method.diagnosis_["gamma"]["start"]


def test_uneven_classes_stay_uneven_unless_even_ones_are_requested() -> None:
    features, y, text = clusters([200, 20, 12, 8], seed=3)
    found = {
        shares: FAIRVectors(class_prior=shares, fairness_weight=1.0, steps=300, random_state=0, logit_scale=20.0).fit(
            features, text=text
        )
        for shares in ("estimate", "uniform")
    }
    divergence = {shares: method.diagnosis_["divergence"]["end"] for shares, method in found.items()}
    accuracy = {shares: (method.predict(features) == y).mean() for shares, method in found.items()}
    assert divergence["uniform"] < divergence["estimate"]
    assert accuracy["uniform"] < accuracy["estimate"]


def test_labels_on_one_class_are_warned_of() -> None:
    features, _, text = clusters([80, 0, 0, 0])
    with pytest.warns(UserWarning, match="fall on about"):
        method = FAIRVectors(random_state=0).fit(features, text=text)
    assert "of 4 classes" in method.diagnosis_["warning"]


def test_momentum_that_never_moves_is_refused() -> None:
    features, _, text = clusters([5, 5, 5, 5])
    with pytest.raises(InputError, match="momentum below 1"):
        FAIRVectors(momentum=1.0).fit(features, text=text)


def test_on_the_digits_with_their_crops(tmp_path: Path) -> None:
    digits = load_digits().select(np.arange(40))
    encoder = ma.load_encoder("tiny", device="cpu", dtype="float32", cache=False)
    text = encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)
    features = embed_crops(digits, encoder, crops=3, side=(0.8, 1.0), seed=5)
    assert features.tokens.shape == (40, 3, encoder.spec.dim)
    np.testing.assert_allclose(features.vectors, encoder.embed_images(digits).vectors, atol=1e-6)
    data = CropBatches(digits, encoder, crops=3, side=(0.8, 1.0), augmentation="center", seed=5)
    pixels = data.batch(torch.tensor([11]), 0).crops[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(encoder.encode(list(pixels))[0].numpy(), features.tokens[11], atol=1e-6)
    again = Features.load(features.save(tmp_path / "crops.npz"))
    for method in (FAIRVectors(random_state=0, steps=20), WCA()):
        method.fit(again, text=text)
        assert (method.predict(again) == digits.labels).mean() > 0.75


def test_the_strong_view_of_an_image_is_the_crop_that_was_drawn() -> None:
    """The first step depends on the sign of the gradient, here at the crops that the seed draws and at others."""
    features, _, text = clusters([6, 6, 6, 6], crops=3)
    settings = {"learning_rate": 1e-4, "fairness_weight": 0.0, "logit_scale": 10.0, "keep": 3, "random_state": 5}
    method = FAIRVectors(steps=1, **settings).fit(features, text=text)
    whole, parts, Z = (unit(torch.from_numpy(a).double()) for a in (features.vectors, features.tokens, text))
    drawn = torch.randint(3, (24,), generator=torch.Generator().manual_seed(5))
    scores = align(crop_weights(whole, parts), parts, Z, 3)
    S = (10 * scores.scores / scores.mass[:, None]).softmax(1).sort(dim=1, descending=True).values

    def stepped(crops: torch.Tensor) -> torch.Tensor:
        anchors = Z.clone().requires_grad_()
        log_p = (10 * parts[torch.arange(24), crops] @ unit(anchors).T).log_softmax(1)
        own = log_p.gather(1, scores.scores.argmax(1, keepdim=True))[:, 0]
        (-S[:, 0] * (S[:, 0] - S[:, 1]) * own).mean().backward()
        return unit(Z - 1e-4 * anchors.grad.sign())

    torch.testing.assert_close(method.prototypes_.double(), stepped(drawn), atol=1e-6, rtol=0)
    for others in (torch.zeros(24, dtype=torch.int64), (drawn + 1) % 3, 2 - drawn):
        assert (method.prototypes_.double() - stepped(others)).abs().max() > 1e-5


def test_the_diagnosis_has_the_shift_of_the_class_embeddings() -> None:
    features, _, text = clusters([6, 6, 6, 6])
    method = FAIRVectors(steps=5, learning_rate=0.05, random_state=0).fit(features, text=text)
    cosines = (method.prototypes_.numpy() * text).sum(axis=1)
    assert method.diagnosis_["anchors_moved"] == pytest.approx(float((1 - cosines).mean()), abs=1e-6)
    assert FAIRVectors(steps=1, learning_rate=1e-9).fit(features, text=text).diagnosis_["anchors_moved"] < 1e-6
