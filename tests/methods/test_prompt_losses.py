"""The losses of prompt methods against their equations, one image and class at a time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_clip import NAMES, SCALE, literal_image, literal_text, small_clip, tokenize, towers_of

from modalign import UPL, CoCoOp, CoOp, KgCoOp, PromptSRC, adapt
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.prompting import PromptLearner
from modalign.methods.prompts.upl import most_confident
from modalign.tune.batches import Batch
from modalign.tune.history import Epoch

LABELS = torch.tensor([2, 0, 2])


@pytest.fixture(scope="module")
def model():
    return small_clip()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def learner(model, method: Any) -> Any:
    """A learner in double precision, away from its initial values."""
    made = method._learner(towers_of(model), torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 3)
    return made


def batch_of(pixels: torch.Tensor) -> Batch:
    return Batch((pixels,), LABELS, torch.arange(3), 0)


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def texts_under(model, layers: list[torch.Tensor], behind: str = "") -> list[torch.Tensor]:
    """Unit text feature of each class under these prompts."""
    places = " ".join(["x"] * len(layers[0]))
    ids = [tokenize([f"{places} {behind}{name}."])["input_ids"][0] for name in NAMES]
    return [unit(literal_text(model, row, layers)[0].detach()) for row in ids]


def images_under(model, pixels: torch.Tensor, layers: list[torch.Tensor]) -> list[torch.Tensor]:
    return [unit(literal_image(model, image, layers)[0].detach()) for image in pixels]


def logits_of(images: list[torch.Tensor], texts: list[torch.Tensor]) -> np.ndarray:
    return np.array([[SCALE * float(image @ text) for text in texts] for image in images])


def cross_entropy(logits: np.ndarray) -> float:
    return float(np.mean([np.log(np.exp(row).sum()) - row[y] for row, y in zip(logits, LABELS.tolist(), strict=True)]))


@pytest.mark.parametrize("method", [CoOp(n_ctx=3, loss="logit-adjusted"), CoCoOp(loss="logit-adjusted")])
def test_the_logit_adjusted_loss(method, model, pixels) -> None:
    """exp(s_k) counts as often as class k has images; a class without any is not there."""
    made: PromptLearner = learner(model, method)
    labels = np.array([0, 2, 2, 2, 1, 2, 0])
    made.begin(SimpleNamespace(items=SimpleNamespace(labels=labels), constant=False))  # type: ignore[arg-type]
    with torch.no_grad():
        scores = made.scores(pixels, made.classes()).numpy()
        found = float(made.loss(batch_of(pixels)))  # type: ignore[arg-type]
    counts = np.array([2, 1, 4, 0])
    expected = [
        math.log((counts * np.exp(row)).sum()) - math.log(counts[y]) - row[y]
        for row, y in zip(scores, LABELS.tolist(), strict=True)
    ]
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_kgcoop(model, pixels) -> None:
    made = learner(model, KgCoOp(words="a photo of a", knowledge_weight=3.0))
    texts = texts_under(model, [made.prompts.text.layers[0]])
    frozen = [unit(sum(map(unit, sentences))) for sentences in made.towers.class_text]
    expected = cross_entropy(logits_of(images_under(model, pixels, []), texts))
    distance = np.mean([float((w - t).square().sum()) for w, t in zip(texts, frozen, strict=True)])
    with torch.no_grad():
        found = made.loss(batch_of(pixels))
    assert float(found["distance"]) == pytest.approx(distance, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(expected + 3 * distance, rel=1e-5)


@pytest.mark.parametrize("diverse", [True, False])
def test_promptsrc(diverse: bool, model, pixels) -> None:
    made = learner(model, PromptSRC(depth=2, text_weight=3.0, image_weight=5.0, score_weight=7.0, diverse=diverse))
    texts = texts_under(model, list(made.prompts.text.layers))
    images = images_under(model, pixels, list(made.prompts.vision.layers))
    given = made.towers.class_text if diverse else made.towers.class_text[:, :1]
    frozen_texts = [unit(sum(map(unit, sentences))) for sentences in given]
    frozen_images = images_under(model, pixels, [])
    logits, expected = logits_of(images, texts), logits_of(frozen_images, frozen_texts)
    p, q = (np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in (logits, expected))
    of_texts, of_images = (
        np.mean([(a - b).abs().mean().item() for a, b in zip(*pair, strict=True)])
        for pair in ((texts, frozen_texts), (images, frozen_images))
    )
    divergence = (q * np.log(q / p)).mean()
    with torch.no_grad():
        found = {name: float(value) for name, value in made.loss(batch_of(pixels)).items()}
    assert found["cross_entropy"] == pytest.approx(cross_entropy(logits), rel=1e-5)
    assert found["score_divergence"] == pytest.approx(divergence, rel=1e-4)
    total = cross_entropy(logits) + 3 * of_texts + 5 * of_images + 7 * divergence
    assert found["loss"] == pytest.approx(total, rel=1e-5)


def test_promptsrc_answers_with_the_weighted_mean_of_its_epochs(model) -> None:
    """At the end of every epoch the prompts are others; their mean is weighted by a Gaussian over 1 … E."""
    ways = {"aggregation_mean": 2.5, "aggregation_std": 0.7, "epochs": 4}
    seen = []
    for aggregated in (True, False):
        made = learner(model, PromptSRC(depth=2, aggregated=aggregated, **ways))
        generator, history = torch.Generator().manual_seed(4), []
        for epoch in range(4):
            for prompt in made.prompts.parameters():
                prompt.data.normal_(generator=generator)
            history.append([prompt.detach().clone() for prompt in made.prompts.parameters()])
            made.ended(Epoch(epoch, 0.0, 0.0, 0.0))
        seen.append([prompt.detach() for prompt in made.prompts.parameters()])
    gauss = np.exp(-((np.arange(1, 5) - 2.5) ** 2) / (2 * 0.7**2))
    for k, (mean, last) in enumerate(zip(*seen, strict=True)):
        expected = sum(w / gauss.sum() * prompts[k] for w, prompts in zip(gauss, history, strict=True))
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(last, history[-1][k])


def test_upl_trains_each_context_by_its_own_loss_and_averages_their_scores(model, pixels) -> None:
    made = learner(model, UPL(n_ctx=3, prompts=2))
    images = images_under(model, pixels, [])
    contexts = made.prompts.text.layers[0]
    logits = [logits_of(images, texts_under(model, [context])) for context in contexts]
    with torch.no_grad():
        np.testing.assert_allclose(made.scores(pixels, made.classes()), np.mean(logits, axis=0), atol=1e-5 * SCALE)
    found = made.loss(batch_of(pixels))
    assert found["loss"].item() == pytest.approx(sum(map(cross_entropy, logits)), rel=1e-5)
    (slopes,) = torch.autograd.grad(found["loss"], made.prompts.text.layers[0])
    alone = learner(model, CoOp(n_ctx=3))
    for context, slope in zip(contexts, slopes, strict=True):
        with torch.no_grad():
            alone.prompts.text.layers[0].copy_(context)
        (own,) = torch.autograd.grad(alone.loss(batch_of(pixels)), alone.prompts.text.layers[0])
        torch.testing.assert_close(slope, own, rtol=1e-5, atol=1e-7)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.3, 0.5, 0.5001, 0.9])), min_size=1, max_size=12),
       st.integers(1, 4))  # fmt: skip
def test_the_most_confident_images_of_each_class(images: list[tuple[int, float]], per_class: int) -> None:
    labels, confidence = (torch.tensor(column) for column in zip(*images, strict=True))
    found = most_confident(confidence, labels, per_class).tolist()
    for k in range(4):
        own = [i for i, (label, _) in enumerate(images) if label == k]
        best = sorted(own, key=lambda i: -images[i][1])[:per_class]
        assert [i for i in found if images[i][0] == k] == sorted(best)
    assert found == sorted(found)


def test_upl_with_one_context_is_coop_on_the_pseudo_labels_of_zero_shot(encoder, digits, text) -> None:
    settings = {"n_ctx": 4, "epochs": 2, "batch_size": 8, "augmentation": "center", "random_state": 3}
    method = UPL(per_class=2, prompts=1, **settings).fit(digits, text=text, encoder=encoder)
    images = encoder.embed_images(digits)
    probabilities = ZeroShot().fit(images, text=text).predict_proba(images)
    labels = probabilities.argmax(axis=1)
    ranked = np.argsort(-probabilities.max(axis=1), kind="stable")
    best = np.sort([i for k in range(10) for i in ranked[labels[ranked] == k][:2]])
    coop = CoOp(**settings).fit(digits.select(best), labels[best], text=text, encoder=encoder)
    assert method.diagnosis_["pseudo_labels"] == np.bincount(labels[best], minlength=10).tolist()
    torch.testing.assert_close(method.tensors_["text.00"][0], coop.tensors_["text.00"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(method.transduction_, method.score_images(digits, encoder).logits.argmax(axis=1))


def test_scores_that_overflow_after_training_are_refused() -> None:
    """The parameters are finite, and their products are not: nothing is predicted, and nothing can be saved."""
    digits = load_digits().select([0, 1, 2, 3, 4])
    method = KgCoOp(knowledge_weight=1e38, epochs=1, random_state=0)
    with pytest.raises(InputError, match=r"finite .* lower the learning rate"):
        adapt(digits, method=method, mirror=False, validation="none")
