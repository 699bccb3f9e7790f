"""A CLIP of random numbers and a few layers, in float64, that reads any words: what literal loops can follow."""

from __future__ import annotations

import math
import re

import torch
from transformers import CLIPConfig, CLIPModel

from modalign.encoders.towers import TextTower, VisionTower
from modalign.linalg.similarity import unit
from modalign.methods.tower import Towers

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
