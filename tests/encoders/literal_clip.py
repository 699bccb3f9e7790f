"""CLIP as its paper describes it, in plain ``torch.nn``, and checkpoints of it in the layout of open_clip.

Every step is written out: batch norms by themselves, attention pooling position by position, all 77 positions of a
sentence. The names of the parameters are those of the checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from checkpoints import TINY
from safetensors.torch import save_file
from torch import nn

VOCABULARY, WIDTH, HEADS, CONTEXT, DIM = 789, 32, 2, 77, 24  # the first is that of the tokenizer of "tiny"
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": WIDTH, "heads": HEADS, "layers": 2}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "patch_size": None}
VIT = {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16}
PIXELS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
CONFIGS = {
    "resnet": {"embed_dim": DIM, "quick_gelu": True, "vision_cfg": RESNET, "text_cfg": TEXT},
    "vit": {"embed_dim": DIM, "vision_cfg": VIT, "text_cfg": TEXT},
    "vit-quickgelu": {"embed_dim": DIM, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
}


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, quick):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        act = QuickGELU() if quick else nn.GELU()
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), act=act, c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x, mask=None):
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, heads, layers, quick):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, quick) for _ in range(layers))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VisionTransformer(nn.Module):
    def __init__(self, image_size, layers, width, patch_size, quick):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((image_size // patch_size) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, width // 64, layers, quick)
        self.proj = nn.Parameter(torch.zeros(width, DIM))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class Residual(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
        self.pool = nn.AvgPool2d(stride)
        if stride != 1 or inputs != 4 * channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
            )
        else:
            self.downsample = None

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        h = torch.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(self.pool(h)))
        return torch.relu(h + (x if self.downsample is None else self.downsample(self.pool(x))))


class AttentionPooling(nn.Module):
    def __init__(self, side, width):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(side * side + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        self.c_proj = nn.Linear(width, DIM)

    def one(self, picture, asking=0):
        """The answer at one place for a map (width, S, S): 0 is the mean, then the positions row by row."""
        width, rows, columns = picture.shape
        tokens = [sum(picture[:, i, j] for i in range(rows) for j in range(columns)) / (rows * columns)]
        tokens += [picture[:, i, j] for i in range(rows) for j in range(columns)]
        tokens = [token + position for token, position in zip(tokens, self.positional_embedding, strict=True)]
        query = self.q_proj(tokens[asking])
        answer = []
        for part in torch.arange(width).split(64):  # a head has 64 numbers
            scores = torch.stack([query[part] @ self.k_proj(token)[part] / 8 for token in tokens])
            weights = scores.exp() / scores.exp().sum()
            answer.append(sum(w * self.v_proj(token)[part] for w, token in zip(weights, tokens, strict=True)))
        return self.c_proj(torch.cat(answer))

    def forward(self, x):
        return torch.stack([self.one(picture) for picture in x])


class ModifiedResNet(nn.Module):
    def __init__(self, image_size, layers, width, patch_size):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.layer1 = self.stage(width, width, layers[0], 1)
        self.layer2 = self.stage(4 * width, 2 * width, layers[1], 2)
        self.layer3 = self.stage(8 * width, 4 * width, layers[2], 2)
        self.layer4 = self.stage(16 * width, 8 * width, layers[3], 2)
        self.attnpool = AttentionPooling(image_size // 32, 32 * width)

    @staticmethod
    def stage(inputs, channels, blocks, stride):
        rest = [Residual(4 * channels, channels, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Residual(inputs, channels, stride), *rest)

    def map(self, x):
        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(nn.AvgPool2d(2)(x)))))

    def forward(self, x):
        return self.attnpool(self.map(x))


class LiteralClip(nn.Module):
    def __init__(self, vision_cfg, quick_gelu=False, **_):
        super().__init__()
        kind = ModifiedResNet if isinstance(vision_cfg["layers"], list) else VisionTransformer
        self.visual = kind(**vision_cfg, **({} if kind is ModifiedResNet else {"quick": quick_gelu}))
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.transformer = Transformer(WIDTH, HEADS, TEXT["layers"], quick_gelu)
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.zeros(WIDTH, DIM))
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def sentences(self, ids):
        mask = torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding, mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=1)] @ self.text_projection


def literal_clip(kind: str, seed: int = 0) -> LiteralClip:
    """With random numbers everywhere, also where training starts at zeros and ones."""
    torch.manual_seed(seed)
    model = LiteralClip(**CONFIGS[kind]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:  # else the differences between images would die away from layer to layer
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
            else:
                parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def save_open_clip(folder: Path, kind: str, seed: int = 0, tokenizer: bool = True) -> Path:
    """Such a checkpoint, as open_clip writes it to the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.contiguous() for name, t in literal_clip(kind, seed).state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    content = {"model_cfg": CONFIGS[kind], "preprocess_cfg": PIXELS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    for name in ("tokenizer.json", "tokenizer_config.json") if tokenizer else ():
        shutil.copy(TINY / name, folder / name)
    return folder
