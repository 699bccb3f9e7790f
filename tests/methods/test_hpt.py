"""Hierarchical prompts against transformers' own layers, a class and a token row at a time, and by their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel
from word_clip import (
    DESCRIPTIONS,
    EOT,
    GRAPHS,
    NAMES,
    SOS,
    Words,
    graph,
    literal_text,
    structures,
    word_clip,
    word_towers,
)

from modalign.encoders.towers.vision_tower import TextTower, VisionTower
from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Towers
from modalign.methods.dam.dam import DAM
from modalign.methods.dam.hierarchical_text import HierarchicalText
from modalign.methods.dam.hpt import HPT
from modalign.tune.prompts import accounting, count_parameters
from modalign.tune.topology import read_topology


def text_side(towers: Towers, file: str | None, **options: int) -> HierarchicalText:
    """A text side in float64 of which all parameters matter."""
    topology = read_topology(file, towers.text, towers.class_names, sum(options.values()))
    draws = torch.Generator().manual_seed(1)
    made = HierarchicalText(towers.text, topology, towers.sentences, **options, generator=draws).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws).double()
    return made


@pytest.mark.parametrize("options", [(2, 3), (1, 1)])
def test_features_are_those_of_a_literal_loop(options: tuple[int, int], tmp_path: Path) -> None:
    model, words = word_clip(), Words()
    towers = word_towers(model, NAMES, DESCRIPTIONS, words)
    made = text_side(towers, structures(tmp_path), global_prompts=options[0], instance_prompts=options[1])
    found = made(torch.tensor([1, 1, 0]))
    picked = [GRAPHS["cat"][1], GRAPHS["polar bear"][1], GRAPHS["owl"][0]]
    expected = [literal_text(model, words, made, *row) for row in zip(NAMES, DESCRIPTIONS, picked, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-9)
    wanted = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).double()
    parameters = list(made.parameters())
    gradients = torch.autograd.grad((found * wanted).sum(), parameters)
    by_hand = torch.autograd.grad((torch.stack(expected) * wanted).sum(), parameters)
    for one, other in zip(gradients, by_hand, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_the_mean_is_over_the_unit_features_of_all_graphs(tmp_path: Path) -> None:
    towers = word_towers(word_clip(), NAMES, DESCRIPTIONS)
    made = text_side(towers, structures(tmp_path), global_prompts=2, instance_prompts=3)
    assert made.graphs == 2
    torch.testing.assert_close(made.mean(), unit(unit(made(0)) + unit(made(torch.ones(3, dtype=torch.long)))))
    assert not made.mean().requires_grad
    torch.testing.assert_close(made(1, chunk=2), made(1))


def test_relations_do_nothing_at_the_start_and_something_later(tmp_path: Path) -> None:
    towers = word_towers(word_clip(), NAMES, DESCRIPTIONS)
    steered = text_side(towers, structures(tmp_path), global_prompts=2, instance_prompts=3)
    blind = {name: [graph(g["Entities"], g["Attributes"], []) for g in own] for name, own in GRAPHS.items()}
    plain = text_side(towers, structures(tmp_path, blind), global_prompts=2, instance_prompts=3)
    with torch.no_grad():
        steered.relation_scales.zero_()
        torch.testing.assert_close(steered(0), plain(0))
        steered.relation_scales.fill_(5.0)
        assert (steered(0) - plain(0)).abs().max() > 1e-3


def test_without_graphs_nothing_of_the_relations_is_trained() -> None:
    towers = word_towers(word_clip(), NAMES, DESCRIPTIONS)
    made = text_side(towers, None, global_prompts=2, instance_prompts=3)
    assert made.graphs == 1
    assert "relation_scales" not in accounting(made)
    torch.testing.assert_close(made.mean(), unit(made(0)))


def clip_on_paper(**text: int) -> CLIPModel:
    """Shapes without numbers, on the device ``meta``."""
    with torch.device("meta"):
        return CLIPModel(CLIPConfig(text_config=text, vision_config={"patch_size": 16}, projection_dim=512))


@pytest.mark.parametrize(("n_global", "expected"), [(2, 295_960), (4, 295_960 + 12 * 2 * 512)])
def test_trainable_numbers_of_vit_b_16(n_global: int, expected: int, tmp_path: Path) -> None:
    model = clip_on_paper(vocab_size=SOS + 2, eos_token_id=EOT)
    vectors = unit(torch.randn(3, 5, 512))
    sentences = tuple(tuple(f"{own[0]} {i}" for i in range(5)) for own in DESCRIPTIONS)
    towers = Towers(TextTower.of(model, Words()), VisionTower.of(model), tuple(NAMES), sentences, vectors, 100.0)
    method = DAM(structures=structures(tmp_path), global_prompts=n_global)
    learner = method._learner(towers, torch.Generator().manual_seed(0))
    assert count_parameters(learner.visual) + count_parameters(learner.text) == expected
    assert count_parameters(learner.alignment) == 11
    assert count_parameters(learner) == expected + 11
    alone = HPT(structures=method.structures, global_prompts=n_global)
    assert count_parameters(alone._learner(towers, torch.Generator().manual_seed(0))) == expected
    n_v, v, w, depth = 2, 768, 512, 12
    formula = depth * n_v * v + (depth - 1) * n_global * w + (n_global + 5) * w + w * w + w + 2 * depth
    assert formula == expected
