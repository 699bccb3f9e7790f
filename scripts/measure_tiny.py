"""Accuracies of the embedded encoders, for the cards of their folders.

The digits of scikit-learn (1,797 real handwritten digits, 8 x 8) are read in this file only: training does not
use them.

    python scripts/measure_tiny.py src/modalign/encoders/weights
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tiny_images import COLOURS, DIGIT_NAMES, LETTER_NAMES, NAMES, SHAPES, TEXTURES, render
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, Dinov2Model

HELD_OUT_SEED = 10_007
NETWORKS = ["tiny", "tiny-vision", "tiny-scenes"]
TEMPLATE = "a photo of the digit {}."
DIGITS_NOTE = (
    "accuracy on all 1,797 digits of scikit-learn, bright on dark, through the saved preprocessing. They were never "
    "trained on. They were looked at while the renderer was developed: their format (8 x 8 block means, stroke width, "
    "position in the box) at the start, and the mistakes of a first model, after which skeletons for a few ways of "
    "writing 1 to 5 and 7 to 9 were added. Two ways of training were compared on them: a jointly trained CLIP (0.85 "
    "zero-shot) and the locked self-supervised tower that is used. So these figures are a little optimistic"
)


def digit_images() -> tuple[list[Image.Image], np.ndarray]:
    """The real digits, bright on dark, as RGB pictures, and their labels."""
    digits = load_digits()
    images = [Image.fromarray((image * 255 / 16).astype(np.uint8)).convert("RGB") for image in digits.images]
    return images, digits.target


def complete(folder: Path) -> Path:
    """The folder with everything that `folder` lacks: `tiny` beside a folder that holds an image tower only."""
    return folder if (folder / "config.json").exists() else folder.with_name("tiny")


def clip_model(folder: Path) -> CLIPModel:
    """The CLIP of a folder."""
    model = CLIPModel.from_pretrained(complete(folder)).eval()
    if complete(folder) != folder:
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    return model


@torch.inference_mode()
def image_features(folder: Path, images: list[Image.Image]) -> np.ndarray:
    """Unit-length image features of either model, through its own saved preprocessing."""
    processor = AutoImageProcessor.from_pretrained(complete(folder))
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    clip = json.loads((complete(folder) / "config.json").read_text())["model_type"] == "clip"
    model = clip_model(folder) if clip else Dinov2Model.from_pretrained(folder).eval()
    parts = []
    for batch in pixels.split(256):
        if clip:
            pooled = model.vision_model(pixel_values=batch).pooler_output
            parts.append(model.visual_projection(pooled))
        else:
            parts.append(model(pixel_values=batch).pooler_output)
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()


@torch.inference_mode()
def text_features(folder: Path, sentences: list[str]) -> np.ndarray:
    """Unit-length text features."""
    tokenizer, model = AutoTokenizer.from_pretrained(complete(folder)), clip_model(folder)
    tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
    pooled = model.text_model(**tokens).pooler_output
    return torch.nn.functional.normalize(model.text_projection(pooled), dim=-1).numpy()


def neighbors_accuracy(features: np.ndarray, labels: np.ndarray, k: int = 5) -> float:
    """Leave-one-out accuracy of the majority among the `k` nearest by cosine; ties go to the nearest."""
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :k]
    votes = np.zeros((len(labels), labels.max() + 1))
    for rank in range(k):
        votes[np.arange(len(labels)), labels[nearest[:, rank]]] += 1 + 1e-3 * (k - rank)
    return float((votes.argmax(1) == labels).mean())


def probe_accuracy(features: np.ndarray, labels: np.ndarray, shots: int, seeds: int = 3) -> float:
    """Mean accuracy of a logistic probe on `shots` labeled examples a class, on all the others."""
    scores = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        chosen = np.concatenate([rng.choice(np.flatnonzero(labels == c), shots, replace=False) for c in range(10)])
        rest = np.setdiff1d(np.arange(len(labels)), chosen)
        scale = np.sqrt(features.shape[1])
        probe = LogisticRegression(max_iter=2000).fit(scale * features[chosen], labels[chosen])
        scores.append(probe.score(scale * features[rest], labels[rest]))
    return float(np.mean(scores))


def measure_clip(folder: Path) -> dict:
    """Accuracies of the CLIP on the real digits and on held-out renders."""
    images, labels = digit_images()
    features = image_features(folder, images)
    numerals = [str(i) for i in range(10)]
    prompts = [(DIGIT_NAMES, "zero … nine", t) for t in (TEMPLATE, "a photo of a {}.", "{}")]
    prompts += [(numerals, "0 … 9", t) for t in (TEMPLATE, "a photo of a {}.", "{}")]
    zero_shot = {}
    for names, label, template in prompts:
        text = text_features(folder, [template.format(name) for name in names])
        zero_shot[f"{label} in “{template}”"] = float(((features @ text.T).argmax(1) == labels).mean())
    return {
        "zero_shot": zero_shot,
        "logistic_probe": {f"{k} shots": probe_accuracy(features, labels, k) for k in (1, 4, 16)},
        "five_nearest_neighbours": neighbors_accuracy(features, labels),
        "held_out_renders_zero_shot": measure_rendered(folder),
    }


def measure_vision(folder: Path) -> dict:
    """Accuracies of the vision-only model on the real digits."""
    images, labels = digit_images()
    features = image_features(folder, images)
    return {
        "five_nearest_neighbours": neighbors_accuracy(features, labels),
        "logistic_probe": {f"{k} shots": probe_accuracy(features, labels, k) for k in (1, 4, 16)},
    }


def measure_rendered(clip: Path, count: int = 4000) -> dict:
    """Zero-shot accuracy on held-out renders (another seed than training), by kind of content."""
    samples = [render(HELD_OUT_SEED, i) for i in range(count)]
    facts = np.array([f for _, f in samples])
    features = image_features(clip, [Image.fromarray(image) for image, _ in samples])
    tasks = {
        "digits": ([f"the digit {n}" for n in DIGIT_NAMES], 0, facts[:, 1]),
        "letters": ([f"the letter {n}" for n in LETTER_NAMES], 1, facts[:, 1] - 10),
        "shapes": ([f"a {n}" for n in SHAPES], 2, facts[:, 1] - 36),
        "textures": (TEXTURES, 3, facts[:, 1] - NAMES.index(TEXTURES[0])),
    }
    pairs = [f"a {color} {shape}" for shape in SHAPES for color in COLOURS]
    tasks["color and shape (144 classes)"] = (pairs, 2, (facts[:, 1] - 36) * len(COLOURS) + facts[:, 3])
    result = {}
    for task, (sentences, kind, target) in tasks.items():
        rows = facts[:, 0] == kind
        predicted = (features[rows] @ text_features(clip, sentences).T).argmax(1)
        result[task] = float((predicted == target[rows]).mean())
    return result


def rounded(value: dict | float) -> dict | float:
    """The same numbers with four decimals."""
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 4)


def measurements(weights: Path, names: list[str]) -> dict[str, dict]:
    """Entries of the cards about accuracy, for the named folders under `weights`."""
    measure = {"tiny": measure_clip, "tiny-vision": measure_vision, "tiny-scenes": measure_clip}
    return {name: {"accuracy": rounded(measure[name](weights / name)), "digits": DIGITS_NOTE} for name in names}


def main() -> None:
    """Print the accuracies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder that holds tiny/, tiny-vision/ and tiny-scenes/")
    parser.add_argument("--only", choices=NETWORKS, help="measure one of them")
    args = parser.parse_args()
    names = [args.only] if args.only else NETWORKS
    print(json.dumps(measurements(args.weights, names), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
