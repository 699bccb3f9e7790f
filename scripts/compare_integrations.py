"""Compare encoders with open_clip and transformers, on networks with random weights saved in the formats of the hub.

``verify_integrations.py`` creates the environment for it.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast
from transformers.utils import logging as transformers_logging

import modalign as ma
from bench.machine import machine
from modalign.core.errors import InputError
from modalign.encoders.clip import ClipEncoder, pooled
from modalign.encoders.openclip.openclip_checkpoint import residual_of
from modalign.encoders.openclip.openclip_config import translated
from modalign.encoders.openclip.openclip_tensors import check_tensors
from modalign.encoders.towers.convolutional import vision_tower
from modalign.encoders.towers.vision_tower import TextTower

NETWORKS = ("RN50", "RN101", "RN50x4", "ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16")
TOLERATED = 1e-4
SENTENCES = (
    "a photo of a cat.",
    "A satellite picture of a harbour, with many SMALL white boats",
    "seven",
    "it's the naïve café №5 — 20% off!",
)
COLUMNS = ("images", "sentences", "probabilities", "opened towers")


def shaken(model: nn.Module) -> nn.Module:
    """``model`` with random numbers wherever training starts at zeros and ones, and images that stay apart."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
            elif parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
                if name.endswith("bn3.weight"):
                    parameter.add_(0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def tokenizer() -> CLIPTokenizerFast:
    """CLIP's, made of the byte pairs that open_clip ships, as repositories on the hub have it."""
    with gzip.open(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1:48895]]
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in open_clip.tokenizer.SimpleTokenizer().encoder.items()}
    return CLIPTokenizerFast(vocab=vocabulary, merges=merges, model_max_length=77)


def photos() -> list[Image.Image]:
    """Parts of two photos, of eight shapes."""
    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    boxes = [(7 * i, 11 * i, 7 * i + 300 + 31 * i, 11 * i + 240 + 13 * i) for i in range(4)]
    return [picture.crop(box) for picture in pictures for box in boxes]


def unit(x: Tensor) -> Tensor:
    """Rows of length one."""
    return nn.functional.normalize(x.float(), dim=-1)


def prepared(encoder: ClipEncoder) -> Tensor:
    """The photos as inputs of the network of ``encoder``."""
    pictures = [encoder.preprocessing.prepare(photo) for photo in photos()]
    return encoder.preprocessing.inputs(pictures, encoder.device, torch.float32)["pixel_values"]


def differences(encoder: ClipEncoder, images: Tensor, sentences: Tensor, scale: float) -> dict[str, float]:
    """Largest differences of unit vectors and probabilities from those of the other library, for the same pixels."""
    found = encoder.embed_images(photos()).vectors, encoder.embed_texts(SENTENCES).vectors
    own = [torch.tensor(vectors) for vectors in found]
    text = TextTower(encoder)
    opened = vision_tower(encoder)(prepared(encoder)).pooled[0], text(text.tokenize(SENTENCES)).pooled[0]
    both = unit(images), unit(sentences)
    pairs = {
        "images": [(own[0], both[0])],
        "sentences": [(own[1], both[1])],
        "probabilities": [
            ((float(encoder.logit_scale or 0) * own[0] @ own[1].T).softmax(1), (scale * both[0] @ both[1].T).softmax(1))
        ],
        "opened towers": [(unit(opened[0]), both[0]), (unit(opened[1]), both[1])],
    }
    return {name: max(float((x - y).abs().max()) for x, y in some) for name, some in pairs.items()}


def with_open_clip(name: str, folder: Path) -> dict[str, Any]:
    """A network of open_clip, saved by open_clip."""
    torch.manual_seed(0)
    model = shaken(open_clip.create_model(name))
    save_for_hf(model, tokenizer(), open_clip.get_model_config(name), str(folder), safe_serialization=True)
    encoder = ma.load_encoder(folder, device="cpu", dtype="float32", cache=False)
    ids = open_clip.get_tokenizer(name)(list(SENTENCES))
    images, sentences = model.encode_image(prepared(encoder)), model.encode_text(ids)
    row: dict[str, Any] = differences(encoder, images, sentences, float(model.logit_scale.exp()))
    preprocess = open_clip.image_transform(encoder.preprocessing.size[0], is_train=False)
    theirs = torch.stack([preprocess(photo) for photo in photos()])
    std = torch.tensor(encoder.preprocessing.std)[:, None, None]
    levels = ((prepared(encoder) - theirs) * std * 255).abs()
    row["pixels"] = f"{float(levels.amax()):.1f} of 255 at most, {float(levels.mean()):.3f} on average"
    row["end to end"] = float((unit(model.encode_image(theirs)) * unit(images)).sum(1).min())
    row["apart"] = float((unit(images) @ unit(images).T).fill_diagonal_(-1).amax())
    kept = [[token for token in line if token] for line in ids.tolist()]
    row["tokens"] = encoder.tokenizer(list(SENTENCES))["input_ids"] == kept
    return row


def with_transformers(folder: Path) -> dict[str, Any]:
    """A CLIPModel of ViT-B/32, saved by transformers."""
    torch.manual_seed(0)
    model = shaken(CLIPModel(CLIPConfig()))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    encoder = ma.load_encoder(folder, device="cpu", dtype="float32", cache=False)
    ids = tokenizer()(list(SENTENCES), padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    images, sentences = pooled(model.get_image_features(prepared(encoder))), pooled(model.get_text_features(ids))
    return differences(encoder, images, sentences, float(model.logit_scale.exp()))


def configurations() -> tuple[list[str], list[str], list[str]]:
    """Names in open_clip's list that are read, that are refused, and that are read although their tensors differ."""
    read, refused, wrong = [], [], []
    for name in open_clip.list_models():
        try:
            config = translated(open_clip.get_model_config(name), Path(name))
        except InputError:
            refused.append(name)
            continue
        with torch.device("meta"):
            tensors = open_clip.create_model(name, device="meta").state_dict()
        try:
            check_tensors(dict(tensors), config, residual_of(config), Path(name))
            read.append(name)
        except InputError as error:
            wrong.append(f"{name}: {error}")
    return read, refused, wrong


def page(rows: dict[str, dict[str, Any]], read: list[str], refused: list[str]) -> str:
    """The figures as Markdown."""
    head = ["checkpoint", *COLUMNS, "nearest images"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, row in rows.items():
        nearest = f"{row['apart']:.4f}" if "apart" in row else ""
        lines.append(f"| {' | '.join([name, *(f'{row[column]:.1e}' for column in COLUMNS), nearest])} |")
    pixels = {name: row for name, row in rows.items() if "pixels" in row}
    prepared_lines = [
        f"- {name}: {row['pixels']}; smallest cosine of the image vectors {row['end to end']:.5f}; tokens "
        f"{'equal' if row['tokens'] else 'DIFFERENT'}"
        for name, row in pixels.items()
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("open_clip_torch", "torchvision", "timm"))
    return "\n".join(
        [
            "# Integrations",
            "",
            f"`python scripts/verify_integrations.py`, {date.today():%B %Y}: {machine()}, {packages}",
            "",
            "Networks of other libraries with random weights, saved by these libraries and loaded by modalign. The",
            "table has the largest absolute difference of unit vectors and of probabilities over eight parts of photos",
            "and four sentences, for the same pixels, in float32; the last column the largest cosine of two images,",
            "which shows that the random networks distinguish images.",
            "",
            *lines,
            "",
            "Pixels of open_clip's own preprocessing (torchvision on Pillow images) beside ours, and what they change:",
            "",
            *prepared_lines,
            "",
            f"Of the {len(read) + len(refused)} configurations that open_clip ships, {len(read)} are read, with all",
            "names and shapes of tensors as expected; the others are refused in a sentence. Read are:",
            f"{', '.join(read)}.",
            "",
        ]
    )


def main() -> int:
    """Compare, print, write the page, and return 1 if anything differs by more than is tolerated."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip's about weights that were never trained
    transformers_logging.disable_progress_bar()
    rows = {}
    with torch.no_grad():
        for name in NETWORKS:
            with TemporaryDirectory() as folder:
                rows[f"open_clip {name}"] = with_open_clip(name, Path(folder))
        with TemporaryDirectory() as folder:
            rows["transformers CLIPModel, ViT-B/32"] = with_transformers(Path(folder))
    read, refused, wrong = configurations()
    text = page(rows, read, refused)
    print(text, *wrong, sep="\n")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    good = all(row[column] <= TOLERATED for row in rows.values() for column in COLUMNS)
    return 0 if good and not wrong and all(row.get("tokens", True) for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
