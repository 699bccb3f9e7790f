"""Agreement, size and speed of exports of every method and kind of encoder, compared with torch.

    python -m bench.export_matrix [--methods gda,maple] [--out docs/results/export.jsonl]
    python -m bench.export_matrix --methods linear_probe --random-vit-b32 --images 64

A line of JSON is added for each export. Methods are fitted to 60 handwritten digits with `tiny`, or with a CLIP of the
size of ViT-B/32 with random weights; 200 others are compared. Speeds are of one thread, in batches of 32, as images per
second of processor time; the best of five.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import modalign as ma
from bench.embedding import random_clip
from modalign.data.digits import load_digits
from modalign.export.graph import Recorded, in_float32, input_names
from modalign.methods import METHODS, TOWER_METHODS, method_class
from modalign.model.classifier import Classifier

BATCH, ROUNDS = 32, 5


def fitted(name: str, encoder: str) -> Classifier:
    """The method on 60 digits."""
    digits = load_digits().select(range(60))
    if name in TOWER_METHODS:
        method: Any = method_class(name)(epochs=1, random_state=0)
        return ma.adapt(digits, method=method, encoder=encoder, validation="none", mirror=False)
    return ma.adapt(digits, method=name, encoder=encoder, mirror=False)


def speed(answer: Callable[[], object]) -> float:
    """Images per second of processor time."""
    answer()
    best = np.inf
    for _ in range(ROUNDS):
        started = time.process_time()
        answer()
        best = min(best, time.process_time() - started)
    return round(BATCH / max(best, 1e-9), 1)


def measured(model: Classifier, folder: Path, images: int) -> dict[str, Any]:
    """The figures of one export."""
    started = time.process_time()
    found = ma.export_onnx(model, folder, check=load_digits().select(range(1000, 1000 + images)), int8=True)
    spent = time.process_time() - started
    graph = Recorded(in_float32(model)).eval()
    prepared = [[step.prepare(load_digits().open(i)) for i in range(BATCH)] for step in graph.steps]
    pixels = [np.stack(own) for own in prepared]
    tensors = [torch.from_numpy(own) for own in pixels]
    feeds = dict(zip(input_names(graph.steps), pixels, strict=True))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    speeds = {}
    with torch.inference_mode():
        speeds["torch"] = speed(lambda: graph(*tensors))
    for runtime, file in (("onnx", "model.onnx"), ("int8", "model-int8.onnx")):
        session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        speeds[runtime] = speed(lambda session=session: session.run(None, feeds))
    assert found.int8 is not None
    return {
        "max_difference": found.parity.max_difference,
        "decisions": found.parity.decisions,
        "by_pillow": found.resized_by_pillow.max_difference,
        "int8_decisions": found.int8.decisions,
        "int8_accuracy": found.int8.accuracy,
        "accuracy": found.int8.accuracy_before,
        "images": found.parity.images,
        "megabytes": found.megabytes,
        "int8_megabytes": found.int8_megabytes,
        "export_seconds": round(spent, 1),
        "images_per_second": speeds,
    }


def main() -> None:
    """Measure and write the rows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", help="names separated by commas; all by default")
    options.add_argument("--encoder", default="tiny", help="a name, or the folder of a checkpoint")
    options.add_argument("--random-vit-b32", action="store_true", help="a ViT-B/32 with random weights as the encoder")
    options.add_argument("--images", type=int, default=200, help="digits to compare")
    options.add_argument("--out", type=Path, default=Path("docs/results/export.jsonl"))
    given = options.parse_args()
    torch.set_num_threads(1)
    for name in given.methods.split(",") if given.methods else [*METHODS, *TOWER_METHODS]:
        with tempfile.TemporaryDirectory() as folder:
            encoder = str(random_clip(Path(folder) / "random-vit-b32")) if given.random_vit_b32 else given.encoder
            line = {"method": name, "encoder": Path(encoder).name}
            line |= measured(fitted(name, encoder), Path(folder) / "out", given.images)
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
