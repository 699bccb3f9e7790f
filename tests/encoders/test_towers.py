"""The opened towers against transformers' own, and against a plain loop over full-length sequences, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_vision import MAPS
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from modalign.core.errors import InputError
from modalign.encoders import load_encoder
from modalign.encoders.towers import text_tower
from modalign.encoders.towers._blocks import TransformerBlock
from modalign.encoders.towers.vision_tower import Sentences, TextTower, VisionTower

CONTEXT, SOS, EOT = 20, 58, 59


class Letters:
    """A tokenizer of one token a letter: a lower-case letter is its place in the alphabet."""

    def __call__(self, sentences: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[SOS, *(ord(c) - 96 for c in s), EOT] for s in sentences]}


def random_clip(act: str = "quick_gelu", seed: int = 0) -> CLIPModel:
    """A small network of which every parameter matters: biases and layer norms are random too."""
    torch.manual_seed(seed)
    text = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "vocab_size": 60,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": EOT,
        "hidden_act": act,
    }
    vision = {
        "hidden_size": 30,
        "intermediate_size": 36,
        "num_attention_heads": 5,
        "num_hidden_layers": 3,
        "image_size": 12,
        "patch_size": 4,
        "hidden_act": act,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=18)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (1 / math.sqrt(parameter.shape[-1]) if parameter.ndim else 1))
    return model


@pytest.fixture(scope="module")
def model() -> CLIPModel:
    return random_clip()


@pytest.fixture(scope="module")
def tower(model: CLIPModel) -> TextTower:
    return TextTower.of(model, Letters())


def plain_text(
    model: CLIPModel, sentences: Sentences, prompts: list[Tensor], bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All classes of all sets one by one at full length, through the layers of transformers; pooled and tokens."""
    text, context = model.text_model, model.config.text_config.max_position_embeddings
    K, L = sentences.ids.shape
    sets = max([p.shape[0] for p in prompts if p.ndim > 2], default=1)
    pooled, tokens = [], []
    for g in range(sets):
        for k in range(K):
            ids = torch.full((context,), int(sentences.ids[k, -1]))
            ids[:L] = sentences.ids[k]
            x = text.embeddings.token_embedding(ids)
            for layer, block in enumerate(text.encoder.layers):
                if layer < len(prompts):
                    p = prompts[layer]
                    p = p if p.ndim == 2 else p[g] if p.ndim == 3 else p[g, k]
                    x = torch.cat([x[:1], p, x[1 + len(p) :]])
                if layer == 0:
                    x = x + text.embeddings.position_embedding.weight
                mask = torch.full((context, context), float("-inf"), dtype=x.dtype).triu(1)
                if bias is not None:
                    added = bias[k] if bias.ndim == 3 else bias[layer, k]
                    mask = mask + torch.nn.functional.pad(added, (0, context - L, 0, context - L))
                x = block(x[None], mask[None, None])[0]
            x = model.text_projection(text.final_layer_norm(x))
            pooled.append(x[sentences.ends[k]])
            tokens.append(torch.where(sentences.mask[k, :, None], x[:L], 0))
    return torch.stack(pooled).unflatten(0, (sets, K)), torch.stack(tokens).unflatten(0, (sets, K))


def plain_vision(model: CLIPModel, pixels: Tensor, prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All images under all sets one by one."""
    vision = model.vision_model
    sets = max([p.shape[0] for p in prompts if p.ndim > 2], default=1)
    rows = []
    for g in range(sets):
        for b in range(len(pixels)):
            x = vision.embeddings(pixels[b : b + 1])[0]
            n = len(x)
            for layer, block in enumerate(vision.encoder.layers):
                if layer < len(prompts):
                    p = prompts[layer]
                    p = p if p.ndim == 2 else p[g] if p.ndim == 3 else p[g, b]
                    x = torch.cat([x[:n], p, x[n + len(p) :]])
                if layer == 0:
                    x = vision.pre_layrnorm(x)
                x = block(x[None], None)[0]
            rows.append(model.visual_projection(vision.post_layernorm(x)))
    tokens = torch.stack(rows).unflatten(0, (sets, len(pixels)))
    return tokens[:, :, 0], tokens


def draw(*shapes: tuple[int, ...], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


def agree(found: Tensor, expected: Tensor, rtol: float = 1e-10) -> None:
    """Equal relative to the largest entry."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= rtol * expected.abs().max()


def same(ours: tuple[Tensor | None, ...], theirs: tuple[Tensor | None, ...], leaves: list[Tensor]) -> None:
    """Outputs and the gradients of a random functional of them."""
    gradients = []
    for outputs in (ours, theirs):
        generator = torch.Generator().manual_seed(5)
        loss = sum(
            (o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs if o is not None
        )
        gradients.append(torch.autograd.grad(loss, leaves) if leaves else ())
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            agree(a, b)
    for a, b in zip(*gradients, strict=True):
        agree(a, b)


NAMES = ["cat", "horse", "ox", "salamander", "dog", "z"]
SHAPES = {
    "none": [],
    "shallow": [(3, 24)],
    "deep": [(3, 24)] * 3,
    "at every layer": [(3, 24)] * 4,
    "fewer later": [(3, 24), (2, 24), (1, 24)],
    "sets": [(2, 3, 24)] * 3,
    "sets and one for all": [(3, 24), (2, 3, 24)],
    "per class": [(2, 6, 3, 24)],
    "per class deep": [(2, 6, 3, 24)] * 4,
    "shared, then per class": [(3, 24), (1, 6, 2, 24)],
}


@pytest.mark.parametrize("tokens", [False, True], ids=["pooled", "tokens"])
@pytest.mark.parametrize("case", SHAPES)
def test_text_equals_the_plain_loop(model: CLIPModel, tower: TextTower, case: str, tokens: bool) -> None:
    prompts = draw(*SHAPES[case])
    sentences = tower.tokenize(NAMES, slots=3 if prompts else 0)
    out = tower(sentences, prompts, tokens=tokens)
    pooled, everything = plain_text(model, sentences, prompts)
    same((out.pooled, out.tokens), (pooled, everything if tokens else None), prompts)
    assert out.mask.tolist() == [[j <= end for j in range(sentences.ids.shape[1])] for end in sentences.ends.tolist()]


@pytest.mark.parametrize(
    "options", [{"chunk": 1}, {"chunk": 4}, {"checkpoint": True}, {"chunk": 4, "checkpoint": True}]
)
@pytest.mark.parametrize("case", ["deep", "sets", "per class deep"])
def test_chunks_and_recomputation_change_nothing(
    model: CLIPModel, tower: TextTower, case: str, options: dict[str, int | bool]
) -> None:
    prompts = draw(*SHAPES[case])
    sentences = tower.tokenize(NAMES, slots=3)
    out = tower(sentences, prompts, tokens=True, **options)
    same((out.pooled, out.tokens), plain_text(model, sentences, prompts), prompts)


def test_layers_are_recomputed_where_they_would_store_too_much(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = tower.tokenize(["abc", "abd", "b"], slots=2)
    prompts = torch.randn(3, 2, 24, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    recomputed: list[object] = []
    original = text_tower.recompute
    monkeypatch.setattr(
        text_tower, "recompute", lambda *given, **rest: recomputed.append(given) or original(*given, **rest)
    )
    tokens = 3 * (3 + 3 * 4 - 2)  # sets · (start and slots once, own letters and ends without padding)
    stored = 16 * tokens * 24 * 8 * tower.depth
    gradients = []
    for most, layers in ((stored, 0), (stored - 1, tower.depth)):
        monkeypatch.setattr(text_tower, "MOST_STORED", most)
        gradients.append(torch.autograd.grad(tower(sentences, [prompts]).pooled.square().sum(), prompts)[0])
        assert len(recomputed) == layers
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    stored += 16 * 2 * 3 * 3 * 24 * 8 * tower.depth  # start and slots of each class, whose results are held together
    for most, layers in ((stored, 0), (stored - 1, 3 * tower.depth)):
        recomputed.clear()
        monkeypatch.setattr(text_tower, "MOST_STORED", most)
        tower(sentences, [prompts], chunk=1)
        assert len(recomputed) == layers
    recomputed.clear()
    with torch.no_grad():
        tower(sentences, [prompts])
    assert not recomputed


@pytest.mark.parametrize("tokens", [False, True], ids=["pooled", "tokens"])
@pytest.mark.parametrize("layers", [None, 4])
@pytest.mark.parametrize("options", [{}, {"chunk": 4, "checkpoint": True}])
def test_attention_bias(
    model: CLIPModel, tower: TextTower, layers: int | None, tokens: bool, options: dict[str, int | bool]
) -> None:
    sentences = tower.tokenize(NAMES, slots=3)
    L = sentences.ids.shape[1]
    leaves = draw((3, 24), (2, 3, 24), (6, L, L) if layers is None else (layers, 6, L, L))
    *prompts, bias = leaves
    out = tower(sentences, prompts, tokens=tokens, bias=bias, **options)
    pooled, everything = plain_text(model, sentences, prompts, bias)
    same((out.pooled, out.tokens), (pooled, everything if tokens else None), leaves)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_random_shapes(model: CLIPModel, tower: TextTower, data: st.DataObject) -> None:
    slots = data.draw(st.integers(0, 4))
    start = data.draw(st.sampled_from(["", "ab"]))
    names = data.draw(st.lists(st.text("abc", min_size=1, max_size=11), min_size=1, max_size=14))
    K, G = len(names), data.draw(st.integers(1, 3))
    kinds = st.sampled_from([(slots, 24), (G, slots, 24), (G, K, slots, 24)])
    prompts = draw(*data.draw(st.lists(kinds, min_size=1, max_size=4))) if slots else []
    sentences = tower.tokenize([start + name for name in names], slots)
    chunk = data.draw(st.none() | st.integers(1, K))
    out = tower(sentences, prompts, tokens=True, chunk=chunk, checkpoint=data.draw(st.booleans()))
    same((out.pooled, out.tokens), plain_text(model, sentences, prompts), prompts)
    agree(tower(sentences, prompts).pooled, out.pooled)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_without_prompts_text_is_that_of_transformers(act: str) -> None:
    model = random_clip(act, seed=7)
    tower = TextTower.of(model, Letters())
    sentences = tower.tokenize(NAMES)
    expected = model.get_text_features(sentences.ids).pooler_output
    agree(tower(sentences).pooled[0], expected)


def test_single_precision(model: CLIPModel) -> None:
    tower = TextTower.of(random_clip().float(), Letters())
    sentences = tower.tokenize(NAMES, slots=3)
    prompts = draw((3, 24), (3, 24))
    expected = plain_text(model, sentences, prompts)[0]
    found = tower(sentences, prompts).pooled
    assert found.dtype == torch.float32
    gradients = [torch.autograd.grad(o.double().square().sum(), prompts) for o in (found, expected)]
    agree(found.double(), expected, 1e-5)
    for a, b in zip(*gradients, strict=True):
        agree(a, b, 1e-5)


VISUAL = {
    "none": [],
    "shallow": [(2, 30)],
    "deep": [(2, 30)] * 3,
    "fewer later": [(3, 30), (1, 30)],
    "sets": [(2, 4, 30)] * 2,
    "per image": [(2, 5, 2, 30), (2, 30), (2, 2, 30)],
}


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("tokens", [False, True], ids=["pooled", "tokens"])
@pytest.mark.parametrize("case", VISUAL)
def test_vision_equals_the_plain_loop(model: CLIPModel, case: str, tokens: bool, checkpoint: bool) -> None:
    (pixels,), prompts = draw((5, 3, 12, 12), seed=2), draw(*VISUAL[case])
    tower = VisionTower.of(model)
    out = tower(pixels.detach(), prompts, tokens=tokens, checkpoint=checkpoint)
    pooled, everything = plain_vision(model, pixels.detach(), prompts)
    same((out.pooled, out.tokens), (pooled, everything if tokens else None), prompts)
    if tokens:
        assert out.tokens is not None
        assert out.tokens.shape[2] == 1 + tower.patches + (prompts[0].shape[-2] if prompts else 0)
    if not prompts:
        agree(out.pooled[0], model.get_image_features(pixels.detach()).pooler_output)


def test_the_embedded_pair() -> None:
    encoder = load_encoder("tiny")
    text, vision = TextTower(encoder), VisionTower(encoder)
    assert (text.width, text.depth, text.dim, text.context_length) == (128, 3, 128, 77)
    assert (vision.width, vision.depth, vision.dim, vision.patches) == (128, 4, 128, 16)
    words = ["a photo of a zebra.", "seven", "a drawing of the number four on paper"]
    sentences = text.tokenize(words)
    out = text(sentences)
    vectors = torch.nn.functional.normalize(out.pooled[0], dim=1)
    agree(vectors, encoder.encode_sentences(words), 1e-5)
    assert out.pooled.grad_fn is None
    pixels = torch.randn(3, 3, 32, 32)
    agree(vision(pixels).pooled[0], encoder.model.get_image_features(pixels).pooler_output, 1e-5)
    # A prompt that is the words themselves changes nothing.
    prompts = [text.words("a photo of a")]
    prompted = text(text.tokenize(["zebra.", "sea lion."], slots=len(prompts[0])), prompts)
    plain = text(text.tokenize(["a photo of a zebra.", "a photo of a sea lion."]))
    agree(prompted.pooled, plain.pooled, 1e-5)


def test_the_encoder_is_not_modified(model: CLIPModel) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    needed = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    tower, vision = TextTower.of(model, Letters()), VisionTower.of(model)
    prompts, visual = draw(*SHAPES["deep"]), draw(*VISUAL["deep"])
    texts = tower(tower.tokenize(NAMES, 3), prompts, tokens=True)
    images = vision(torch.zeros(2, 3, 12, 12, dtype=torch.float64), visual, tokens=True)
    (texts.tokens.sum() + images.tokens.sum()).backward()
    assert all(p.grad is not None for p in (*prompts, *visual))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert needed == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    tower.words("ab").zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nothing_trainable_no_graph(model: CLIPModel, tower: TextTower) -> None:
    prompts = [p.detach() for p in draw(*SHAPES["deep"])]
    out = tower(tower.tokenize(NAMES, 3), prompts, tokens=True)
    assert out.tokens is not None
    assert not out.pooled.requires_grad
    assert not out.tokens.requires_grad


def test_nothing_is_computed_twice_or_for_nothing(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[int, int]] = []

    def counting(block: TransformerBlock) -> Callable[..., Tensor]:
        def call(x: Tensor, **options: object) -> Tensor:
            result = block(x, **options)
            rows.append((x.shape[1], result.shape[1]))
            return result

        return call

    sentences = tower.tokenize(["abcd", "abce", "abcxyz"], slots=5)
    monkeypatch.setattr(tower, "_blocks", [counting(block) for block in tower._blocks])
    tower(sentences, draw((2, 5, 24)))
    row = 1 + 5 + 3 + (2 + 2 + 4)  # start, prompts, "abc"; then the rest and the end of each
    assert rows == [(row, row)] * 3 + [(row, 3)]
    rows.clear()
    tower(sentences, draw((1, 3, 5, 24), (1, 3, 5, 24)))
    own = 1 + (10 + 10 + 12)
    assert rows == [(own, own - 3 * 5), (own, own), (own, own), (own, 3)]


def test_end_states_are_those_on_entering_each_layer(model: CLIPModel, tower: TextTower) -> None:
    texts = ["abc", "abcdefg", "b"]
    states = tower.end_states(tower.tokenize(texts))
    assert states.shape == (4, 3, 24)
    for i, text in enumerate(texts):
        ids = torch.tensor(Letters()([text])["input_ids"])
        hidden = model.text_model(ids, output_hidden_states=True).hidden_states
        agree(states[:, i], torch.stack([h[0, -1] for h in hidden[:4]]).detach())


def test_sentences_are_cut_only_if_requested(tower: TextTower) -> None:
    found = tower.tokenize(["a" * 30, "b" * 18, "c"], cut=True)
    assert torch.equal(found.ids, tower.tokenize(["a" * 18, "b" * 18, "c"]).ids)
    assert found.ids[0, -1] == EOT
    assert tower.tokenize(["a" * 30], slots=4, cut=True).ids.shape == (1, CONTEXT)
    assert tower.tokenize(["a" * 16], slots=2).ids.shape == (1, 20)
    with pytest.raises(InputError, match=r"'a{17}' has 19 tokens .* with 2 prompt tokens 21, but the context holds 20"):
        tower.tokenize(["b", "a" * 17], slots=2)
    with pytest.raises(InputError, match="0 to 17 prompt tokens"):
        tower.tokenize(["b"], slots=18)
    for wrong in ("cat", []):
        with pytest.raises(InputError, match="list of sentences"):
            tower.tokenize(wrong)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 23)], r"text prompts of layer 0 as \(M, 24\).*got \(3, 23\)"),
        ([(3, 24), (2, 5, 3, 24)], r"layer 1 .*\(G, 6, M, 24\), got \(2, 5, 3, 24\)"),
        ([(3, 24)] * 5, "at most the 4 layers of the text tower, got 5"),
        ([(2, 24)], "Expected 3 text prompt tokens at layer 0.*got 2"),
        ([(3, 24), (4, 24)], "Expected at most 3 text prompt tokens at layer 1.*got 4"),
        ([(2, 3, 24), (4, 3, 24)], r"same number of prompt sets.*\[2, 4\]"),
        ([], "3 slots, but no prompts"),
    ],
)
def test_prompts_that_do_not_fit(tower: TextTower, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tower(tower.tokenize(NAMES, slots=3), draw(*shapes))


def test_other_arguments_that_do_not_fit(model: CLIPModel, tower: TextTower) -> None:
    sentences = tower.tokenize(NAMES, slots=3)
    with pytest.raises(InputError, match="sequence of prompts"):
        tower(sentences, torch.zeros(3, 24))
    with pytest.raises(InputError, match=r"attention bias of shape \(6, 15, 15\) or \(4, 6, 15, 15\)"):
        tower(sentences, draw((3, 24)), bias=torch.zeros(6, 20, 20))
    with pytest.raises(InputError, match="chunk"):
        tower(sentences, draw((3, 24)), chunk=0)
    vision = VisionTower.of(model)
    with pytest.raises(InputError, match=r"\(B, 3, 12, 12\), got \(2, 3, 16, 16\)"):
        vision(torch.zeros(2, 3, 16, 16))
    with pytest.raises(InputError, match="at most the 3 layers of the vision tower"):
        vision(torch.zeros(2, 3, 12, 12), draw(*[(1, 30)] * 4))


def test_encoders_without_such_a_tower() -> None:
    lacking = load_encoder("tiny-vision")
    with pytest.raises(InputError, match=r"'tiny-vision' .*which has no text tower"):
        TextTower(lacking)
    with pytest.raises(InputError, match="'tiny-vision'"):
        VisionTower(lacking)
    network = SimpleNamespace(config=SimpleNamespace(model_type="siglip"))
    siglip = SimpleNamespace(name="siglip", has_text=True, model=network)
    with pytest.raises(InputError, match=r"'siglip' .*whose text tower is not causal"):
        TextTower(siglip)


def updated_model(updates: dict[str, Tensor], dtype: torch.dtype = torch.float64) -> tuple[CLIPModel, list[Tensor]]:
    """A copy of the small network whose own weights are W + ΔW, and these weights."""
    model, changed = random_clip().to(dtype), []
    for name, update in updates.items():
        layer, part = name.split("_")
        weight = model.vision_model.encoder.layers[int(layer)].get_submodule(MAPS[part]).weight
        with torch.no_grad():
            weight += update
        changed.append(weight)
    return model, changed


def draw_updates(tower: VisionTower, names: list[str] | None = None) -> dict[str, Tensor]:
    shapes = {name: tuple(shape) for name, shape in tower.maps().items() if names is None or name in names}
    drawn = draw(*shapes.values(), seed=4)
    return {name: (0.3 * update).detach().requires_grad_() for name, update in zip(shapes, drawn, strict=True)}


@pytest.mark.parametrize("names", [None, ["0_q"], ["1_v"], ["2_q", "2_v", "0_k"], ["1_fc1", "2_out", "2_fc2"]], ids=str)
@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "recomputed"])
def test_updates_are_those_of_the_weights_with_gradients(
    model: CLIPModel, names: list[str] | None, checkpoint: bool
) -> None:
    tower = VisionTower.of(model)
    updates = draw_updates(tower, names)
    (pixels,) = draw((3, 3, 12, 12), seed=2)
    out = tower.with_updates(updates)(pixels.detach(), tokens=True, checkpoint=checkpoint)
    changed, weights = updated_model({name: update.detach() for name, update in updates.items()})
    expected = plain_vision(changed, pixels.detach(), [])
    generator = torch.Generator().manual_seed(5)
    towards = torch.randn(out.tokens.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad((out.tokens * towards).sum(), list(updates.values()))
    agree(out.pooled, expected[0])
    agree(out.tokens, expected[1])
    for a, b in zip(found, torch.autograd.grad((expected[1] * towards).sum(), weights), strict=True):
        agree(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_in_lower_precision(dtype: torch.dtype) -> None:
    updates = draw_updates(VisionTower.of(random_clip()))
    single = {name: update.detach().float() for name, update in updates.items()}
    changed, _ = updated_model(single, torch.float32)
    (pixels,) = draw((3, 3, 12, 12), seed=2)
    pixels = pixels.detach().float()
    out = VisionTower.of(random_clip().to(dtype)).with_updates(single)(pixels)
    assert out.pooled.dtype == dtype
    expected = changed.get_image_features(pixels).pooler_output
    agree(out.pooled[0].float(), expected, 1e-5 if dtype == torch.float32 else 0.1)


def test_updates_share_the_rest_and_go_with_norms_in_either_order(model: CLIPModel) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tower = VisionTower.of(model)
    (pixels,) = draw((2, 3, 12, 12), seed=2)
    plain = tower(pixels).pooled
    updates = draw_updates(tower, ["1_q", "2_fc2"])
    norms = {name: affine._replace(weight=1.5 * affine.weight) for name, affine in tower.norms().items()}
    both = tower.with_updates(updates).with_norms(norms)
    agree(both(pixels).pooled, tower.with_norms(norms).with_updates(updates)(pixels).pooled, 1e-14)
    assert not torch.allclose(both(pixels).pooled, tower.with_updates(updates)(pixels).pooled)
    assert torch.equal(tower(pixels).pooled, plain)
    assert tower.with_updates(updates)._blocks[0] is tower._blocks[0]
    assert tower.with_updates({})._blocks == tower._blocks
    both(pixels.detach()).pooled.sum().backward()
    assert all(update.grad is not None for update in updates.values())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_update_changes_no_bit(model: CLIPModel) -> None:
    tower = VisionTower.of(model)
    (pixels,) = draw((2, 3, 12, 12), seed=2)
    zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in tower.maps().items()}
    assert torch.equal(tower.with_updates(zeros)(pixels).pooled, tower(pixels).pooled)


def test_updates_that_do_not_fit(model: CLIPModel) -> None:
    tower = VisionTower.of(model)
    assert {name.split("_")[1] for name in tower.maps()} == set(MAPS)
    with pytest.raises(InputError, match="Unknown linear map '3_q'; did you mean"):
        tower.with_updates({"3_q": torch.zeros(30, 30)})
    with pytest.raises(InputError, match=r"'1_fc1' of shape \(36, 30\), got \(30, 36\)"):
        tower.with_updates({"1_fc1": torch.zeros(30, 36)})


def test_paths_beside_queries_keys_and_values_add_what_they_make(model: CLIPModel) -> None:
    """x ↦ ΔW x beside W is W + ΔW; also in the last layer, where only the class token asks."""
    tower = VisionTower.of(model)
    (pixels,) = draw((2, 3, 12, 12), seed=2)
    updates = draw_updates(tower, ["0_q", "2_q", "2_k", "1_v"])
    paths = {name: partial(torch.nn.functional.linear, weight=update) for name, update in updates.items()}
    for tokens in (False, True):
        beside, inside = tower.with_paths(paths)(pixels, tokens=tokens), tower.with_updates(updates)(pixels)
        agree(beside.pooled, inside.pooled, 1e-12)
    with pytest.raises(InputError, match="one beside '1_fc1'"):
        tower.with_paths({"1_fc1": paths["1_v"]})
    with pytest.raises(InputError, match="Unknown linear map '9_q'"):
        tower.with_paths({"9_q": paths["0_q"]})
