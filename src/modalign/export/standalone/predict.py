"""Classify photos with the model in this folder: python predict.py PHOTO …  Needs numpy, Pillow and onnxruntime."""

import argparse
import json
import signal
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from photo_input import open_photo, prepare
from PIL import Image

GRAPH = Path(__file__).with_name("model.onnx")


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
