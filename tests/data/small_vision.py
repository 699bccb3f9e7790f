"""A small random CLIP of which every parameter matters, in single precision, and one of ViT-B/32's shapes only."""

from __future__ import annotations

import math

import torch
from transformers import CLIPConfig, CLIPModel

WIDTH, DEPTH = 32, 3
MAPS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def small_clip(seed=0):
    torch.manual_seed(seed)
    size = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": DEPTH}
    text = size | {"vocab_size": 20, "max_position_embeddings": 8}
    vision = size | {"image_size": 12, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=18)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / (math.sqrt(parameter.shape[-1]) if parameter.ndim else 1))
    return model


def vit_b32():
    """Without numbers: nothing of it can be run."""
    with torch.device("meta"):
        return CLIPModel(CLIPConfig(text_config={"num_hidden_layers": 1}, vision_config={"patch_size": 32}))


def pictures(seed=3, count=5):
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def add(model, updates):
    """Change the weights of ``model`` in place: W + ΔW."""
    with torch.no_grad():
        for name, update in updates.items():
            layer, part = name.split("_")
            model.vision_model.encoder.layers[int(layer)].get_submodule(MAPS[part]).weight += update
    return model
