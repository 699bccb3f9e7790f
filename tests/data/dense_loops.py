"""Dense features by loops over tokens and heads, on the modules of transformers; and the small networks they run on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

Matrix = list[list[float]]


def small_model(depth: int = 4, width: int = 24, heads: int = 3, side: int = 32, seed: int = 0) -> CLIPModel:
    """A CLIP with patches of 8 pixels of which every parameter matters, in float64."""
    torch.manual_seed(seed)
    text = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 9}
    vision = {
        "hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": heads, "num_hidden_layers": depth,
        "image_size": side, "patch_size": 8, "hidden_act": "quick_gelu",
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / (math.sqrt(parameter.shape[-1]) if parameter.ndim else 1))
    return model


def hidden_states(model: CLIPModel, pixels: Tensor) -> list[Tensor]:
    """h_0 … h_{L−1} of one image, (1 + n, w), by the layers of transformers; h_l leaves layer l."""
    vision = model.vision_model
    x = vision.pre_layrnorm(vision.embeddings(pixels[None], interpolate_pos_encoding=True))
    states = [x[0]]
    for layer in vision.encoder.layers[:-1]:
        x = layer(x, None)
        states.append(x[0])
    return states


def heads_of(model: CLIPModel, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Unscaled (q, k, v) of each head of the last layer for rows x."""
    layer = model.vision_model.encoder.layers[-1]
    u, attention = layer.layer_norm1(x), layer.self_attn
    e = attention.head_dim
    q, k, v = attention.q_proj(u), attention.k_proj(u), attention.v_proj(u)
    return [tuple(t[:, h * e : (h + 1) * e] for t in (q, k, v)) for h in range(attention.num_heads)]


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    return [weight / sum(weights) for weight in weights]


def self_scores(a: Tensor, b: Tensor) -> Matrix:
    """softmax of a_i · b_j / √e, entry by entry."""
    scale = math.sqrt(a.shape[1])
    return [softmax([float(a[i] @ b[j]) / scale for j in range(len(b))]) for i in range(len(a))]


def attention_of(kind: str, q: Tensor, k: Tensor) -> Matrix:
    if kind in ("maskclip", "maskclip-residual"):
        return torch.eye(len(q)).tolist()
    if kind == "clip":
        return self_scores(q, k)
    if kind == "clearclip":
        return self_scores(q, q)
    first, second = self_scores(q, q), self_scores(k, k)
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(first, second, strict=True)]


def mixed(attentions: list[Matrix], model: CLIPModel, x: Tensor) -> Tensor:
    """O of the concatenated heads A v."""
    out = [torch.tensor(A, dtype=v.dtype) @ v for A, (_, _, v) in zip(attentions, heads_of(model, x), strict=True)]
    return model.vision_model.encoder.layers[-1].self_attn.out_proj(torch.cat(out, dim=1))


def finished(model: CLIPModel, x: Tensor) -> Tensor:
    return model.visual_projection(model.vision_model.post_layernorm(x))


def last_layer_features(model: CLIPModel, pixels: Tensor, kind: str) -> Tensor:
    """(n, d) features of one image for a change of the last layer alone."""
    layer, x = model.vision_model.encoder.layers[-1], hidden_states(model, pixels)[-1]
    y = mixed([attention_of(kind, q, k) for q, k, _ in heads_of(model, x)], model, x)
    if kind in ("clip", "sclip", "maskclip-residual"):
        y = x + y
        y = y + layer.mlp(layer.layer_norm2(y))
    return finished(model, y)[1:]


def cosine_matrix(X: Tensor) -> Matrix:
    unit = [row / row.norm() for row in X]
    return [[float(a @ b) for b in unit] for a in unit]


def proxy_shares(S: Matrix, gamma: float, beta: float) -> Matrix:
    n = len(S)
    mean = sum(map(sum, S)) / n**2
    M = [[gamma * (S[i][j] - beta * mean) for j in range(n)] for i in range(n)]
    return [softmax([M[i][j] if M[i][j] >= 0 or i == j else -math.inf for j in range(n)]) for i in range(n)]


def aggregate(S: Matrix, X: Tensor, beta: float) -> Tensor:
    rows = []
    for similar in S:
        kept = [s if s >= beta else 0.0 for s in similar]
        rows.append(sum(s / (sum(kept) + 1e-6) * x for s, x in zip(kept, X, strict=True)))
    return torch.stack(rows)


def outlying(X: Tensor, neighbors: int, contamination: float) -> list[bool]:
    """The published factor: mean over the neighbors j of d_i/d_j."""
    n = len(X)
    D = [[float(((X[i] - X[j]) ** 2).sum()) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=D[i].__getitem__)[:neighbors] for i in range(n)]
    d = [max(D[i][j] for j in near[i]) for i in range(n)]
    lof = torch.tensor([sum(d[i] / d[j] for j in near[i]) / len(near[i]) for i in range(n)], dtype=torch.float64)
    return (lof > lof.quantile(1 - contamination)).tolist()


def repair(X: Tensor, flagged: list[bool], columns: int) -> Tensor:
    rows, out = len(X) // columns, X.clone()
    for i, bad in enumerate(flagged):
        r, c = divmod(i, columns)
        around = [(a, b) for a in (r - 1, r, r + 1) for b in (c - 1, c, c + 1) if 0 <= a < rows and 0 <= b < columns]
        sound = [X[a * columns + b] for a, b in around if (a, b) != (r, c) and not flagged[a * columns + b]]
        if bad and sound:
            out[i] = sum(sound) / len(sound)
    return out


def calibrated_features(model: CLIPModel, pixels: Tensor, layers: tuple[int, int, tuple[int, int]], c: Any) -> Tensor:
    """(n, d) features of SC-CLIP for one image, step by step."""
    mid, post, (first, final) = layers
    h, columns = hidden_states(model, pixels), pixels.shape[2] // 8
    cls, X = h[-1][0], h[-1][1:]
    flagged = outlying(X, min(c.neighbors, len(X) - 1), c.contamination) if c.lof != "none" else [False] * len(X)
    X = repair(X, flagged, columns)
    S_mid = cosine_matrix(repair(h[mid][1:], flagged, columns))
    S_post = cosine_matrix(h[post][1:])
    proxy = proxy_shares(S_mid, c.sharpness, 1.0)

    def attend(rows: Tensor, class_token: Tensor) -> Tensor:
        both = []
        for _, k, _ in heads_of(model, rows):
            own = self_scores(k, k)
            both.append([[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(proxy, own, strict=True)])
        return aggregate(S_post, mixed(both, model, rows) + c.class_weight * class_token, c.beta)

    X = attend(aggregate(S_mid, X, c.beta), cls)
    if c.second_pass:
        F = sum(h[layer] for layer in range(first, final + 1))
        X = X + attend(F[1:], F[0])
    return finished(model, X)
