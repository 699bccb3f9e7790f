"""Classify photos with the model in this folder: python predict.py PHOTO …  Needs numpy, Pillow and onnxruntime."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

GRAPH = Path(__file__).with_name("model.onnx")


def open_photo(path: str | Path) -> Image.Image:
    """A photo as RGB, upright, on white where it is transparent."""
    image: Image.Image = Image.open(path)
    bits = int(image.tag_v2.get(258, (16,))[0]) if hasattr(image, "tag_v2") else 16
    image = ImageOps.exif_transpose(image)
    if image.mode == "LAB":
        raise ValueError("color space LAB is not supported; save it as RGB")
    if image.mode[0] in "IF":
        image = scaled_gray(image, bits)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def scaled_gray(image: Image.Image, bits: int) -> Image.Image:
    """Gray of more than 8 bits as 8 bits: integers by their range, other numbers by the least that holds them all."""
    values = np.nan_to_num(np.asarray(image), nan=0, posinf=0, neginf=0)
    low, high = values.min(), values.max()
    white = next((w for w in (1, 255, 65535) if low >= 0 and high <= w), None)
    if image.mode[0] == "I" and white:
        white = 2 ** min(max(bits, 8), 16) - 1
    start, span = (0, white) if white else (low, high - low or 1)
    return Image.fromarray(((values - start) * (255 / span)).round().clip(0, 255).astype(np.uint8))


def prepare(image: Image.Image, step: dict[str, Any]) -> np.ndarray:
    """Resize and crop as the network was trained with: uint8 (height, width, 3)."""
    if step["resize"] != "none":
        short = [int(step["size"][0] * side / min(image.size)) for side in image.size]
        size = short if step["resize"] == "short" else step["size"][::-1]
        image = image.resize(size, Image.Resampling[step["resample"].upper()])
    if step["crop"]:
        over = np.subtract(image.size, step["crop"][::-1])
        left, top = (over // 2 if step["half"] == "down" else np.round(over / 2)).astype(int).tolist()
        image = image.crop((left, top, left + step["crop"][1], top + step["crop"][0]))  # black beyond the picture
    return np.asarray(image)


class Model:
    """The graph; ``model(images)`` gives its outputs for n pictures, see the README."""

    def __init__(self, file: str | Path = GRAPH) -> None:
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.classes, self.steps = json.loads(about["classes"]), json.loads(about["inputs"])
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, images: list[Image.Image]) -> dict[str, np.ndarray]:
        pixels = {step["name"]: np.stack([prepare(image, step) for image in images]) for step in self.steps}
        return dict(zip(self.outputs, self.session.run(self.outputs, pixels), strict=True))


def main() -> None:
    """Print the answer for each photo."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # the encoding of the terminal may lack characters
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end with what reads the output, such as head
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("photos", nargs="+")
    options.add_argument("--reject", type=float, default=0.0, help="share of known images that may be refused")
    options.add_argument("--model", default=GRAPH, help="such as model-int8.onnx")
    given = options.parse_args()
    model, failed = Model(given.model), False
    if given.reject and "p_values" not in model.outputs:
        options.error("Expected no --reject, this model was exported without held-out images to compare photos with.")
    for photo in given.photos:
        try:
            found = model([open_photo(photo)])
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"error: Expected a photo, got '{photo}': {error}", file=sys.stderr)
            failed = True
            continue
        best = found["probabilities"][0].argmax()
        refused = given.reject and found["p_values"][0] <= given.reject
        name = "none of these" if refused else model.classes[best]
        print(f"{photo}\t{name}\t{found['probabilities'][0, best]:.4f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
