"""Checkpoints of real architectures with random weights, saved to folders, so that the real loading path is tested."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    MetaClip2Config,
    MetaClip2Model,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.utils import logging

import modalign

TINY = Path(modalign.__file__).parent / "encoders" / "weights" / "tiny"
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

_BLOCKS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_BLOCKS, "image_size": 64, "patch_size": 16}
_SPECIAL = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
_OF_TINY = json.loads((TINY / "config.json").read_text())["text_config"]  # whose tokenizer is used here
_TEXT = {**_BLOCKS, **{name: _OF_TINY[name] for name in _SPECIAL}}
_SIGLIP_TEXT = {**_BLOCKS, "vocab_size": 30, "max_position_embeddings": 24, "pad_token_id": 1, "eos_token_id": 1}
_SHORT = {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
_CLIP_PIXELS = {"image_processor_type": "CLIPImageProcessor", **_SHORT, "resample": 3}
_EXACT = {"size": {"height": 64, "width": 64}, "resample": 2}


def _clip(**text):
    return CLIPModel(CLIPConfig(text_config={**_TEXT, **text}, vision_config=_VISION, projection_dim=24))


KINDS = {
    "clip": (_clip, _CLIP_PIXELS | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}),
    "metaclip_2": (
        lambda: MetaClip2Model(MetaClip2Config(text_config=_TEXT, vision_config=_VISION, projection_dim=24)),
        _CLIP_PIXELS | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    ),
    "siglip": (
        lambda: SiglipModel(SiglipConfig(text_config=_SIGLIP_TEXT, vision_config=_VISION)),
        {"image_processor_type": "SiglipImageProcessor", **_EXACT, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ),
    "siglip2": (
        lambda: Siglip2Model(
            Siglip2Config(text_config=_SIGLIP_TEXT, vision_config={**_BLOCKS, "patch_size": 16, "num_patches": 16})
        ),
        {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 16, "max_num_patches": 16},
    ),
    "dinov2": (
        lambda: Dinov2Model(Dinov2Config(**_VISION)),
        {"image_processor_type": "BitImageProcessor", **_SHORT, "resample": 3},
    ),
    "dinov2_with_registers": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**_VISION)),
        {"image_processor_type": "BitImageProcessor", **_SHORT, "resample": 3},
    ),
    "dinov3_vit": (
        lambda: DINOv3ViTModel(DINOv3ViTConfig(**_VISION, num_register_tokens=4)),
        {"image_processor_type": "DINOv3ViTImageProcessorFast", **_EXACT},
    ),
    "vit": (
        # As on the hub: with a classifier, without a pooler.
        lambda: ViTForImageClassification(ViTConfig(**_VISION)),
        {"image_processor_type": "ViTImageProcessor", **_EXACT},
    ),
}


def save_checkpoint(folder: Path, kind: str, seed: int = 0, **changes) -> Path:
    """A checkpoint of ``kind`` with random weights as the hub would hold it."""
    make, pixels = KINDS[kind]
    torch.manual_seed(seed)
    model = make(**changes) if changes else make()
    for name, parameter in model.named_parameters():  # some kinds start at exact zeros, which would hide mistakes
        if "logit" not in name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    if kind in ("clip", "metaclip_2"):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TINY / name, folder / name)
    elif kind.startswith("siglip"):
        _word_tokenizer().save_pretrained(folder)
    return folder


def _word_tokenizer():
    """Words → numbers with ``</s>`` at the end, also for padding, as SigLIP's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = "<unk> </s> a photo of the cat dog sleeping on blue red sofa very old"
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words.split(" "))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=24
    )


def picture(seed: int, width: int = 80, height: int = 60) -> Image.Image:
    """Something with structure on several scales, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray((np.asarray(coarse, dtype=int) + noise).clip(0, 255).astype(np.uint8))


def as_bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
