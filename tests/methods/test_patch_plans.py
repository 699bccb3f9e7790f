"""Maps over patches are the transport plans of the scores: sums and the order of tokens are correct."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import modalign as ma
from modalign.core.errors import InputError, UnknownNameError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.items import Items
from modalign.data.text.descriptions import sentences
from modalign.methods.align.align import ALIGN
from modalign.methods.prompts.patch_plans import cosine_maps, grid, one_image, prompt_plan, token_maps
from modalign.methods.prompts.plot import PLOT

QUICK = {"epochs": 1, "batch_size": 10, "augmentation": "center", "random_state": 0}


@pytest.fixture(scope="module")
def encoder():
    return ma.load_encoder("tiny", cache=False, dtype="float32")


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(np.arange(10))


@pytest.fixture(scope="module")
def fitted(encoder, digits):
    text = encoder.embed_texts(sentences(digits.class_names, DIGIT_TEMPLATES), class_names=digits.class_names)
    methods = {"paper": ALIGN(**QUICK), "released": ALIGN(preset="official_code", **QUICK), "plot": PLOT(**QUICK)}
    return {name: method.fit(digits, text=text, encoder=encoder) for name, method in methods.items()}


def test_token_maps_hold_all_mass() -> None:
    draws = torch.Generator().manual_seed(0)
    patches, words = torch.randn(3, 9, 8, generator=draws), torch.randn(2, 5, 8, generator=draws)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    weights = torch.tensor([[0.2, 0.5], [0.3, 0.5], [0.5, 0.0]])
    maps = token_maps(patches, words, mask, weights, 0.1)
    assert [tuple(each.shape) for each in maps] == [(3, 9), (5, 9)]
    for each in maps:  # every token gives 1/L, times J·L: a mean of 1 over the patches
        torch.testing.assert_close(each.mean(dim=1), torch.ones(len(each)), atol=1e-3, rtol=0)
    plan = prompt_plan(patches[0], words[1], 0.1)
    torch.testing.assert_close(plan.mean(dim=1), torch.ones(5), atol=1e-3, rtol=0)
    nearest = torch.cdist(
        torch.nn.functional.normalize(words[1], dim=1), torch.nn.functional.normalize(patches[0], dim=1)
    )
    assert (plan.gather(1, nearest.argmin(dim=1)[:, None]) > 1).all()  # more than uniform where the cost is least


def test_cosines_are_weighted_over_visual_prompts() -> None:
    draws = torch.Generator().manual_seed(1)
    patches, prompts = torch.randn(2, 4, 8, generator=draws), torch.randn(3, 8, generator=draws)
    weights = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    found = cosine_maps(patches, prompts, weights)
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(found[0], cosine(patches[0], prompts[0][None]))
    torch.testing.assert_close(found[1], cosine(patches, prompts[1][None, None], dim=2).mean(dim=0))
    assert grid(torch.arange(4.0)).tolist() == [[0, 1], [2, 3]]


def test_align_explains_an_image(encoder, digits: Items, fitted) -> None:
    method = fitted["paper"]
    found = method.explain(digits.select([7]), encoder)
    named = method.score_images(digits.select([7]), encoder).logits.argmax()
    assert found.class_name == digits.class_names[named]
    assert found.prompts.shape == (4, 4, 4)
    assert found.plan.shape == (4, 4)
    assert found.plan.sum() == pytest.approx(16, rel=1e-3)
    assert [each.shape for each in found.tokens] == [(3, 4, 4)] * 4
    assert found.words == (("v1", "v2", found.class_name),) * 4
    assert found.image.shape == (32, 32, 3)
    three = method.explain(digits.select([7]), encoder, "three")
    assert (three.class_name, three.words[0][-1]) == ("three", "three")
    np.testing.assert_array_equal(three.tokens[0], method.explain(digits.select([7]), encoder, 3).tokens[0])


def test_the_released_token_sets(encoder, digits: Items, fitted) -> None:
    found = fitted["released"].explain(digits, encoder, "six")
    assert found.words[0] == ("startoftext", "v1", "v2", "of", "a", "six")
    assert found.words[1] == ("startoftext", "v1", "v2", "six", ".", "endoftext")


def test_plot_explains_an_image(encoder, digits: Items, fitted) -> None:
    found = fitted["plot"].explain(digits, encoder, 2)
    assert (found.class_name, found.tokens) == ("two", None)
    np.testing.assert_allclose(found.prompts.mean(axis=(1, 2)), 1, atol=1e-3)


def test_a_class_there_is_not(encoder, digits: Items, fitted) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'three'"):
        fitted["paper"].explain(digits, encoder, "thre")
    with pytest.raises(InputError, match="from 0 to 9"):
        fitted["plot"].explain(digits, encoder, 10)


def test_parts_of_patches_add_up_to_the_score_of_plot(encoder, digits: Items, fitted) -> None:
    learner, classes = fitted["plot"]._bind(encoder)
    pixels = one_image(digits.select([3]), encoder)[0]
    with torch.no_grad():
        parts, scores = learner.patch_scores(pixels, classes), learner.scores(pixels, classes)
    torch.testing.assert_close(parts.mean(dim=2), scores, rtol=2e-3, atol=0)


def test_parts_of_patches_are_the_mean_of_the_prompt_maps_of_align(encoder, digits: Items, fitted) -> None:
    learner, classes = fitted["paper"]._bind(encoder)
    plans = fitted["paper"].explain(digits.select([3]), encoder, 6)
    pixels = one_image(digits.select([3]), encoder)[0]
    with torch.no_grad():
        parts = learner.patch_scores(pixels, classes)[0, 6].view(4, 4).numpy() / learner.towers.logit_scale
    weights = plans.plan.sum(axis=0) / plans.plan.sum()
    np.testing.assert_allclose(parts, np.einsum("nhw,n->hw", plans.prompts, weights), atol=1e-5)
