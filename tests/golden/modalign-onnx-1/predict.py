"""Classify photos with the model in this folder: python predict.py PHOTO …  Needs numpy, Pillow and onnxruntime."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent


def open_photo(path: str | Path) -> Image.Image:
    """A photo as RGB, upright, on white where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def prepare(image: Image.Image, step: dict[str, Any]) -> np.ndarray:
    """Resize and crop as the network was trained with: uint8 (height, width, 3)."""
    width, height = image.size
    if step["resize"] == "short":
        short, least = step["size"][0], min(width, height)
        width, height = int(short * width / least), int(short * height / least)
    elif step["resize"] == "exact":
        height, width = step["size"]
    image = image.resize((width, height), resample=Image.Resampling[step["resample"].upper()])
    if step["crop"]:
        tall, wide = step["crop"]
        half = (lambda over: over // 2) if step["half"] == "down" else (lambda over: round(over / 2))
        left, top = half(width - wide), half(height - tall)
        image = image.crop((left, top, left + wide, top + tall))  # black beyond the picture
    return np.asarray(image)


class Model:
    """The graph with what it needs; ``model(images)`` gives probabilities (n, C) and p-values (n,) or None."""

    def __init__(self, file: str | Path = HERE / "model.onnx") -> None:
        folder = Path(file).parent
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.steps = json.loads((folder / "preprocess.json").read_text("utf-8"))["inputs"]
        labels = json.loads((folder / "labels.json").read_text("utf-8"))
        self.classes, self.rejection = labels["classes"], labels["rejection"]

    def __call__(self, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray | None]:
        pixels = {step["name"]: np.stack([prepare(image, step) for image in images]) for step in self.steps}
        probabilities, logits = self.session.run(["probabilities", "logits"], pixels)
        return probabilities, None if self.rejection is None else self.unusual(probabilities, logits)

    def unusual(self, probabilities: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The p-value of each image: how seldom the model is so unsure of images of its own classes."""
        ranked = np.sort(logits, axis=1)
        sure = {
            "probability": probabilities.max(axis=1),
            "margin": ranked[:, -1] - ranked[:, -2],
            "score": ranked[:, -1],
        }[self.rejection["kind"]]
        reference = np.array(self.rejection["reference"])
        return (1 + np.searchsorted(reference, sure, side="right")) / (len(reference) + 1)


def main() -> None:
    """Print the answer for each photo."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("photos", nargs="+")
    options.add_argument("--reject", type=float, default=0.0, help="share of known images that may be refused")
    options.add_argument("--model", default=HERE / "model.onnx", help="for example model-int8.onnx")
    given = options.parse_args()
    model, unread = Model(given.model), 0
    if given.reject and model.rejection is None:
        options.error("Expected no --reject, this model was exported without held-out images to compare photos with.")
    for photo in given.photos:
        try:
            opened = open_photo(photo)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"error: Expected a photo, got '{photo}': {error}", file=sys.stderr)
            unread += 1
            continue
        probabilities, unusual = model([opened])
        refused = unusual is not None and unusual[0] <= given.reject
        best = int(probabilities[0].argmax())
        name = "none of these" if refused else model.classes[best]
        print(f"{photo}\t{name}\t{probabilities[0, best]:.4f}")
    sys.exit(1 if unread else 0)


if __name__ == "__main__":
    main()
