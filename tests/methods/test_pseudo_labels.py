"""The pseudo-labellers beside FAIR's own: their equations in loops, their laws and limits, and where they refuse."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_clip import NAMES, small_clip, towers_of
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.linalg.similarity import unit
from modalign.methods.baselines.wca import WCA
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.prompting import template_places
from modalign.methods.fair.fair_score import CropScores, sample_confidence
from modalign.methods.fair.pseudo_labels import (
    CLIPLabeler,
    CODERLikeLabeler,
    CuPLLabeler,
    PseudoLabeler,
    WCALabeler,
    plain_sentences,
    pseudo_labeler,
)

B, N, K, T, D = 6, 5, 4, 3, 16
ALL = (CLIPLabeler, CuPLLabeler, WCALabeler, CODERLikeLabeler)
each_labeler = pytest.mark.parametrize("labeler", ALL)


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def whole() -> Tensor:
    return 3 * draw(B, D, seed=0)


@pytest.fixture
def crops() -> Tensor:
    return 0.5 * draw(B, N, D, seed=1)


@pytest.fixture
def plain() -> Tensor:
    return unit(draw(K, D, seed=2))


@pytest.fixture
def sentences() -> Tensor:
    """Three, two, three and one per class."""
    text = unit(draw(K, T, D, seed=3))
    text[1, 1] = 0  # not the last place: absent is what is zero
    text[3, 1:] = 0
    return text


def cos(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def there(text: Tensor) -> list[Tensor]:
    return [t for t in text if bool((t != 0).any())]


def test_clip_is_equation_1(whole, sentences, plain) -> None:
    found = CLIPLabeler(sentences, plain)(whole)
    for x in range(B):
        for y in range(K):
            assert float(found.scores[x, y]) == pytest.approx(cos(whole[x], plain[y]), abs=1e-12)


def test_cupl_is_equation_5(whole, sentences, plain) -> None:
    found = CuPLLabeler(sentences, plain)(whole)
    for x in range(B):
        for y in range(K):
            total, M = 0.0, 0
            for t in there(sentences[y]):
                total, M = total + cos(whole[x], t), M + 1
            assert float(found.scores[x, y]) == pytest.approx(total / M, abs=1e-12)


def test_wca_of_the_best_crops_by_weights_from_elsewhere(whole, crops, sentences, plain) -> None:
    """Table 3 of FAIR: k of N crops, and the weights of equation 12."""
    weights = torch.rand(B, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = WCALabeler(sentences, plain, keep=2)(whole, crops, weights)
    texts = WCALabeler(sentences, plain).text
    for x in range(B):
        best = sorted(range(N), key=lambda i: -float(weights[x, i]))[:2]
        assert float(found.mass[x]) == pytest.approx(sum(float(weights[x, i]) for i in best))
        for y in range(K):
            psi = sum(float(weights[x, i]) * float(crops[x, i] @ texts[y] / crops[x, i].norm()) for i in best)
            assert float(found.scores[x, y]) == pytest.approx(psi, abs=1e-12)
    assert found.votes.shape == (B, 2)


@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.05, 0.2)])
def test_wca_is_equations_8_to_10(whole, crops, sentences, plain, temperatures) -> None:
    tau_w, tau_v = temperatures
    found = WCALabeler(sentences, plain, image_temperature=tau_w, text_temperature=tau_v)(whole, crops)
    for x in range(B):
        w = [math.exp(cos(whole[x], crops[x, i]) / tau_w) for i in range(N)]
        psi, alone = [], [[0.0] * K for _ in range(N)]
        for y in range(K):
            texts = there(sentences[y])
            v = [math.exp(cos(plain[y], t) / tau_v) for t in texts]
            psi.append(0.0)
            for i in range(N):
                for j, t in enumerate(texts):
                    psi[y] += w[i] / sum(w) * v[j] / sum(v) * cos(crops[x, i], t)
                    alone[i][y] += v[j] / sum(v) * cos(crops[x, i], t)
        np.testing.assert_allclose(found.scores[x], psi, atol=1e-12)
        assert found.votes[x].tolist() == [int(np.argmax(row)) for row in alone]


@pytest.mark.parametrize("named", [(), (0,), (0, 2), (0, 1, 2)])
def test_coder_averages_descriptions_and_the_nearest_name(whole, sentences, plain, named) -> None:
    found = CODERLikeLabeler(sentences, plain, named=named)(whole)
    for x in range(B):
        for y in range(K):
            names = [cos(whole[x], plain[y])]
            told = []
            for j in range(T):
                if bool((sentences[y, j] != 0).any()):
                    (names if j in named else told).append(cos(whole[x], sentences[y, j]))
            elements = [*told, max(names)]
            assert float(found.scores[x, y]) == pytest.approx(sum(elements) / len(elements), abs=1e-12)
    # Class 3 has its first sentence only, so that it has no descriptions where that one is a name.
    assert found.votes.shape == (B, 2 if 0 not in named else 1)


def test_coder_with_one_name_a_class_is_cupl_over_names_and_descriptions(whole, sentences, plain) -> None:
    together = torch.cat([plain[:, None], sentences], dim=1)
    expected = CuPLLabeler(together, plain)(whole).scores
    torch.testing.assert_close(CODERLikeLabeler(sentences, plain)(whole).scores, expected)
    torch.testing.assert_close(CODERLikeLabeler(together, plain, named=(0,))(whole).scores, expected)


def test_coder_votes_are_names_alone_and_descriptions_alone(whole, sentences, plain) -> None:
    votes = CODERLikeLabeler(sentences, plain)(whole).votes
    torch.testing.assert_close(votes[:, 0], CLIPLabeler(sentences, plain)(whole).scores.argmax(1))
    torch.testing.assert_close(votes[:, 1], CuPLLabeler(sentences, plain)(whole).scores.argmax(1))


def test_clip_and_cupl_are_the_zero_shot_classifier(sentences, plain) -> None:
    X = unit(draw(B, D, seed=4)).float()
    text, plain = sentences.float(), plain.float()
    settings = {"aggregate": "mean-score", "logit_scale": 1.0}
    one = ZeroShot(**settings).fit(X.numpy(), text=plain[:, None].numpy()).scores(X.numpy())
    np.testing.assert_allclose(CLIPLabeler(text, plain)(X).scores, one, atol=1e-6)
    ensemble = ZeroShot(**settings).fit(X.numpy(), text=text.numpy()).scores(X.numpy())
    np.testing.assert_allclose(CuPLLabeler(text, plain)(X).scores, ensemble, atol=1e-6)
    directions = ZeroShot(logit_scale=1.0).fit(X.numpy(), text=text.numpy()).scores(X.numpy())
    assert np.abs(directions - ensemble).max() > 1e-2  # the mean direction is another score


@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.02, 0.14)])
def test_wca_is_the_classifier_of_that_name(sentences, plain, temperatures) -> None:
    settings = dict(zip(("image_temperature", "text_temperature"), temperatures, strict=True))
    images = Features(unit(draw(B, D, seed=4)).float().numpy(), tokens=unit(draw(B, N, D, seed=5)).float().numpy())
    text, plain = sentences.float(), plain.float()
    behind = torch.cat([plain[:, None], text], dim=1)  # there the first sentence of a class is what weighs the others
    method = WCA(reference="first", logit_scale=1.0, **settings).fit(images, text=behind.numpy())
    found = WCALabeler(text, plain, **settings)(torch.from_numpy(images.vectors), torch.from_numpy(images.tokens))
    np.testing.assert_allclose(found.scores, method.scores(images), atol=1e-6)


@each_labeler
def test_scores_are_means_of_cosines_with_mass_one(labeler: type[PseudoLabeler], whole, crops, sentences, plain):
    found = labeler(sentences, plain)(whole, crops)
    assert isinstance(found, CropScores)
    assert found.scores.shape == (B, K)
    assert bool((found.scores.abs() <= 1).all())
    torch.testing.assert_close(found.mass, torch.ones(B, dtype=torch.float64))
    assert len(found.votes) == B
    # An image all of whose neighbours agree is certain in FAIR's units, where S are probabilities.
    alike = plain[:, None].expand(-1, T, -1)
    sure = sample_confidence(labeler(alike, plain)(plain, plain[:, None]))
    torch.testing.assert_close(sure, torch.ones_like(sure), atol=1e-6, rtol=0)


@each_labeler
def test_lengths_and_the_order_of_classes_sentences_and_crops_change_nothing(
    labeler: type[PseudoLabeler], whole, crops, sentences, plain
) -> None:
    expected = labeler(sentences, plain)(whole, crops)
    other = torch.randperm(K, generator=torch.Generator().manual_seed(0))
    found = labeler(sentences[other], plain[other])(whole, crops)
    torch.testing.assert_close(found.scores, expected.scores[:, other])
    torch.testing.assert_close(other[found.votes], expected.votes)
    turned = labeler(sentences.flip(1), plain)(7 * whole, crops.flip(1) * 0.1)
    torch.testing.assert_close(turned.scores, expected.scores)
    absent = labeler(torch.cat([sentences, torch.zeros(K, 2, D, dtype=torch.float64)], dim=1), plain)(whole, crops)
    torch.testing.assert_close(absent.scores, expected.scores)
    torch.testing.assert_close(labeler(2 * sentences, 3 * plain)(whole, crops).scores, expected.scores)


@each_labeler
def test_with_one_sentence_and_one_view_all_are_clip(labeler: type[PseudoLabeler], whole, plain) -> None:
    found = labeler(plain[:, None], plain)(whole, whole[:, None])
    torch.testing.assert_close(found.scores, CLIPLabeler(plain[:, None], plain)(whole).scores)


def test_wca_at_huge_temperatures_weighs_evenly_and_at_tiny_ones_takes_the_nearest(whole, crops, sentences, plain):
    even = WCALabeler(sentences, plain, image_temperature=1e9, text_temperature=1e9)(whole, crops).scores
    cupl = CuPLLabeler(sentences, plain)
    torch.testing.assert_close(even, torch.stack([cupl(crops[:, i]).scores for i in range(N)]).mean(0))
    sharp = WCALabeler(sentences, plain, image_temperature=1e-5, text_temperature=1e-5)(whole, crops).scores
    nearest = torch.stack([max(crops[x], key=lambda crop: cos(whole[x], crop)) for x in range(B)])
    closest = torch.stack([max(there(sentences[y]), key=lambda t: cos(plain[y], t)) for y in range(K)])
    torch.testing.assert_close(sharp, CLIPLabeler(sentences, closest)(nearest).scores)


def test_only_wca_needs_crops(whole, sentences, plain) -> None:
    for labeler in ALL:
        made = labeler(sentences, plain)
        assert made.needs_crops == (labeler is WCALabeler)
        if not made.needs_crops:
            made(whole)
            continue
        for nothing in (None, torch.empty(B, 0, D, dtype=torch.float64)):
            with pytest.raises(InputError, match="Expected crops of the images"):
                made(whole, nothing)


@each_labeler
def test_uninformative_text_is_refused(labeler: type[PseudoLabeler], sentences, plain) -> None:
    without = sentences.clone()
    without[2] = 0
    with pytest.raises(InputError, match="sentence"):
        labeler(without, plain)
    with pytest.raises(InputError, match="one plain sentence per class"):
        labeler(sentences, plain[1:])
    with pytest.raises(InputError, match="finite"):
        labeler(sentences * math.nan, plain)


def test_settings_out_of_range_are_refused(sentences, plain) -> None:
    with pytest.raises(InputError, match="temperatures above 0"):
        WCALabeler(sentences, plain, text_temperature=0.0)
    with pytest.raises(InputError, match="temperatures above 0"):
        WCALabeler(sentences, plain, image_temperature=0.0)
    with pytest.raises(InputError, match="places of names among 3 sentences"):
        CODERLikeLabeler(sentences, plain, named=(3,))


NAMED = ("a", "grand_piano", "cat")


@pytest.mark.parametrize(
    ("sentences", "places"),
    [
        ([["a photo of a a.", "x a"], ["a photo of a grand piano.", "x grand piano"], ["a photo of a cat.", "x cat"]],
         [0, 1]),
        ([["a letter.", "art of a."], ["black keys.", "art of grand piano."], ["furry.", "art of cat.", "x"]], [1]),
        ([["a letter."], ["black keys."], ["furry."]], []),
        ([["a photo of an a."], ["a photo of a grand piano."], ["a photo of a cat."]], []),
        ([], []),
    ],
)  # fmt: skip
def test_templates_are_found_by_what_the_classes_share(sentences, places) -> None:
    assert template_places(NAMED, sentences) == places


@torch.no_grad()
def test_plain_sentences_are_the_users_template_or_else_the_usual_one() -> None:
    model = small_clip()
    towers = towers_of(model)  # two sentences per class, both the bare name
    torch.testing.assert_close(plain_sentences(towers), towers.class_text[:, 0])
    described = replace(towers, sentences=(("a red cat.",), ("old.",), ("a photo.",), ("x.",)))
    words = [f"a photo of a {name}." for name in NAMES]
    alone = [towers.text(towers.text.tokenize([sentence])).pooled[0, 0] for sentence in words]
    torch.testing.assert_close(plain_sentences(described), unit(torch.stack(alone)))


def test_labelers_by_name_are_those_of_the_classes(whole) -> None:
    towers = towers_of(small_clip())
    text = unit(draw(len(NAMES), 4, 18, seed=6))
    sentences = tuple((f"a {name}.", f"{name} of the x.", word, "x.") for name, word in zip(NAMES, "abcd", strict=True))
    towers = replace(towers, class_text=text, sentences=sentences)
    images, crops = draw(B, 18, seed=7), draw(B, N, 18, seed=8)
    before = copy.deepcopy(text)
    plain = text[:, 0]
    expected = {
        "clip": CLIPLabeler(text, plain)(images),
        "cupl": CuPLLabeler(text, plain)(images),
        "wca": WCALabeler(text, plain, image_temperature=0.1, text_temperature=0.2)(images, crops),
        "coder": CODERLikeLabeler(text, plain, named=(0, 1))(images),
    }
    for name, scores in expected.items():
        made = pseudo_labeler(name, towers, image_temperature=0.1, text_temperature=0.2)
        torch.testing.assert_close(made(images, crops), scores)
    assert torch.equal(text, before)
    different = [scores.scores for scores in expected.values()]
    assert all(not torch.allclose(a, b) for i, a in enumerate(different) for b in different[:i])
    with pytest.raises(InputError, match="labeler 'lafter'; known: clip, coder, cupl, wca"):
        pseudo_labeler("lafter", towers)
