"""A small random CLIP of which every parameter matters, its towers, and those of the real size without its weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

import modalign as ma
from modalign.encoders.towers.vision_tower import TextTower, VisionTower
from modalign.methods.contract.tower import Towers

SCALE = 20.0
NAMES = ("cat", "old red fox", "dog", "very long thin green lizard")
WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "cat",
    "old",
    "red",
    "fox",
    "dog",
    "very",
    "long",
    "thin",
    "green",
    "lizard",
    ".",
    "x",
]
SOS, EOT = len(WORDS), len(WORDS) + 1


def tokenize(sentences: list[str]) -> dict[str, list[list[int]]]:
    """A token a word; the full stop is one."""
    rows = [[WORDS.index(w) for w in s.replace(".", " .").split()] for s in sentences]
    return {"input_ids": [[SOS, *row, EOT] for row in rows]}


def small_clip(seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    blocks = {"intermediate_size": 40, "hidden_act": "quick_gelu"}
    text = blocks | {
        "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": len(WORDS) + 2,
        "max_position_embeddings": 20, "eos_token_id": EOT, "bos_token_id": SOS, "pad_token_id": EOT,
    }  # fmt: skip
    vision = blocks | {
        "hidden_size": 30, "num_attention_heads": 5, "num_hidden_layers": 4, "image_size": 12, "patch_size": 4,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=18)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / (math.sqrt(parameter.shape[-1]) if parameter.ndim else 1))
    return model


def towers_of(model: CLIPModel) -> Towers:
    torch.manual_seed(5)
    vectors = torch.nn.functional.normalize(torch.randn(len(NAMES), 2, 18, dtype=torch.float64), dim=2)
    sentences = tuple((name, name) for name in NAMES)
    return Towers(TextTower.of(model, tokenize), VisionTower.of(model), NAMES, sentences, vectors, SCALE)


def vit_b16() -> Towers:
    """What prompts use of CLIP ViT-B/16: widths 512 and 768, 12 layers, 512 features. No layer can be run."""
    encoder = ma.load_encoder("tiny", cache=False)
    text, vision = (copy.copy(tower) for tower in (TextTower(encoder), VisionTower(encoder)))
    text._embedding = torch.zeros(len(text._embedding), 512)
    text.width, text.depth, text.dim = 512, 12, 512
    vision.width, vision.depth, vision.dim, vision.patches = 768, 12, 512, 196
    return Towers(text, vision, ("cat", "dog"), (("a cat.",), ("a dog.",)), torch.eye(2, 512)[:, None], 100.0)


def literal_text(model: CLIPModel, ids: list[int], prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """End-of-text vector and all tokens of one sentence under one prompt (b, w) a layer, by the layers of transformers.

    ``ids`` has the end-of-text token last and anything at the places 1 … b.
    """
    text = model.text_model
    x = text.embeddings.token_embedding(torch.tensor(ids))
    x = torch.cat([x[:1], prompts[0], x[1 + len(prompts[0]) :]]) + text.embeddings.position_embedding.weight[: len(ids)]
    mask = torch.full((len(ids), len(ids)), float("-inf"), dtype=x.dtype).triu(1)[None, None]
    for i, layer in enumerate(text.encoder.layers):
        if 0 < i < len(prompts):
            x = torch.cat([x[:1], prompts[i], x[1 + len(prompts[i]) :]])
        x = layer(x[None], mask)[0]
    x = model.text_projection(text.final_layer_norm(x))
    return x[-1], x


def literal_image(model: CLIPModel, pixels: Tensor, prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Class token and all other tokens of one image (3, H, W) under one prompt (b, w) a layer; () for none."""
    vision = model.vision_model
    x = vision.embeddings(pixels[None])[0]
    n = len(x)
    x = vision.pre_layrnorm(torch.cat([x, *prompts[:1]]))
    for i, layer in enumerate(vision.encoder.layers):
        if 0 < i < len(prompts):
            x = torch.cat([x[:n], prompts[i], x[n + len(prompts[i]) :]])
        x = layer(x[None], None)[0]
    x = model.visual_projection(vision.post_layernorm(x))
    return x[0], x[1:]
