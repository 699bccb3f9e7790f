"""Memory of a training step with many classes: ``python -m bench.step_memory``.

A CLIP of the size of ViT-B/16 with random weights, photos of noise, classes "thing 0" and so on, batches as published.
Each method takes one step (loss and gradient, without the update) in a process of its own, in float32 unless
``--bfloat16``. Measured is the memory of the process's own at its highest (anonymous pages, Linux), with that of the
weights and of torch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import modalign as ma
from bench.gpu import METHODS, checkpoint
from bench.machine import machine
from bench.speed_gpua import Watch
from bench.speed_steps import photo
from modalign.core.features import ClassText
from modalign.data.items import Items
from modalign.methods import method_class
from modalign.methods.contract.tower import Towers
from modalign.tune.steps import differentiate

LIMIT = 8.0  # GiB


def measure(name: str, folder: Path, classes: int, half: bool) -> dict[str, float]:
    """GiB at the highest and before the step, and processor seconds of the step."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    encoder = ma.load_encoder(str(folder), cache=False, dtype="float32")
    method = method_class(name)(augmentation="center", random_state=0, **METHODS[name])
    batch, called = METHODS[name]["batch_size"], tuple(f"thing {k}" for k in range(classes))
    draws = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(classes, 1, encoder.spec.dim, generator=draws), dim=2).numpy()
    text = ClassText(vectors, called, tuple((f"a photo of a {one}.",) for one in called), encoder.spec)
    items = Items(called[:batch], tuple(map(photo, range(batch))), np.arange(batch), called)
    learner = method._learner(Towers.open(encoder, text), torch.Generator().manual_seed(0))
    images = method._batches(items, encoder, 0).batch(torch.arange(batch), 0)
    started = time.process_time()
    with Watch() as watch:
        differentiate(learner.loss, images, encoder.device, half=half)
    return {"highest": watch.highest, "before": watch.before, "seconds": time.process_time() - started}


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each method, and return 1 if one takes more than :data:`LIMIT`."""
    parser = argparse.ArgumentParser(prog="python -m bench.step_memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--method", nargs="+", default=["align", "dam"], choices=sorted(METHODS), help="methods")
    parser.add_argument("--classes", type=int, default=1000, help="number of classes")
    parser.add_argument("--bfloat16", action="store_true", help="the forward pass in bfloat16")
    options = parser.parse_args(arguments)
    print(f"{machine()}\n{options.classes} classes, {'bfloat16' if options.bfloat16 else 'float32'}", flush=True)
    most = 0.0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(Path(folder), small=False)
        for name in options.method:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(measure, name, Path(folder), options.classes, options.bfloat16).result()
            print(
                f"{name}, batch of {METHODS[name]['batch_size']}: {row['highest']:.2f} GiB, of which "
                f"{row['before']:.2f} before the step; {row['seconds']:.1f} CPU s",
                flush=True,
            )
            most = max(most, row["highest"])
    return int(most > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
