"""ALIGN's two-level transport against its equations as loops, POT, finite differences and its published code."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch

from modalign.core.errors import InputError, UnknownNameError
from modalign.linalg.similarity import cosine
from modalign.linalg.token_transport import prompt_transport, token_plan
from modalign.methods.align.align_official import official_plan, official_token_similarity
from modalign.methods.align.align_transport import two_level_transport

B, K, M, N, J, L, D = 2, 3, 3, 2, 6, 5, 8
EXACT = {"tolerance": 1e-11, "max_sweeps": 20_000}


@pytest.fixture
def tensors():
    """z, h, patches, words, mask in float64; every class has its own number of words."""
    generator = torch.Generator().manual_seed(0)
    shapes = (B, M, D), (K, N, D), (B, M, J, D), (K, N, L, D)
    z, h, patches, words = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    mask = torch.arange(L) < torch.tensor([3, 5, 4])[:, None, None].expand(K, N, 1)
    return z, h, patches, words, mask


def cos(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def pot(cost, epsilon):
    n, m = cost.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    return ot.sinkhorn(a, b, cost, epsilon, stopThr=1e-11, numItermax=20_000)


def literal(z, h, patches, words, mask, epsilon=0.1, token_weight=1.0, weight=1.0, entropic=False, uniform=False):
    """Equations 3 to 6, one image, class and pair of prompts at a time; distances (B, K) and plans (B, K, M, N)."""

    def distance(cost):
        plan = np.full(cost.shape, 1 / cost.size) if uniform else pot(cost, epsilon)
        value = (plan * cost).sum()
        return value + epsilon * (plan * np.log(plan)).sum() if entropic else value, plan

    distances, plans = np.zeros((B, K)), np.zeros((B, K, M, N))
    for i in range(B):
        for k in range(K):
            cost = np.zeros((M, N))
            for m in range(M):
                for n in range(N):
                    tokens = words[k, n][mask[k, n]]
                    inner = np.array([[1 - cos(r, s) for s in tokens] for r in patches[i, m]])
                    cost[m, n] = weight * (1 - cos(z[i, m], h[k, n])) + token_weight * distance(inner)[0]
            distances[i, k], plans[i, k] = distance(cost)
    return distances, plans


@pytest.mark.parametrize(
    ("options", "loop"),
    [
        ({}, {}),
        ({"epsilon": 0.3}, {"epsilon": 0.3}),
        ({"token_weight": 0.0}, {"token_weight": 0.0}),
        ({"token_weight": 0.3, "prompt_weight": 0.7}, {"token_weight": 0.3, "weight": 0.7}),
        ({"value": "entropic"}, {"entropic": True}),
        ({"plan": "uniform"}, {"uniform": True}),
        ({"plan": "uniform", "value": "entropic"}, {"uniform": True, "entropic": True}),
    ],
)
def test_equations_as_loops(tensors, options, loop):
    found = two_level_transport(*tensors, **EXACT, **options)
    distances, plans = literal(*tensors, **loop)
    np.testing.assert_allclose(found.plan, plans, atol=1e-7)
    np.testing.assert_allclose(found.scores, 1 - distances, atol=1e-7)


def test_float32_at_the_default_tolerance_agrees_to_five_digits(tensors):
    z, h, patches, words, mask = tensors
    found = two_level_transport(z.float(), h.float(), patches.float(), words.float(), mask)
    np.testing.assert_allclose(found.scores, 1 - literal(*tensors)[0], atol=1e-5)


def test_gradients_are_those_of_the_regularized_distance(tensors):
    """Central differences of the entropic distance; they are also what ``value="cost"`` passes on."""
    *inputs, mask = tensors
    inputs = [part.requires_grad_() for part in inputs]
    weights = torch.linspace(-1, 2, B * K, dtype=torch.float64).view(B, K)
    tight = {"tolerance": 1e-11, "max_sweeps": 20_000}

    def total(*parts):
        return (weights * (1 - two_level_transport(*parts, mask, value="entropic", **tight).scores)).sum()

    gradients = torch.autograd.grad(total(*inputs), inputs)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for which, gradient in enumerate(gradients):
            for _ in range(6):
                index = tuple(int(rng.integers(size)) for size in gradient.shape)
                sides = []
                for step in (1e-5, -1e-5):
                    moved = [part.clone() for part in inputs]
                    moved[which][index] += step
                    sides.append(total(*moved).item())
                assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(gradient[index].item(), abs=1e-6)


def test_gradient_of_the_cost_is_the_product_of_the_plans(tensors):
    """∂d/∂C is T, and β T T̂ for the token costs: autograd through costs weighted with POT's plans as constants."""
    *inputs, mask = tensors
    beta, weights = 0.7, torch.linspace(1, 2, B * K, dtype=torch.float64).view(B, K)
    inputs = [part.requires_grad_() for part in inputs]
    found = two_level_transport(*inputs, mask, token_weight=beta, **EXACT)
    ours = torch.autograd.grad((weights * (1 - found.scores)).sum(), inputs)
    _, plans = literal(*(part.detach() for part in inputs), mask, token_weight=beta)
    z, h, patches, words = inputs
    total = 0.0
    for i, k, m, n in np.ndindex(B, K, M, N):
        tokens = words[k, n][mask[k, n]]
        similarity = torch.cosine_similarity(patches[i, m][:, None], tokens[None], dim=2)
        inner = torch.from_numpy(pot((1 - similarity).detach().numpy(), 0.1))
        cost = 1 - torch.cosine_similarity(z[i, m], h[k, n], dim=0) + beta * (inner * (1 - similarity)).sum()
        total = total + weights[i, k] * plans[i, k, m, n] * cost
    for a, b in zip(ours, torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0)


def released_loop(z, h, patches, words, mask, epsilon=0.1):
    """The published code's score for every image and class, one call a pair and one for all prompt-level plans."""

    def sinkhorn(similarity):
        kernel = np.exp(-(similarity) / epsilon)
        p, n, m = kernel.shape
        r, c = np.ones((p, n)), np.ones((p, m))
        for _ in range(100):
            before = r
            r = 1 / n / np.einsum("pnm,pm->pn", kernel, c)
            c = 1 / m / np.einsum("pnm,pn->pm", kernel, r)
            if np.abs(r - before).mean() < 1e-2:
                break
        return r[:, :, None] * kernel * c[:, None, :]

    prompt_similarity, prompt_cost = np.zeros((B, K, M, N)), np.zeros((B, K, M, N))
    for i in range(B):
        for k in range(K):
            similarity = np.array(
                [
                    [[cos(r, s) for s in words[k, n][mask[k, n]]] for r in patches[i, m]]
                    for m in range(M)
                    for n in range(N)
                ]
            )
            agreement = (sinkhorn(1 - similarity) * similarity).sum(axis=(1, 2)).reshape(M, N)
            prompt_similarity[i, k] = [[cos(z[i, m], h[k, n]) for n in range(N)] for m in range(M)]
            prompt_cost[i, k] = 1 - prompt_similarity[i, k] + agreement
    plans = sinkhorn(prompt_cost.reshape(B * K, M, N)).reshape(B, K, M, N)
    return (plans * prompt_similarity).sum(axis=(2, 3))


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_the_official_code_is_the_published_score(tensors, epsilon):
    found = two_level_transport(*tensors, official_code=True, epsilon=epsilon)
    np.testing.assert_allclose(found.scores, released_loop(*tensors, epsilon=epsilon), atol=1e-9)


def test_the_official_code_gives_patches_and_words_no_gradient(tensors):
    *inputs, mask = tensors
    inputs = [part.requires_grad_() for part in inputs]
    for plan in ("transport", "uniform"):
        scores = two_level_transport(*inputs, mask, official_code=True, plan=plan).scores
        z, h, patches, words = torch.autograd.grad(scores.square().sum(), inputs, allow_unused=True)
        assert z.abs().max() > 0
        assert h.abs().max() > 0
        assert patches is None or patches.abs().max() == 0
        assert words is None or words.abs().max() == 0
    patches, words = torch.autograd.grad(two_level_transport(*inputs, mask).scores.square().sum(), inputs[2:])
    assert patches.abs().max() > 1e-4
    assert words.abs().max() > 1e-4


def test_the_official_code_has_the_sign_of_the_token_term_wrong(tensors):
    """Where tokens agree more its prompt-level plan gets less mass; the paper's gets more."""
    z, h = torch.ones(1, 2, D, dtype=torch.float64), torch.ones(1, 2, D, dtype=torch.float64)
    patches, words = torch.ones(1, 2, 4, D, dtype=torch.float64), torch.ones(1, 2, 3, D, dtype=torch.float64)
    patches[:, 0, :, : D // 2], words[:, 0, :, : D // 2] = -1, -1  # prompts 0 agree, prompts 1 agree, 0 and 1 do not
    paper = two_level_transport(z, h, patches, words).plan[0, 0]
    released = two_level_transport(z, h, patches, words, official_code=True).plan[0, 0]
    assert paper[0, 0] > paper[0, 1]
    assert released[0, 0] < released[0, 1]


def test_released_calls_stop_each_by_its_own_rule():
    generator = torch.Generator().manual_seed(0)
    easy = 1 + 0.001 * torch.rand(1, 4, 6, 3, generator=generator)
    hard = 2 * torch.rand(1, 4, 6, 3, generator=generator)
    together = official_plan(torch.cat([easy, hard]), 0.05)
    for alone, part in zip((easy, hard), together, strict=True):
        torch.testing.assert_close(official_plan(alone, 0.05)[0], part)


def test_padding_words_never_matter(tensors):
    z, h, patches, words, mask = tensors
    other = torch.where(mask[..., None], words, 100 * torch.randn_like(words))
    longer = torch.cat([other, torch.randn(K, N, 2, D, dtype=torch.float64)], dim=2)
    wider = torch.cat([mask, torch.zeros(K, N, 2, dtype=torch.bool)], dim=2)
    for options in ({}, {"official_code": True}, {"plan": "uniform"}):
        expected = two_level_transport(z, h, patches, words, mask, **options).scores
        found = two_level_transport(z, h, patches, longer, wider, **options).scores
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_one_mask_for_all_prompts_of_a_class(tensors):
    z, h, patches, words, mask = tensors
    found = two_level_transport(z, h, patches, words, mask[:, 0])
    torch.testing.assert_close(found.scores, two_level_transport(*tensors).scores)


def test_without_tokens_or_beta_only_prompts_count(tensors):
    z, h, patches, words, mask = tensors
    alone = two_level_transport(z, h, **EXACT)
    weightless = two_level_transport(z, h, patches, words, mask, token_weight=0.0, **EXACT)
    assert alone.tokens is None
    torch.testing.assert_close(alone.scores, weightless.scores)
    single = two_level_transport(z[:, :1], h[:, :1])  # CoOp, VPT, MaPLe: one prompt per side is plain cosine
    expected = torch.nn.functional.cosine_similarity(z[:, None, 0], h[None, :, 0], dim=2)
    torch.testing.assert_close(single.scores, expected)


def test_order_of_prompts_patches_and_words_is_free(tensors):
    z, h, patches, words, mask = tensors
    turned = two_level_transport(z.flip(1), h.flip(1), patches.flip(1, 2), words.flip(1, 2), mask.flip(1, 2), **EXACT)
    found = two_level_transport(*tensors, **EXACT)
    torch.testing.assert_close(turned.scores, found.scores, atol=1e-9, rtol=0)
    torch.testing.assert_close(turned.plan.flip(2, 3), found.plan, atol=1e-8, rtol=0)


def test_plans_for_pictures_are_those_behind_the_score(tensors):
    _, _, patches, words, mask = tensors
    found = two_level_transport(*tensors, **EXACT)
    plans = token_plan(patches[1], words[2], mask[2], tolerance=1e-11)
    assert plans.shape == (M, N, J, L)
    cosines = torch.einsum(
        "mjd,nld->mnjl", *(part / part.norm(dim=-1, keepdim=True) for part in (patches[1], words[2]))
    )
    torch.testing.assert_close((plans * (1 - cosines)).sum(dim=(2, 3)), found.tokens.cost[1, 2], atol=1e-8, rtol=0)
    assert plans[..., ~mask[2, 0]].abs().max() == 0
    torch.testing.assert_close(plans.sum(dim=3), torch.full((M, N, J), 1 / J, dtype=torch.float64), atol=1e-8, rtol=0)


def test_diagnosis_distinguishes_transport_from_uniform(tensors):
    transported = two_level_transport(*tensors, epsilon=0.05).diagnosis()
    uniform = two_level_transport(*tensors, plan="uniform").diagnosis()
    assert transported["token_plan_entropy"] < 0.9
    assert transported["prompt_plan_entropy"] < 1
    assert uniform["token_plan_entropy"] == pytest.approx(1)
    assert uniform["prompt_plan_entropy"] == pytest.approx(1)
    assert 0 < transported["token_marginal_error"] < 0.01


@pytest.mark.parametrize("plan", ["transport", "uniform"])
def test_plot_is_one_level_with_a_constant_plan(plan):
    generator = torch.Generator().manual_seed(1)
    local = torch.randn(B, J, D, generator=generator, dtype=torch.float64, requires_grad=True)
    prompts = torch.randn(K, 4, D, generator=generator, dtype=torch.float64, requires_grad=True)
    found = prompt_transport(local, prompts, plan=plan, **EXACT)
    total = 0.0
    for b in range(B):
        for k in range(K):
            cosines = torch.cosine_similarity(local[b][:, None], prompts[k][None], dim=2)
            constant = pot((1 - cosines).detach().numpy(), 0.1) if plan == "transport" else np.full((J, 4), 1 / (4 * J))
            score = (torch.from_numpy(constant) * cosines).sum()
            assert found.scores[b, k].item() == pytest.approx(score.item(), abs=1e-8)
            total = total + (b + 2 * k) * score
    weights = torch.tensor([[b + 2 * k for k in range(K)] for b in range(B)])
    expected = torch.autograd.grad(total, (local, prompts))
    for a, e in zip(torch.autograd.grad((weights * found.scores).sum(), (local, prompts)), expected, strict=True):
        torch.testing.assert_close(a, e, atol=1e-8, rtol=0)
    picture = token_plan(local[:1], prompts[:1])
    assert picture.shape == (1, 1, J, 4)


def test_entropic_value_prefers_classes_with_more_words():
    """−ε h(T) falls with log L, so the letter of equation 5 ranks classes by their number of tokens as well."""
    z, h = torch.ones(1, 1, D), torch.ones(2, 1, D)
    patches, words = torch.ones(1, 1, J, D), torch.ones(2, 1, 8, D)
    mask = torch.arange(8) < torch.tensor([4, 8])[:, None]
    assert two_level_transport(z, h, patches, words, mask).scores.diff().abs() < 1e-6
    entropic = 1 - two_level_transport(z, h, patches, words, mask, value="entropic").scores
    assert (entropic[0, 0] - entropic[0, 1]).item() == pytest.approx(0.1 * math.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_prompts": torch.ones(B, M, D + 1)}, "of one width"),
        ({"words": None}, "patches and words together"),
        ({"patches": torch.ones(B, M + 1, J, D)}, "Expected patches"),
        ({"word_mask": torch.ones(K, N, L)}, "word_mask bool"),
        ({"word_mask": torch.zeros(K, N, L, dtype=torch.bool)}, "at least one element"),
        ({"epsilon": -0.1}, "epsilon > 0"),
        ({"token_weight": -1.0}, "token_weight"),
        ({"patches": torch.full((B, M, J, D), math.nan)}, "finite numbers"),
    ],
)
def test_mistakes_are_named(tensors, change, message):
    names = ("image_prompts", "text_prompts", "patches", "words", "word_mask")
    with pytest.raises(InputError, match=message):
        two_level_transport(**(dict(zip(names, tensors, strict=True)) | change))


@pytest.mark.parametrize("option", ["plan", "value"])
def test_unknown_choices_are_named(tensors, option):
    with pytest.raises(UnknownNameError, match=option):
        two_level_transport(*tensors, **{option: "costs"})


def test_the_statistics_of_official_plans_are_those_of_each_plan(tensors):
    _, _, patches, words, mask = tensors
    similarity, entropy, error = official_token_similarity(patches, words, mask, 0.1)
    for b, k, m, n in np.ndindex(similarity.shape):
        cosines = cosine(patches[b, m], words[k, n])
        pairs = [(i, j) for i in range(patches.shape[1]) for j in range(words.shape[1])]
        call = torch.stack([1 - cosine(patches[b, i], words[k, j]) for i, j in pairs])
        there = torch.stack([mask[k, j] for _, j in pairs])
        plan = official_plan(call[None], 0.1, there[None])[0, pairs.index((m, n))]
        assert float(similarity[b, k, m, n]) == pytest.approx(float((plan * cosines).sum()), abs=1e-9)
        assert float(entropy[b, k, m, n]) == pytest.approx(float(torch.special.entr(plan).sum()), abs=1e-9)
        assert float(error[b, k, m, n]) == pytest.approx(float((plan.sum(1) - 1 / len(plan)).abs().sum()), abs=1e-9)
