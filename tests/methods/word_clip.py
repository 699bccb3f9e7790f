"""A CLIP of random numbers and a few layers, in float64, that reads any words: what literal loops can follow."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from modalign.encoders.towers.vision_tower import TextTower, VisionTower
from modalign.linalg.similarity import unit
from modalign.methods.contract.tower import Towers

CONTEXT, SOS, EOT, DIM = 40, 198, 199, 10
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": EOT + 1,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": EOT,
}
VISION = {
    "hidden_size": 30,
    "intermediate_size": 36,
    "num_attention_heads": 5,
    "num_hidden_layers": 4,
    "image_size": 12,
    "patch_size": 4,
}


NAMES = ["cat", "polar_bear", "owl"]
DESCRIPTIONS = [["a cat has fur", "cats purr"], ["white fur and big paws"], ["an owl hoots", "at night", "it sees"]]


def graph(entities: list[str], attributes: list[str], of: list[tuple[str, str]]) -> dict:
    return {
        "Entities": entities,
        "Attributes": attributes,
        "Entity-to-Entity Relationships": [
            {"entity1": a, "relationship": "has", "entity2": b} for a, b in of if b in entities
        ],
        "Entity-to-Attribute Relationships": [
            {"entity": a, "relationship": "is", "attribute": b} for a, b in of if b in attributes
        ],
    }


GRAPHS = {
    "cat": [graph(["cat", "long tail"], ["soft"], [("cat", "long tail"), ("cat", "soft")])] * 2,
    "polar bear": [
        graph(["paws"], ["big", "white"], [("paws", "big"), ("polar bear", "white")]),
        graph(["ice"], ["cold"], [("polar bear", "ice"), ("ice", "cold")]),
    ],
    "owl": [graph(["wing"], ["quiet"], [("owl", "wing"), ("wing", "quiet")]), graph([], ["old"], [("owl", "old")])],
}


def structures(folder: Path, graphs: dict = GRAPHS) -> str:
    file = folder / "structures.json"
    file.write_text(json.dumps(graphs), encoding="utf-8")
    return str(file)


class Words:
    """A tokenizer of one token a word or sign, numbered as they come, whatever their case."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, sentences: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[SOS, *map(self.number, re.findall(r"\w+|[^\w\s]", s.lower())), EOT] for s in sentences]}

    def number(self, word: str) -> int:
        assert len(self.numbers) < SOS
        return self.numbers.setdefault(word, len(self.numbers))


def word_clip(seed: int = 0) -> CLIPModel:
    """Every parameter of it matters: biases and layer norms are random too."""
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=DIM)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (1 / math.sqrt(parameter.shape[-1]) if parameter.ndim else 1))
    return model


def word_towers(model: CLIPModel, names: list[str], sentences: list[list[str]], words: Words | None = None) -> Towers:
    """Towers for a learner, with class text of random directions."""
    most = max(map(len, sentences))
    vectors = unit(torch.randn(len(names), most, DIM, generator=torch.Generator().manual_seed(5)).double())
    for c, own in enumerate(sentences):
        vectors[c, len(own) :] = 0
    text = TextTower.of(model, words or Words())
    return Towers(text, VisionTower.of(model), tuple(names), tuple(map(tuple, sentences)), vectors, 100.0)


def literal_text(model: CLIPModel, words: Words, made: nn.Module, name: str, own: list[str], chosen: dict) -> Tensor:
    """One class under one graph: positions one after the other, layers of transformers, the whole context."""
    value, text = dict(made.named_parameters()), model.text_model
    wanted = len(value["first.layers.0"])
    n_global = len(value["later.layers.0"])
    states = []
    for j in range(wanted - n_global):
        ids = torch.tensor(words([own[j % len(own)]])["input_ids"])
        states.append([h[0, -1] for h in text(ids, output_hidden_states=True).hidden_states])

    nodes, row, place = [name.replace("_", " ")], [SOS] + [SOS] * wanted, {}
    nodes += [node for node in chosen["Entities"] + chosen["Attributes"] if node not in nodes]
    for i, node in enumerate(nodes):
        row += [words.number(",")] if i else []
        place[node] = list(range(len(row), len(row) + len(node.split())))
        row += [words.number(word) for word in node.split()]
    row += [words.number("."), EOT]
    end = len(row) - 1
    x = text.embeddings.token_embedding(torch.tensor(row + [EOT] * (CONTEXT - len(row))))
    A, b = value["instance_map.weight"], value["instance_map.bias"]
    for layer, block in enumerate(text.encoder.layers):
        if layer == 0:
            x = torch.cat([x[:1], value["first.layers.0"], x[1 + wanted :]]) + text.embeddings.position_embedding.weight
        else:
            instance = torch.stack([h[layer] + A @ h[layer] + b for h in states])
            x = torch.cat([x[:1], value[f"later.layers.{layer - 1}"], instance, x[1 + wanted :]])
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).double().triu(1)
        for kind, (key, one, other) in enumerate(
            [("Entity-to-Entity", "entity1", "entity2"), ("Entity-to-Attribute", "entity", "attribute")]
        ):
            for relation in chosen[f"{key} Relationships"]:
                for s in place[relation[one]]:
                    for t in place[relation[other]]:
                        mask[s, t] = mask[s, t] + value["relation_scales"][kind, layer]
                        mask[t, s] = mask[t, s] + value["relation_scales"][kind, layer]
        x = block(x[None], mask[None, None])[0]
    return model.text_projection(text.final_layer_norm(x))[end]


def literal_image(model: CLIPModel, pixels: Tensor, prompts: list[Tensor]) -> Tensor:
    """One picture (3, H, W) with prompts after its patches in every layer; without prompts the frozen tower."""
    vision = model.vision_model
    x = vision.embeddings(pixels[None])[0]
    patches = len(x)
    for layer, block in enumerate(vision.encoder.layers):
        x = torch.cat([x[:patches], *prompts[layer : layer + 1]])
        x = block(vision.pre_layrnorm(x)[None] if layer == 0 else x[None], None)[0]
    return model.visual_projection(vision.post_layernorm(x[0]))
