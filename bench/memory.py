"""Memory of methods on memory-mapped features: ``python -m bench.memory --images 1000000``.

Synthetic float16 features of width 512 and 100 classes are written to a file and opened, so that they are mapped. Each
of zero-shot, GPUA (fit and predict all images, the labels unused) and ``compare`` (zero-shot and GDA, 4 labels per
class, 2 draws) runs in a process of its own. The figure is the peak of the anonymous memory (Linux: pages that
belong to no mapped file) above that before the call.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import modalign as ma
from bench.speed_gpua import Watch

WIDTH, CLASSES, BLOCK = 512, 100, 50_000
SPREAD = 1.5 / WIDTH**0.5  # of the images of a class, per coordinate, beside unit class directions


def write(path: Path, images: int) -> np.ndarray:
    """Features of ``images`` images in a file, a block at a time where NumPy needs them; the class texts."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(CLASSES, WIDTH, generator=generator), dim=1)
    labels = np.arange(images) % CLASSES
    vectors = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.float16, (images, WIDTH))
    for first in range(0, images, BLOCK):
        own = torch.from_numpy(labels[first : first + BLOCK])
        noise = SPREAD * torch.randn(len(own), WIDTH, generator=generator)
        vectors[first : first + BLOCK] = F.normalize(directions[own] + noise, dim=1).half().numpy()
    names = [f"class {k}" for k in range(CLASSES)]
    ma.Features(vectors, labels=labels, class_names=names).save(path)
    path.with_suffix(".npy").unlink()
    return F.normalize(directions + SPREAD * torch.randn(directions.shape, generator=generator), dim=1).numpy()


def zero_shot(features: ma.Features, text: np.ndarray) -> float:
    """Share of all images answered as labeled."""
    method = ma.ZeroShot().fit(features.vectors, text=text)
    return float((method.predict(features.vectors) == features.labels).mean())


def gpua(features: ma.Features, text: np.ndarray) -> float:
    """Share of all images answered as labeled."""
    method = ma.GPUA(random_state=0).fit(features.vectors, text=text)
    return float((method.predict(features.vectors) == features.labels).mean())


def compare(features: ma.Features, text: np.ndarray) -> float:
    """Mean accuracy over methods and draws."""
    result = ma.compare(features, text=text, methods=["zero_shot", "gda"], shots=4, seeds=2, ablations=False)
    return float(np.mean([row.accuracy.mean for row in result.table]))


WORK: dict[str, Callable[[ma.Features, np.ndarray], float]] = {"zero-shot": zero_shot, "GPUA": gpua, "compare": compare}


def measure(what: str, path: Path, text: np.ndarray) -> tuple[float, float, float, float]:
    """The answer's accuracy, GiB of the process's own, wall seconds, processor seconds."""
    warnings.simplefilter("ignore")
    features = ma.Features.open(path)
    began, cpu = time.perf_counter(), time.process_time()
    with Watch() as watch:
        accuracy = WORK[what](features, text)
    return accuracy, watch.highest - watch.before, time.perf_counter() - began, time.process_time() - cpu


def main() -> None:
    """Measure and print a row for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--only", choices=WORK, nargs="+", default=list(WORK))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.safetensors"
        text = write(path, options.images)
        print(f"{options.images:,} × {WIDTH} float16, {path.stat().st_size / 2**30:.2f} GiB, {CLASSES} classes")
        for what in options.only:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                accuracy, gib, wall, cpu = pool.submit(measure, what, path, text).result()
            print(f"{what}: {gib:.2f} GiB, {wall:.0f} s, {cpu:.0f} CPU s, accuracy {100 * accuracy:.1f}", flush=True)


if __name__ == "__main__":
    main()
