"""CLIP-LoRA against its equation, in a copy of the network whose own weights are updated."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from small_clip import NAMES, SCALE, literal_image, literal_text, small_clip, tokenize, towers_of

from modalign.core.errors import InputError
from modalign.methods.prompts.clip_lora import CLIPLoRA, LowRankLearner
from modalign.tune.prompts import count_parameters

SINGLE = 1e-6 * SCALE  # scores are cosines in single precision


@pytest.fixture(scope="module")
def model():
    return small_clip()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def learner(model, **settings) -> LowRankLearner:
    """One whose B is not zero any more."""
    made = CLIPLoRA(**settings)._learner(towers_of(model), torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 3)
    return made


def updated(model, made: LowRankLearner, rank: int, alpha: float):
    """A copy of the network with W + α/√r B A in its own attention."""
    changed, towers = copy.deepcopy(model), {"image": "vision_model", "text": "text_model"}
    for side, name in towers.items():
        update = getattr(made, side)
        for layer, block in enumerate(getattr(changed, name).encoder.layers) if update is not None else ():
            for part in "qkv":
                A, B = (update[f"{layer}_{part}_{factor}"].detach() for factor in "AB")
                weight = block.self_attn.get_submodule(f"{part}_proj").weight
                weight.data += alpha / math.sqrt(rank) * B @ A
    return changed


@pytest.mark.parametrize(("rank", "alpha", "towers"), [(2, 1.0, "both"), (3, 0.5, "image"), (1, 2.0, "text")])
def test_scores_are_those_of_a_network_with_updated_weights(model, pixels, rank, alpha, towers) -> None:
    made = learner(model, rank=rank, alpha=alpha, towers=towers).eval()
    changed = updated(model, made, rank, alpha)
    nothing = torch.zeros(0, 24, dtype=torch.float64)
    with torch.no_grad():
        found = made.scores(pixels, made.classes()).numpy()
        for i, image in enumerate(pixels):
            z, _ = literal_image(changed, image, [])
            for k, name in enumerate(NAMES):
                t, _ = literal_text(changed, tokenize([f"a photo of a {name}."])["input_ids"][0], [nothing])
                assert found[i, k] == pytest.approx(SCALE * (z @ t / z.norm() / t.norm()).item(), abs=SINGLE)


def test_training_without_dropout_has_the_inputs_of_prediction(model, pixels) -> None:
    made = learner(model, dropout=0.0).train()
    learning = made.scores(pixels, made.classes())
    assert torch.equal(learning, made.eval().scores(pixels, made.classes()))


def test_dropout_of_the_inputs_changes_training_and_not_its_mean_path(model) -> None:
    """Scaled by 1 / (1 − p), inputs under dropout have the mean of inputs without, and so has B A x."""
    made = learner(model, dropout=0.25, towers="image").train()
    x = torch.randn(1, 1, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.manual_seed(0)
    drawn = torch.stack([made.image._path("0_v", 0.25, x) for _ in range(4000)])
    exact = x @ made.image.updates()["0_v"].T
    error = drawn.std(dim=0) / math.sqrt(len(drawn))
    assert (drawn.std(dim=0) > 0).all()
    assert ((drawn.mean(dim=0) - exact).abs() < 5 * error).all()


def test_it_starts_at_zero_shot(model, pixels) -> None:
    made = CLIPLoRA()._learner(towers_of(model), torch.Generator().manual_seed(2)).double().train()
    frozen = made.towers.vision(pixels).pooled[0], made.towers.text(made.sentences).pooled[0]
    z, t = (v / v.norm(dim=1, keepdim=True) for v in frozen)
    torch.testing.assert_close(made.scores(pixels, made.classes()).double(), SCALE * z @ t.T, rtol=0, atol=SINGLE)


def test_gradients_reach_both_towers_and_nothing_else(model, pixels) -> None:
    made = learner(model).train()
    made.scores(pixels, made.classes()).logsumexp(dim=1).sum().backward()
    # 4 layers of width 30 and 3 of width 24; A and B of rank 2 beside queries, keys and values
    assert count_parameters(made) == 2 * 3 * 2 * (4 * 30 + 3 * 24)
    assert all(float(p.grad.abs().max()) > 0 for p in made.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_the_number_of_updates_grows_with_the_shots_alone() -> None:
    """500 for every image per class, in whole passes; batches and classes change the number of passes only."""
    for shots, classes, batch in ((1, 10, 32), (16, 100, 32), (4, 7, 5), (2, 3, 100)):
        labels = np.repeat(np.arange(classes), shots)
        recipe = CLIPLoRA(batch_size=batch)._recipe(labels)
        steps, per_epoch = recipe.epochs * recipe.steps_per_epoch(len(labels)), recipe.steps_per_epoch(len(labels))
        assert 500 * shots <= steps < 500 * shots + per_epoch
    assert CLIPLoRA(epochs=3)._recipe(np.arange(10)).epochs == 3


def test_a_template_names_the_class(model) -> None:
    with pytest.raises(InputError, match=r"template with \{\} for the name"):
        CLIPLoRA(template="a photo.")._learner(towers_of(model), torch.Generator())


def test_maps_that_there_are_not_are_refused(model) -> None:
    for maps, sentence in (("", "different names"), ("qq", "different names"), ("qx", "maps 'x'")):
        with pytest.raises(InputError, match=sentence):
            CLIPLoRA(maps=maps)._learner(towers_of(model), torch.Generator())
