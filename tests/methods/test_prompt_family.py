"""The prompt methods against their equations, one image and class at a time, and their published counts."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import ot
import pytest
import torch
from small_clip import NAMES, SCALE, literal_image, literal_text, small_clip, tokenize, towers_of, vit_b16

from modalign import PLOT, UPT, VPT, CoCoOp, CoOp, MaPLe, PromptSRC
from modalign.core.errors import InputError
from modalign.methods.contract.prompting import PromptLearner, initial_words
from modalign.methods.prompts.plot import PlotLearner
from modalign.tune.prompts import count_parameters

SINGLE = 1e-6 * SCALE  # scores are cosines in single precision
METHODS = [
    CoOp(),
    CoOp(class_specific_context=True),
    CoCoOp(),
    VPT(),
    VPT(deep=False),
    UPT(depth=2),
    MaPLe(),
    PLOT(n_ctx=3),
]


@pytest.fixture(scope="module")
def model():
    return small_clip()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def learner(model, method) -> PromptLearner:
    if getattr(method, "n_ctx", 0) == 16:
        method.n_ctx = 4  # the small tower's context is short
    made = method._learner(towers_of(model), torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 3)
    return made


def scores(made: PromptLearner, pixels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return made.scores(pixels, made.classes()).numpy()


def cos(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def literal(model, pixels, text, vision, *, behind=""):
    """Scaled cosines of every image with every class under one prompt per side; ``text(k, i)`` gives its layers."""
    expected = np.zeros((len(pixels), len(NAMES)))
    for i, image in enumerate(pixels):
        z, _ = literal_image(model, image, list(vision))
        for k, name in enumerate(NAMES):
            layers = text(k, i)
            ids = tokenize([" ".join(["x"] * len(layers[0])) + f" {behind}{name}."])["input_ids"][0]
            expected[i, k] = SCALE * cos(z, literal_text(model, ids, layers)[0])
    return expected


def test_coop(model, pixels) -> None:
    made = learner(model, CoOp(n_ctx=3))
    context = made.prompts.text.layers[0]
    np.testing.assert_allclose(scores(made, pixels), literal(model, pixels, lambda k, i: [context], ()), atol=SINGLE)


def test_coop_with_a_context_for_every_class(model, pixels) -> None:
    made = learner(model, CoOp(n_ctx=3, class_specific_context=True))
    contexts = made.prompts.text.layers[0]
    assert contexts.shape == (1, 4, 3, 24)
    np.testing.assert_allclose(
        scores(made, pixels), literal(model, pixels, lambda k, i: [contexts[0, k]], ()), atol=SINGLE
    )


def test_cocoop(model, pixels) -> None:
    made = learner(model, CoCoOp())
    network, context = made.prompts.meta, made.prompts.text.layers[0]

    def shifted(k: int, i: int) -> list[torch.Tensor]:
        z, _ = literal_image(model, pixels[i], [])
        hidden = (network[0].weight @ (z / z.norm()) + network[0].bias).clamp(min=0)
        return [context + (network[2].weight @ hidden + network[2].bias)]

    np.testing.assert_allclose(scores(made, pixels), literal(model, pixels, shifted, ()), atol=SINGLE)
    alike = learner(model, CoCoOp(conditional=False))
    moved = context + network[2].weight @ network[0].bias.clamp(min=0) + network[2].bias
    np.testing.assert_allclose(scores(alike, pixels), literal(model, pixels, lambda k, i: [moved], ()), atol=SINGLE)


@pytest.mark.parametrize("deep", [True, False])
def test_vpt(deep: bool, model, pixels) -> None:
    made = learner(model, VPT(n_ctx=2, deep=deep))
    prompts = list(made.prompts.vision.layers)
    assert len(prompts) == (4 if deep else 1)
    texts = made.towers.class_text.mean(dim=1)
    expected = [[SCALE * cos(literal_image(model, image, prompts)[0], t) for t in texts] for image in pixels]
    np.testing.assert_allclose(scores(made, pixels), expected, atol=SINGLE)


def test_maple(model, pixels) -> None:
    made = learner(model, MaPLe())
    text = list(made.prompts.text.layers)
    assert len(text) == 3
    maps = made.prompts.maps
    vision = [t @ f.weight.T + f.bias for t, f in zip(text, maps, strict=True)]
    expected = literal(model, pixels, lambda k, i: text, vision, behind="of a ")
    np.testing.assert_allclose(scores(made, pixels), expected, atol=SINGLE)


def test_upt(model, pixels) -> None:
    """The block itself is held against its equations in the tests of the prompts; here where its outputs go."""
    made = learner(model, UPT(depth=2, n_ctx=3, width=16))
    sides = made.prompts.prompts()
    assert [len(side) for side in sides] == [2, 2]
    expected = literal(model, pixels, lambda k, i: list(sides.text), sides.vision)
    np.testing.assert_allclose(scores(made, pixels), expected, atol=SINGLE)


def test_plot(model, pixels) -> None:
    settings = {"prompts": 3, "n_ctx": 2, "epsilon": 0.01, "sweeps": 5000}
    made, even = (learner(model, PLOT(plan=plan, **settings)) for plan in ("transport", "uniform"))
    contexts, expected = made.prompts.text.layers[0], np.zeros((2, 4))
    for i, image in enumerate(pixels):
        _, patches = literal_image(model, image, [])
        for k, name in enumerate(NAMES):
            ids = tokenize([f"x x {name}."])["input_ids"][0]
            h = [literal_text(model, ids, [context])[0] for context in contexts]
            cost = np.array([[1 - cos(r, t) for t in h] for r in patches])
            plan = ot.sinkhorn(np.full(9, 1 / 9), np.full(3, 1 / 3), cost, 0.01, stopThr=1e-12, numItermax=50_000)
            expected[i, k] = SCALE * (1 - (plan * cost).sum())
    np.testing.assert_allclose(scores(made, pixels), expected, atol=1e-5 * SCALE)
    assert np.abs(scores(even, pixels) - expected).max() > 2e-5 * SCALE


@pytest.mark.parametrize(
    ("method", "numbers", "saved"),
    [
        (CoOp(n_ctx=16), 8_192, 8_192),
        (CoOp(n_ctx=16, class_specific_context=True), 2 * 8_192, 2 * 8_192),
        (CoCoOp(), 35_360, 35_360),
        (VPT(), 12 * 4 * 768, 12 * 4 * 768),
        (MaPLe(), 3_555_072, 9 * 2 * (512 + 768)),
        (MaPLe(coupled=False), 9 * 2 * (512 + 768), 9 * 2 * (512 + 768)),
        (PLOT(n_ctx=16), 4 * 8_192, 4 * 8_192),
        (PromptSRC(), 9 * 4 * (512 + 768), 9 * 4 * (512 + 768)),
    ],
    ids=lambda m: type(m).__name__ if hasattr(m, "title") else None,
)
def test_trainable_and_saved_numbers_at_the_published_size(method, numbers: int, saved: int) -> None:
    made = method._learner(vit_b16(), torch.Generator())
    assert count_parameters(made) == numbers
    assert sum(value.numel() for value in made.state().values()) == saved


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_restored_it_gives_the_same_answers(method, model, pixels) -> None:
    made, again = learner(model, method), learner(model, method)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.restore(made.state())
    np.testing.assert_allclose(scores(again, pixels), scores(made, pixels), atol=SINGLE)


def test_portions_of_classes_change_nothing(model, pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in METHODS:
        made = learner(model, method)
        whole = scores(made, pixels)
        with monkeypatch.context() as patch:
            patch.setattr("modalign.methods.contract.prompting.SENTENCES", 1)
            np.testing.assert_allclose(scores(made, pixels), whole, atol=SINGLE)


def test_classes_are_split_only_where_that_saves_memory(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients, and with checkpoints of them: else all activations are kept anyway."""
    made, chunks = learner(model, CoOp()), []
    text = type(made.towers.text)
    call = text.__call__
    monkeypatch.setattr(
        text, "__call__", lambda *given, **options: chunks.append(options["chunk"]) or call(*given, **options)
    )
    made.classes()
    with torch.no_grad():
        made.classes()
    made.towers = replace(made.towers, gradient_checkpointing=True)
    made.classes()
    assert [chunk is None for chunk in chunks] == [True, False, False]


def test_words_to_start_from(model) -> None:
    text = towers_of(model).text
    words, sentence = initial_words(text, 3)
    assert (words.shape, sentence) == ((3, 24), "a {}.")
    assert initial_words(text, 4)[1] == "{}."
    assert initial_words(text, 5) == (None, "{}.")
    begun = CoOp(words="a photo of the")._learner(towers_of(model), torch.Generator())
    torch.testing.assert_close(begun.prompts.text.layers[0].double(), text.words("a photo of the"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", [CoOp(n_ctx=19), PLOT(n_ctx=14), UPT(n_ctx=14), MaPLe(n_ctx=14)])
def test_prompts_that_do_not_fit_are_refused(method, model) -> None:
    with pytest.raises(InputError, match="prompt tokens"):
        method._learner(towers_of(model), torch.Generator())


def test_the_entropy_of_a_uniform_plan_of_plot_is_one() -> None:
    found = SimpleNamespace(entropy=torch.full((2, 3), math.log(4 * 5)), marginal_error=torch.tensor([[0.0, 0.25]]))
    learner = SimpleNamespace(
        classes=lambda: torch.zeros(5, 3, 8),  # five prompts of three classes
        image_output=lambda pixels: None,
        transport=lambda seen, classes: SimpleNamespace(alignment=found),
        towers=SimpleNamespace(vision=SimpleNamespace(patches=4)),
    )
    data = SimpleNamespace(in_order=lambda count: iter([SimpleNamespace(pixels=None)]))
    assert PlotLearner.diagnose(learner, data) == {"plan_entropy": pytest.approx(1.0), "marginal_error": 0.25}
