"""ALIGN against a transcription of its equations in loops, its published counts, and its controls."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from small_clip import NAMES, SCALE, WORDS, literal_image, literal_text, small_clip, tokenize, towers_of, vit_b16

from modalign import VPT, CoOp
from modalign.core.errors import InputError
from modalign.methods.align.align import ALIGN, AlignLearner
from modalign.methods.align.align_official import official_plan
from modalign.tune.prompts import accounting, count_parameters

EPSILON = 0.1


@pytest.fixture(scope="module")
def model():
    return small_clip()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def learner(model, **settings) -> AlignLearner:
    method = ALIGN(**settings)
    made = method._learner(towers_of(model), torch.Generator().manual_seed(2)).double()
    with torch.no_grad():  # of the size of the tokens, so that a wrong prompt is a wrong score
        for parameter in made.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 2
            )
    return made


def cos(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def transport(cost: np.ndarray) -> np.ndarray:
    n, m = cost.shape
    return ot.sinkhorn(np.full(n, 1 / n), np.full(m, 1 / m), cost, EPSILON, stopThr=1e-12, numItermax=50_000)


def of_prompts(layers: tuple[torch.Tensor, ...], which: int) -> list[torch.Tensor]:
    return [layer[which] for layer in layers]


@pytest.mark.parametrize("changes", [{}, {"value": "cost"}, {"prompt_weight": 0.3}])
def test_scores_are_those_of_the_equations(model, pixels, changes) -> None:
    """Equations 3 to 7, and 9 of the appendix: one image, class, visual and textual prompt at a time."""
    made = learner(model, visual=2, textual=3, n_ctx=2, depth=9, token_weight=0.7, sweeps=5000, **changes)
    of_prompt = changes.get("prompt_weight", 1.0)

    def least(cost: np.ndarray) -> float:
        plan = transport(cost)
        entropy = 0.0 if changes.get("value") == "cost" else -(plan * np.log(plan)).sum()
        return (plan * cost).sum() - EPSILON * entropy

    text, vision = made.prompts.prompts()
    assert len(text) == len(vision) == 3  # the shallower tower's depth
    expected = np.zeros((3, 4))
    for i in range(3):
        seen = [literal_image(model, pixels[i], of_prompts(vision, m)) for m in range(2)]
        for k, name in enumerate(NAMES):
            words = ["x", "x", "of", "a", *name.split(), "."]
            ids = tokenize([" ".join(words)])["input_ids"][0]
            cost = np.zeros((2, 3))
            for n in range(3):
                h, tokens = literal_text(model, ids, of_prompts(text, n))
                s = [tokens[1], tokens[2], *tokens[5 : 5 + len(name.split())]]  # b learnable tokens, then the class
                for m, (z, r) in enumerate(seen):
                    assert len(r) == 9 + 2  # patches, then prompts
                    inner = np.array([[1 - cos(a, b) for b in s] for a in r])
                    cost[m, n] = of_prompt * (1 - cos(z, h)) + 0.7 * least(inner)
            expected[i, k] = SCALE * (1 - least(cost))
    with torch.no_grad():
        found = made.scores(pixels, made.classes())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * SCALE)
    assert np.ptp(expected, axis=1).min() > 0.1


def test_scores_of_the_released_form(model, pixels) -> None:
    """Token similarity as cost, token sets by the first prompt's length, prompt-level similarity under the plan."""
    made = learner(model, preset="official_code", visual=3, textual=3)
    text, vision = made.prompts.prompts()
    expected = np.zeros((3, 4))
    for i in range(3):
        seen = [literal_image(model, pixels[i], of_prompts(vision, m)) for m in range(3)]
        costs, alike = [], []
        for name in NAMES:
            end_of_first = 1 + 4 + len(name.split()) + 1
            rows = []
            for n in range(3):
                words = ["x", "x", *(["of", "a"] if n == 0 else []), *name.split(), "."]
                h, tokens = literal_text(model, tokenize([" ".join(words)])["input_ids"][0], of_prompts(text, n))
                rows.append((h, tokens[: end_of_first - 1]))
            similar = torch.tensor([[cos(z, h) for h, _ in rows] for z, _ in seen])
            inner = torch.tensor([[[[cos(a, b) for b in s] for a in r] for _, s in rows] for _, r in seen])
            plans = official_plan(1 - inner.flatten(0, 1)[None], EPSILON)[0].unflatten(0, (3, 3))  # as one call
            costs.append(1 - similar + (plans * inner).sum(dim=(2, 3)))
            alike.append(similar)
        plan = official_plan(torch.stack(costs)[None], EPSILON)[0]
        expected[i] = SCALE * (plan * torch.stack(alike)).sum(dim=(1, 2)).numpy()
    with torch.no_grad():  # one image a call, since the stopping rule looks at all problems of a call
        found = torch.cat([made.scores(image[None], made.classes()) for image in pixels])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_trainable_numbers_are_the_published_ones() -> None:
    released = ALIGN(preset="official_code")._learner(vit_b16(), torch.Generator())
    assert count_parameters(released) == 3_582_720
    assert sum(v.numel() for v in released.state().values()) == 9 * 4 * 2 * (512 + 768)  # 369 kB are saved
    assert count_parameters(ALIGN()._learner(vit_b16(), torch.Generator())) == 9 * 4 * 2 * (512 + 768) == 92_160
    own = ALIGN(visual=3, textual=5)._learner(vit_b16(), torch.Generator())
    assert count_parameters(own) == 9 * 2 * (5 * 512 + 3 * 768)
    assert not any("towers" in name for name in accounting(own))


def test_the_first_textual_prompt_starts_as_words(model) -> None:
    towers = towers_of(model)
    made = ALIGN()._learner(towers, torch.Generator().manual_seed(0))
    assert made.sentences.texts[0] == "of a cat."
    first = made.prompts.prompts().text[0]
    expected = model.text_model.embeddings.token_embedding.weight[[WORDS.index("a"), WORDS.index("photo")]]
    torch.testing.assert_close(first[0].double(), expected.detach(), rtol=0, atol=1e-6)
    assert first[1:].std() < 0.04


def gradients(made: AlignLearner, pixels: torch.Tensor, caught: dict) -> None:
    """Backward through the scores; the gradients of patches and words go to ``caught``."""
    look, read = made.encode_images, made.read

    def looked(*args, **options):
        out = look(*args, **options)
        out.tokens.register_hook(lambda g: caught.update(patches=g))
        return out

    def was_read(*args, **options):
        out = read(*args, **options)
        out.tokens.register_hook(lambda g: caught.update(words=g))
        return out

    made.encode_images, made.read = looked, was_read
    torch.nn.functional.cross_entropy(made.scores(pixels, made.classes()), torch.tensor([0, 1, 2])).backward()


def test_only_the_published_code_leaves_patches_and_words_without_gradient(model, pixels) -> None:
    paper: dict[str, torch.Tensor] = {}
    gradients(learner(model), pixels, paper)
    assert paper["patches"][:, :, 1:].abs().max() > 1e-4
    assert paper["words"].abs().max() > 1e-4
    released: dict[str, torch.Tensor] = {}
    made = learner(model, preset="official_code")
    gradients(made, pixels, released)
    assert not any(g is not None and g[:, :, 1:].abs().max() > 0 for g in released.values())
    assert all(p.grad.abs().max() > 0 for p in made.parameters())  # by the prompt-level vectors alone


def test_gradients_are_those_of_the_entropic_value(model, pixels) -> None:
    """Envelope theorem end to end, through both towers: with the entropy at both levels (equations 4 and 5) the
    derivative of the loss along a direction in prompt space is its difference quotient."""
    made = learner(model, value="entropic", sweeps=20_000)
    labels = torch.tensor([0, 1, 2])

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(made.scores(pixels, made.classes()) / SCALE, labels)

    loss().backward()
    draws = torch.Generator().manual_seed(3)
    steps = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in made.parameters()]
    along = sum(float((p.grad * s).sum()) for p, s in zip(made.parameters(), steps, strict=True))
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, s in zip(made.parameters(), steps, strict=True):
                p.add_(sign * 1e-3 * s)
            ends.append(float(loss()))
            for p, s in zip(made.parameters(), steps, strict=True):
                p.sub_(sign * 1e-3 * s)
    assert along == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.02, abs=1e-5)


def test_the_controls_change_what_they_name(model, pixels) -> None:
    with torch.no_grad():
        found = {}
        for words, settings in {"": {}, **ALIGN.ablations}.items():
            made = learner(model, **settings)
            found[words] = (
                made.scores(pixels, made.classes()),
                made.transport(made.image_output(pixels), made.classes()),
            )
    assert (found[""][0] - found["uniform plan"][0]).abs().max() > 1e-3
    assert found["uniform plan"][1].diagnosis()["prompt_plan_entropy"] == pytest.approx(1)
    assert found[""][1].diagnosis()["token_plan_entropy"] < 0.999
    assert found["no token level"][1].tokens is None
    assert (found[""][0] <= found["no token level"][0] + 1e-9).all()  # a token distance is added


@pytest.mark.parametrize("preset", ["paper", "official_code"])
def test_one_prompt_a_side_leaves_the_prompt_level_nothing_to_choose(preset: str, model, pixels) -> None:
    made = learner(model, preset=preset, visual=1, textual=1, token_weight=0.0)
    with torch.no_grad():
        classes = made.classes()
        found = made.scores(pixels, classes)
        images = made.encode_images(pixels).pooled[0]
    cosines = torch.nn.functional.cosine_similarity(images[:, None], classes.prompts[None, :, 0], dim=2)
    torch.testing.assert_close(found, SCALE * cosines, rtol=0, atol=1e-6)


def test_restored_prompts_give_the_same_answers(model, pixels) -> None:
    made = learner(model, preset="official_code")
    again = learner(model, preset="official_code", random_state=9)
    again.restore(made.state())
    with torch.no_grad():
        torch.testing.assert_close(
            again.scores(pixels, again.classes()), made.scores(pixels, made.classes()), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"coupling": "projected", "visual": 4, "textual": 2}, "as many visual as textual"),
        ({"preset": "official_code", "visual": 2}, "as many visual as textual"),
        ({"preset": "official_code", "value": "entropic"}, "value='cost'"),
        ({"n_ctx": 14}, "'very long thin green lizard.'"),
        ({"n_ctx": 18}, "0 to 17 prompt tokens"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, sentence: str, model) -> None:
    with pytest.raises(InputError, match=sentence):
        ALIGN(**settings)._learner(towers_of(model), torch.Generator())


def test_presets_fill_in_what_is_left_open() -> None:
    labels = np.arange(4)
    recipe = ALIGN()._recipe(labels)
    assert (recipe.learning_rate, recipe.epochs) == (0.0035, 40)
    released = ALIGN(preset="official_code", epochs=3)
    assert (released._recipe(labels).learning_rate, released._recipe(labels).epochs) == (0.0025, 3)
    assert released.learning_rate is None  # what the user gave stays as it was


def test_coop_and_vpt_are_special_cases(model, pixels) -> None:
    """Table 4: no visual prompts and one textual one, or the other way round, without the token level."""
    settings = {"n_ctx": 4, "token_weight": 0.0}
    pairs = [
        (ALIGN(visual=0, textual=1, depth=1, **settings), CoOp(words="a photo of a")),
        (ALIGN(visual=1, textual=0, **settings), VPT(n_ctx=4)),
    ]
    for method, special in pairs:
        if isinstance(special, VPT):
            special.deep, method.depth = False, 1
        made, expected = (
            own._learner(towers_of(model), torch.Generator().manual_seed(2)).double() for own in (method, special)
        )
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for mine, other in zip(made.parameters(), expected.parameters(), strict=True):
                other.normal_(generator=generator)
                mine.copy_(other)
        losses = []
        for one in (made, expected):
            logits = one.scores(pixels, one.classes()).double()
            losses.append((logits, torch.autograd.grad(logits.square().sum(), list(one.parameters()))[0]))
        torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(losses[0][1].reshape(-1), losses[1][1].reshape(-1), rtol=1e-4, atol=1e-4)


def test_frozen_texts_have_no_tokens_to_compare(model) -> None:
    for settings in ({"textual": 0}, {"textual": 0, "visual": 0, "token_weight": 0.0}):
        with pytest.raises(InputError, match="token_weight"):
            ALIGN(**settings)._learner(towers_of(model), torch.Generator())
    with pytest.raises(InputError, match="as many visual as textual"):
        ALIGN(visual=0, coupling="projected")._learner(towers_of(model), torch.Generator())
