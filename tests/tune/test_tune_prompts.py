"""Prompts: the numbers the papers count, what depends on what, and the transcription of each paper's own network."""

from __future__ import annotations

import math

import pytest
import torch

from modalign.core.errors import InputError
from modalign.tune.prompts import (
    ConditionalPrompts,
    IndependentPrompts,
    JointPrompts,
    ProjectedPrompts,
    Prompts,
    accounting,
    count_parameters,
)

TEXT, VISION = 512, 768  # widths of CLIP ViT-B/16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (lambda: Prompts(16, TEXT), 8_192),  # CoOp, unified context
        (lambda: Prompts(16, TEXT, classes=100), 100 * 8_192),  # CoOp, class-specific context
        (lambda: Prompts(4, TEXT), 2_048),  # CoOp as MaPLe's and CoCoOp's tables count it
        (lambda: ConditionalPrompts(4, TEXT, TEXT), 35_360),  # CoCoOp
        (lambda: Prompts(8, VISION), 6_144),  # VPT-shallow
        (lambda: Prompts(8, VISION, depth=12), 73_728),  # VPT-deep
        (lambda: ProjectedPrompts(Prompts(2, TEXT, depth=9), VISION), 3_555_072),  # MaPLe: 3.555 M
        (lambda: ProjectedPrompts(Prompts(2, TEXT, depth=9, sets=4), VISION), 3_582_720),  # ALIGN as released
        (lambda: IndependentPrompts(Prompts(2, TEXT, depth=9, sets=4), Prompts(2, VISION, depth=9, sets=4)), 92_160),
    ],
)
def test_published_numbers_of_parameters(make, published):
    module = make()
    assert count_parameters(module) == published == sum(accounting(module).values())


def test_the_accounting_of_align():
    module = ProjectedPrompts(Prompts(2, TEXT, depth=9, sets=4), VISION)
    by_name = accounting(module)
    assert sum(n for name, n in by_name.items() if name.startswith("text")) == 9 * 4 * 2 * 512
    assert sum(n for name, n in by_name.items() if name.startswith("maps")) == 9 * (512 * 768 + 768)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 8)),
        ({"sets": 2}, (2, 3, 8)),
        ({"sets": 1}, (1, 3, 8)),
        ({"classes": 5}, (1, 5, 3, 8)),
        ({"sets": 2, "classes": 5}, (2, 5, 3, 8)),
    ],
)
def test_shapes_and_distribution(options, shape):
    module = Prompts(3, 8, depth=4, generator=seeded(), **options)
    prompts = module.prompts()
    assert [tuple(p.shape) for p in prompts] == [shape] * 4
    drawn = torch.stack(list(prompts)).detach().flatten()
    error = 5 * 0.02 / math.sqrt(2 * len(drawn))
    assert abs(float(drawn.square().mean().sqrt()) - 0.02) < error
    assert not torch.equal(prompts[0], prompts[1])
    again = Prompts(3, 8, depth=4, generator=seeded(), **options)
    assert all(torch.equal(a, b) for a, b in zip(prompts, again.prompts(), strict=True))
    other = Prompts(3, 8, depth=4, generator=seeded(1), **options)
    assert not torch.equal(prompts[0], other.prompts()[0])


def test_words_begin_the_first_layer_of_the_first_sets():
    words = torch.arange(24.0).view(3, 8)
    plain = Prompts(3, 8, depth=2, sets=4, generator=seeded()).prompts()
    first, second = Prompts(3, 8, depth=2, sets=4, words=words, generator=seeded()).prompts()
    assert torch.equal(first[0], words)
    assert torch.equal(first[1:], plain[0][1:])
    assert torch.equal(second, plain[1])
    every = Prompts(3, 8, sets=2, classes=5, words=torch.stack((words, -words))).prompts()[0]
    assert torch.equal(every, torch.stack((words, -words))[:, None].expand(2, 5, 3, 8))
    words.zero_()
    assert first[0].norm() > 0  # a copy


@pytest.mark.parametrize("words", [torch.zeros(2, 8), torch.zeros(3, 7), torch.zeros(2, 3, 8), torch.zeros(8)])
def test_words_that_do_not_fit_are_refused(words):
    with pytest.raises(InputError, match=r"Expected words as embeddings \(3, 8\) for at most 1 sets"):
        Prompts(3, 8, words=words)


@pytest.mark.parametrize("name", ["length", "width", "depth", "sets", "classes"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_sizes_are_checked(name, value):
    with pytest.raises(InputError, match=f"Expected {name} of prompts"):
        Prompts(**{"length": 2, "width": 8, name: value})


def test_projection_is_one_map_a_layer_shared_by_the_sets():
    module = ProjectedPrompts(Prompts(2, 8, depth=3, sets=4, generator=seeded()), 6, generator=seeded())
    text, vision = module.prompts()
    for layer in range(3):
        A, b = module.maps[layer].weight, module.maps[layer].bias
        for m in range(4):
            for j in range(2):
                torch.testing.assert_close(vision[layer][m, j], A @ text[layer][m, j] + b)
    vision[1].sum().backward()  # reaches the words of its own layer and no other
    assert module.text.layers[1].grad.abs().sum() > 0
    assert module.text.layers[0].grad is None
    assert module.maps[2].weight.grad is None


def test_maps_start_as_torch_starts_them():
    """U(±1/√512) for weights and biases: their extremes and their deviation 1/√(3 · 512)."""
    linear = ProjectedPrompts(Prompts(2, TEXT, generator=seeded()), VISION, generator=seeded()).maps[0]
    for values in (linear.weight, linear.bias):
        assert values.abs().max() <= 1 / math.sqrt(512)
        assert float(values.detach().std()) == pytest.approx(1 / math.sqrt(3 * 512), rel=0.1)


def test_prompts_of_classes_cannot_be_projected():
    with pytest.raises(InputError, match="shared by all classes"):
        ProjectedPrompts(Prompts(2, 8, classes=3), 6)


def test_independent_sides():
    assert IndependentPrompts(Prompts(2, 8)).prompts().vision == ()
    sides = IndependentPrompts(Prompts(2, 8, sets=3), Prompts(4, 6, depth=2, sets=5)).prompts()
    assert [tuple(p.shape) for p in sides.text] == [(3, 2, 8)]
    assert [tuple(p.shape) for p in sides.vision] == [(5, 4, 6)] * 2
    with pytest.raises(InputError, match="at least one tower"):
        IndependentPrompts()


def test_conditional_prompts_are_shifted_by_the_image():
    module = ConditionalPrompts(4, 8, 32, generator=seeded())
    images = torch.randn(3, 32, generator=seeded())
    (text,), vision = module.prompts(images)
    assert vision == ()
    first, second = module.meta[0], module.meta[2]
    assert first.weight.shape == (2, 32)
    for i in range(3):
        shift = second.weight @ torch.clamp(first.weight @ images[i] + first.bias, min=0) + second.bias
        for m in range(4):
            torch.testing.assert_close(text[i, m], module.text.layers[0][m] + shift)


def test_joint_prompts_written_out():
    """U' = SA(U) + LN(U), Û = FFN(LN(U')) + LN(U'), head by head and row by row."""
    module = JointPrompts((2, 3), 10, 6, width=8, depth=2, heads=2, generator=seeded())

    def norm(layer, x):
        return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5) * layer.weight + layer.bias

    sides = module.prompts()
    for layer, U in enumerate(module.unified.prompts()):
        Q, K, V = (U @ module.attention[n].weight.T + module.attention[n].bias for n in ("query", "key", "value"))
        for i in range(5):
            heads = []
            for h in (slice(0, 4), slice(4, 8)):
                weights = torch.softmax(torch.stack([Q[i, h] @ K[j, h] / 2 for j in range(5)]), 0)
                heads.append(sum(weights[j] * V[j, h] for j in range(5)))
            out = module.attention["out"]
            mixed = norm(module.after, out.weight @ torch.cat(heads) + out.bias + norm(module.before, U[i]))
            inner, outer = module.feed_forward[0], module.feed_forward[2]
            hat = outer.weight @ torch.nn.functional.gelu(inner.weight @ mixed + inner.bias) + outer.bias + mixed
            side, place, last = (sides.text, i, module.to_text) if i < 2 else (sides.vision, i - 2, module.to_vision)
            torch.testing.assert_close(side[layer][place], last.weight @ hat + last.bias, rtol=1e-4, atol=1e-6)


def test_joint_prompts_tie_the_sides_together_and_start_small():
    module = JointPrompts((4, 4), TEXT, VISION, depth=2, generator=seeded())
    sides = module.prompts()
    assert [tuple(p.shape) for p in sides.text + sides.vision] == [(4, 512)] * 2 + [(4, 768)] * 2
    for prompts in sides.text + sides.vision:
        assert float(prompts.detach().std()) == pytest.approx(0.02, rel=0.25)
    sides.text[0].sum().backward()
    grad = module.unified.layers[0].grad
    assert all(row.abs().sum() > 0 for row in grad)  # a textual prompt depends on the visual half too
    with pytest.raises(InputError, match="heads to divide"):
        JointPrompts((4, 4), 8, 8, width=10, heads=4)
