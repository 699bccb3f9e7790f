"""Plans on the picture: every map is there, stronger where there is more, nothing where there is none."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from modalign.methods.prompts.patch_plans import PatchPlans
from modalign.report.explain import patch_plans
from modalign.report.page import Page

IMAGE = np.full((32, 32, 3), 90, dtype=np.uint8)


def plans(**changes) -> PatchPlans:
    token = np.array([[[1.0, 1.0], [0.5, 3.0]], [[1.0, 2.0], [1.0, 1.0]]])
    known = {
        "image": IMAGE,
        "class_name": "<b>two</b>",
        "prompts": np.array([[[0.1, 0.2], [0.3, 0.4]]] * 2),
        "tokens": (token, token[:1]),
        "words": (("v1", "$two$"), ("v1",)),
    }
    return PatchPlans(**known | changes)


def test_a_map_a_prompt_and_token() -> None:
    picture = patch_plans(plans())
    titles = [axes.get_title(loc="left") for axes in picture.figure.axes]
    assert titles == ["<b>two</b>", "prompt 1", "v1", "$two$", "prompt 2", "v1"]
    strengths = [axes.images[-1].get_array()[..., -1] for axes in picture.figure.axes]
    np.testing.assert_allclose(strengths[1], 0.8 * np.array([[0, 1 / 3], [2 / 3, 1]]), atol=1e-6)  # its own scale
    np.testing.assert_allclose(strengths[2], 0.8 * np.array([[0, 0], [0, 1]]), atol=1e-6)  # below uniform: nothing
    np.testing.assert_allclose(strengths[3], 0.8 * np.array([[0, 0.5], [0, 0]]), atol=1e-6)  # one scale for all
    assert "3.00 times uniform" in picture.svg
    assert "&lt;b&gt;two" in picture.svg
    assert "<b>" not in picture.svg


def test_prompts_alone_are_drawn_from_uniform() -> None:
    maps = np.array([[[1.0, 1.5], [0.2, 1.0]], [[2.0, 1.0], [1.0, 1.0]]])
    picture = patch_plans(plans(prompts=maps, tokens=None, words=()))
    first = picture.figure.axes[1].images[-1].get_array()[..., 3]
    np.testing.assert_allclose(first, 0.8 * np.array([[0, 0.5], [0, 0]]), atol=1e-6)
    assert len(picture.figure.axes) == 3


def test_pixels_are_colored_where_the_mass_is() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(patch_plans(plans()).png(scale=1))).convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 2]) > 60
    assert red.any()
    even = plans(prompts=np.ones((2, 2, 2)), tokens=(np.ones((2, 2, 2)), np.ones((1, 2, 2))))
    pixels = np.asarray(Image.open(io.BytesIO(patch_plans(even).png(scale=1))).convert("RGB")).astype(int)
    assert not ((pixels[..., 0] - pixels[..., 2]) > 60).any()


def test_it_stands_on_a_page() -> None:
    assert "<svg" in Page("a", "b").section("c", blocks=patch_plans(plans())).html()
