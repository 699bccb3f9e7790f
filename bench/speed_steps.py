"""Training steps inside an encoder of the size of ViT-B/16: float32, bfloat16, and image features computed once.

Random weights and images, 50 classes, batches of 4, images as the encoder prepares them; processor seconds of one step,
the better of two after a warm-up, without reading images and without the update. The limit is the time that the matrix
products of the step take at the speed of the fastest product measured in the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import modalign as ma
from bench.gpu import checkpoint
from modalign.core.features import ClassText
from modalign.data.blobs import BytesBlob
from modalign.data.items import Items
from modalign.encoders.precision import seconds_of
from modalign.methods import method_class
from modalign.methods.contract.tower import Towers
from modalign.tune.steps import differentiate
from modalign.tune.training_precision import compare_precisions

TITLE = (
    "A CLIP of the size of ViT-B/16 with random weights, 50 classes, batches of 4 views of the whole image. "
    "Processor seconds of a step without the update. The limit is that of the matrix products of the step in float32."
)
CLASSES, BATCH, SIDE = 50, 4, 2048
METHODS = ("coop", "plot", "maple", "cocoop", "dam", "align")
KEPT = ("coop", "plot", "cocoop")  # learn no prompt of the image tower
REQUIRED = {("coop", "kept"): 2.5, ("maple", "bfloat16"): 1.4}  # times faster than plain float32


def measure(full: bool) -> list[dict[str, Any]]:
    """The speed of a matrix product in GFLOP/s, and a row per method; three of the methods unless ``full``."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = ma.load_encoder(str(checkpoint(Path(folder), small=False)), cache=False, dtype="float32")
        return _rows(encoder, full)


def _rows(encoder: Any, full: bool) -> list[dict[str, Any]]:
    names = [f"thing {k}" for k in range(CLASSES)]
    draws = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(CLASSES, 1, encoder.spec.dim, generator=draws), dim=2).numpy()
    text = ClassText(vectors, tuple(names), tuple((f"a photo of a {name}.",) for name in names), encoder.spec)
    items = Items(tuple(names[:BATCH]), tuple(map(photo, range(BATCH))), np.arange(BATCH), tuple(names))
    peaks = {"float32": _peak(torch.float32), "bfloat16": _peak(torch.bfloat16)}
    rows = [_row(name, encoder, items, text, peaks["float32"]) for name in (METHODS if full else METHODS[:3])]
    return [{"method": "", **peaks}, *rows]


def _row(name: str, encoder: Any, items: Items, text: ClassText, peak: float) -> dict[str, Any]:
    method: Any = method_class(name)(augmentation="center", batch_size=BATCH, random_state=0)
    learner = method._learner(Towers.open(encoder, text), torch.Generator().manual_seed(0))
    data = method._batches(items, encoder, 0)
    batch = data.batch(torch.arange(BATCH), 0)

    def step(half: bool = False) -> None:
        learner.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        differentiate(learner.loss, batch, encoder.device, half=half)

    with FlopCounterMode(display=False) as counter:
        step()
    row = {"method": name, "limit": counter.get_total_flops() / peak, "float32": _seconds(step)}
    row["bfloat16"] = _seconds(partial(step, half=True))
    row |= compare_precisions(learner, learner.loss, data, method._recipe(items.labels))
    if name in KEPT:
        learner.begin(data)
        row["kept"], row["both"] = _seconds(step), _seconds(partial(step, half=True))
    return row


def photo(number: int) -> BytesBlob:
    rng, stream = np.random.default_rng(number), BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((300, 300), 3).save(stream, "png")
    return BytesBlob(stream.getvalue())


def _peak(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large product."""
    a = torch.randn(SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / _seconds(lambda: a @ a, 4)


def _seconds(function: Callable[[], Any], repeats: int = 2) -> float:
    """Processor seconds of the fastest call, after one that does not count."""
    function()
    return min(seconds_of(torch.device("cpu"), function, 1) for _ in range(repeats))


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    peaks, *methods = rows
    speeds = " and ".join(f"{peaks[kind] / 1e9:.0f} GFLOP/s in {kind}" for kind in ("float32", "bfloat16"))
    print(f"A product of matrices of {SIDE} x {SIDE}: {speeds}")
    print("            limit   float32  bfloat16   images kept  both    gradients' cosine  loss differs by")
    for row in methods:
        kept = f"{row['kept']:8.2f} {row['both']:9.2f}" if "kept" in row else f"{'–':>8} {'–':>9}"
        print(
            f"  {row['method']:8} {row['limit']:6.2f} {row['float32']:9.2f} {row['bfloat16']:9.2f}  {kept}"
            f"         {row['cosine']:12.5f} {row['loss']:13.1e}"
        )


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a step is not as much faster as it should be."""
    found = {row["method"]: row for row in rows}
    return any(found[name]["float32"] < times * found[name][how] for (name, how), times in REQUIRED.items())
