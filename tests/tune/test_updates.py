"""LoRA against its formula and peft's own model, K-Adaptation against a loop over Kronecker products."""

from __future__ import annotations

import math

import pytest
import torch
from small_vision import DEPTH, WIDTH, add, pictures, small_clip, vit_b32

from modalign.core.errors import InputError
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.tune.prompts import count_parameters
from modalign.tune.updates import KAdaptation, LoRA

PEFT_NAMES = {  # of the maps in a layer of ``transformers``' CLIP
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
ALL = tuple(PEFT_NAMES)


def drawn(module, seed=4):
    """With random numbers in every parameter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.values():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return module


def vision_features(model):
    with torch.no_grad():
        return model.get_image_features(pictures()).pooler_output


@pytest.mark.parametrize("maps", [("q", "v"), ALL])
@pytest.mark.parametrize(("rank", "alpha"), [(4, None), (3, 12.0)])
def test_lora_is_its_formula_in_the_weights(rank, alpha, maps):
    model = small_clip()
    module = drawn(LoRA(VisionTower.of(model), rank=rank, alpha=alpha, maps=maps, start=False))
    updates = {}
    for name in [f"{layer}_{part}" for layer in range(DEPTH) for part in maps]:
        A, B = module[f"{name}_A"].detach(), module[f"{name}_B"].detach()
        assert len(A) == rank == B.shape[1]
        rows = [[sum(B[i, r] * A[r, j] for r in range(rank)) for j in range(3)] for i in range(3)]
        updates[name] = (1.0 if alpha is None else alpha / rank) * (B @ A)
        corner = (1.0 if alpha is None else alpha / rank) * torch.stack([torch.stack(row) for row in rows])
        torch.testing.assert_close(updates[name][:3, :3], corner, rtol=1e-5, atol=1e-6)
    assert module.updates().keys() == updates.keys()
    there = module.tower(VisionTower.of(model))(pictures()).pooled[0].detach()
    torch.testing.assert_close(there, vision_features(add(model, updates)), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("maps", [("q", "v"), ALL])
def test_lora_is_what_peft_makes_of_a_copy_of_the_model(maps):
    peft = pytest.importorskip("peft", reason="LoRA is the extra lora")
    vision = VisionTower.of(small_clip())
    module = drawn(LoRA(vision, rank=3, alpha=6.0, maps=maps, start=False))
    configuration = peft.LoraConfig(
        r=3,
        lora_alpha=6.0,
        target_modules=rf"vision_model\.encoder\.layers\.\d+\.({'|'.join(PEFT_NAMES[part] for part in maps)})",
    )
    weights = {}
    for key, value in module.items():
        layer, part, factor = key.split("_")
        path = f"base_model.model.vision_model.encoder.layers.{layer}.{PEFT_NAMES[part]}.lora_{factor}.weight"
        weights[path] = value.detach()
    theirs = peft.get_peft_model(small_clip(), configuration).eval()
    assert set(peft.get_peft_model_state_dict(theirs)) == set(weights)
    peft.set_peft_model_state_dict(theirs, weights)
    with torch.no_grad():
        there = theirs.get_image_features(pictures()).pooler_output
    torch.testing.assert_close(module.tower(vision)(pictures()).pooled[0].detach(), there, rtol=1e-5, atol=2e-5)
    deltas = {
        name: theirs.base_model.model.vision_model.encoder.layers[int(name[0])]
        .get_submodule({"q": "self_attn.q_proj", "v": "self_attn.v_proj"}[name[2]])
        .get_delta_weight("default")
        for name in ("0_q", "2_v")
    }
    for name, delta in deltas.items():
        torch.testing.assert_close(module.updates()[name], delta)


def test_lora_starts_as_in_its_paper():
    pytest.importorskip("peft", reason="LoRA is the extra lora")
    module = LoRA(VisionTower.of(small_clip()), rank=8, generator=torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(WIDTH)
    for key, value in module.items():
        assert value.dtype == torch.float32
        assert value.requires_grad
        if key.endswith("_B"):
            assert not value.any()
        else:
            assert bool((value.abs() <= bound).all())
            assert float(value.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert not torch.equal(module["0_q_A"], module["0_v_A"])


@pytest.mark.parametrize("maps", [("q", "v"), ("k", "fc1", "fc2")])
@pytest.mark.parametrize(("n", "rank"), [(4, 1), (8, 3), (1, 2), (32, 1)])
def test_k_adaptation_is_a_sum_of_kronecker_products(n, rank, maps):
    model = small_clip()
    module = drawn(KAdaptation(VisionTower.of(model), n=n, rank=rank, scale=1.7, maps=maps))
    found, updates = module.updates(), {}
    for part in maps:
        s, t = module[f"{part}_slow_left"], module[f"{part}_slow_right"]
        u, v = module[f"{part}_fast_left"], module[f"{part}_fast_right"]
        for layer in range(DEPTH):
            terms = [torch.kron(torch.outer(s[i], t[i]), u[layer, i] @ v[layer, i].T) for i in range(n)]
            updates[f"{layer}_{part}"] = 1.7 * torch.stack(terms).sum(dim=0).detach()
    assert found.keys() == updates.keys()
    for name, expected in updates.items():
        torch.testing.assert_close(found[name].detach(), expected, rtol=1e-5, atol=1e-5)
        assert torch.linalg.matrix_rank(expected.double(), rtol=1e-5) <= n * rank
    there = module.tower(VisionTower.of(model))(pictures()).pooled[0].detach()
    torch.testing.assert_close(there, vision_features(add(model, updates)), rtol=1e-4, atol=1e-4)


def test_slow_weights_are_shared_by_layers_and_fast_ones_are_not():
    module = drawn(KAdaptation(VisionTower.of(small_clip()), n=4))
    before = module.updates()
    with torch.no_grad():
        module["q_fast_left"][1] += 1
    after = module.updates()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["1_q"]
    with torch.no_grad():
        module["v_slow_right"][0] += 1
    last = module.updates()
    assert [name for name in after if not torch.equal(after[name], last[name])] == [f"{i}_v" for i in range(DEPTH)]


def test_k_adaptation_starts_where_gradients_flow():
    module = KAdaptation(VisionTower.of(small_clip()), n=4, generator=torch.Generator().manual_seed(0))
    for part in "qv":
        assert not module[f"{part}_fast_right"].any()
        for side in ("left", "right"):
            assert 0.005 < module[f"{part}_slow_{side}"].abs().max() <= 0.01
        bound = math.sqrt(2) * math.sqrt(6 / (WIDTH / 4 + 1))
        assert 0.8 * bound < module[f"{part}_fast_left"].abs().max() <= bound


def test_counts_of_published_comparisons():
    """PEViT reports 176,979 and 79,699 numbers with classifiers of 29,523 on average, its K-Adaptation with biases."""
    vision = VisionTower.of(vit_b32())
    assert count_parameters(LoRA(vision, rank=4, start=False)) == 176_979 - 29_523
    assert count_parameters(KAdaptation(vision)) + 12 * 768 == 79_699 - 29_523
    assert count_parameters(LoRA(vision, rank=2, maps=ALL, start=False)) == 12 * 2 * (4 * 2 * 768 + 2 * 5 * 768)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda vision: LoRA(vision, rank=0), "rank to be an integer from 1 to 32, got 0"),
        (lambda vision: LoRA(vision, rank=True), "rank to be an integer from 1 to 32, got True"),
        (lambda vision: LoRA(vision, rank=33), "rank to be an integer from 1 to 32, got 33"),
        (lambda vision: LoRA(vision, alpha=0.0), "alpha of LoRA above 0, got 0.0"),
        (lambda vision: LoRA(vision, alpha=math.nan), "alpha of LoRA above 0, got nan"),
        (lambda vision: LoRA(vision, maps=()), r"different names such as \('q', 'v'\), got \(\)"),
        (lambda vision: LoRA(vision, maps="qv"), "different names .* got 'qv'"),
        (lambda vision: LoRA(vision, maps=("q", "q")), "different names"),
        (lambda vision: LoRA(vision, maps=("fc3",)), "Unknown value of maps 'fc3'; did you mean 'fc"),
        (lambda vision: KAdaptation(vision, n=5), "n of K-Adaptation to divide the width 32 of the tower, got 5"),
        (lambda vision: KAdaptation(vision, n=0), "n of K-Adaptation to divide the width 32 of the tower, got 0"),
        (lambda vision: KAdaptation(vision, n=8, rank=5), "rank to be an integer from 1 to 4, got 5"),
        (lambda vision: KAdaptation(vision, scale=-1.0), "scale of K-Adaptation above 0, got -1.0"),
    ],
)
def test_options_that_do_not_fit(make, message):
    with pytest.raises(InputError, match=message):
        make(VisionTower.of(small_clip()))
