"""Training steps, embedding and GPUA on a GPU: ``python -m bench.gpu --out docs/results/gpu.md``.

A CLIP of the size of ViT-B/16 with random weights and photos of noise: the cost of a step does not depend on their
content. A step is the difference of two fits of which one has two epochs more, over their steps, so that reading text
and starting cancel; it includes the reading and augmenting of the images. Without a GPU the same runs on the CPU, to
try this benchmark: ``--small``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import modalign as ma
from bench.machine import machine
from bench.resuming import Record
from bench.speed_gpua import D_TEXT, D, problem
from modalign.core.record import plain
from modalign.encoders.base import Encoder
from modalign.methods import method_class

METHODS: dict[str, dict[str, Any]] = {  # with the batch sizes of the papers
    "coop": {"batch_size": 32},
    "maple": {"batch_size": 4},
    "align": {"batch_size": 4},
    "dam": {"batch_size": 8},
    "fair": {"batch_size": 32},
}
STEPS = 8  # of an epoch
SETTING = (
    "A CLIP of the size of ViT-B/16 with random weights, 100 classes, photos of 500 × 375 pixels, batches as in the "
    "papers. A step includes reading and augmenting the images."
)


def checkpoint(folder: Path, small: bool) -> Path:
    """A CLIP with random weights, of the sizes of ViT-B/16, and the tokenizer of ``tiny``."""
    from transformers import CLIPConfig, CLIPModel

    tiny = Path(ma.__file__).parent / "encoders" / "weights" / "tiny"
    special = json.loads((tiny / "config.json").read_text())["text_config"]
    text = {name: special[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vision: dict[str, Any] = {"patch_size": 16}
    if small:
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 10, "num_attention_heads": 2}
        text, vision = text | sizes | {"vocab_size": special["vocab_size"]}, vision | sizes | {"image_size": 64}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    side = 64 if small else 224
    pixels = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, "resample": 3}
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    card = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "image_mean": mean, "image_std": std}
    (folder / "preprocessor_config.json").write_text(json.dumps(card | pixels))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    return folder


def photos(folder: Path, classes: int, count: int) -> Path:
    """``count`` JPEG photos of 500 × 375 in a sub-folder per class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        at = folder / f"thing {number % classes}"
        at.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((500, 375), 3)
        coarse.save(at / f"{number:05d}.jpg", quality=90)
    return folder


@contextmanager
def stopwatch(device: torch.device, found: dict[str, float]) -> Iterator[None]:
    """Wall seconds, and on a GPU the most memory that was allocated."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        found["gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    found["seconds"] = time.perf_counter() - started


def steps(encoder: Encoder, folder: Path, name: str, count: int, classes: int) -> dict[str, float]:
    """Seconds of a step of a method, and memory."""
    settings = METHODS[name]
    items = ma.load_items(folder)
    chosen = items.select(np.arange(min(len(items), settings["batch_size"] * count)))
    text = encoder.embed_texts([[f"a photo of a {c}."] for c in items.class_names], class_names=items.class_names)
    took: list[dict[str, float]] = []
    for epochs in (1, 1, 3):  # the first also starts the device
        found: dict[str, float] = {}
        method = method_class(name)(random_state=0, epochs=epochs, **settings)
        with stopwatch(encoder.device, found):
            method.fit(chosen, text=text, encoder=encoder)
        took.append(found)
    per_epoch = -(-len(chosen) // settings["batch_size"])
    step = (took[2]["seconds"] - took[1]["seconds"]) / (2 * per_epoch)
    return {"seconds_per_step": step, "gib": took[2].get("gib", 0.0), "classes": classes, **settings}


def embedding(encoder: Encoder, folder: Path) -> dict[str, float]:
    """Images per second of embedding a folder, and of the tower alone on images that are on the device already."""
    found: dict[str, float] = {}
    items = ma.load_items(folder)
    encoder.embed_images(items.select(np.arange(64)))
    with stopwatch(encoder.device, found):
        encoder.embed_images(items)
    prepared = [encoder.preprocessing.prepare(Image.open(path)) for path in sorted(folder.rglob("*.jpg"))[:64]]
    inputs = encoder.preprocessing.inputs(prepared, encoder.device, encoder.dtype)
    bare: dict[str, float] = {}
    with torch.inference_mode():
        encoder._forward(inputs, False)
        with stopwatch(encoder.device, bare):
            for _ in range(10):
                encoder._forward(inputs, False)
    return {
        "images_per_second": len(items) / found["seconds"],
        "bare": 10 * len(prepared) / bare["seconds"],
        "gib": found.get("gib", 0),
    }


def gpua(device: torch.device, images: int, classes: int, updates: int | None) -> dict[str, float]:
    """GPUA on synthetic vectors that lie on the device; ``updates`` None is the default number."""
    parts = [problem(min(50_000, images - first), classes, first) for first in range(0, images, 50_000)]
    Z, text = torch.cat([Z for Z, _ in parts]).to(device), parts[0][1].to(device)
    del parts
    settings = {} if updates is None else {"max_iterations": updates}
    found: dict[str, float] = {}
    method = ma.GPUA(random_state=0, **settings)
    with stopwatch(device, found):
        method.fit(Z, text=text, clip_features=Z[:, D - D_TEXT :])
    kept = {key: value for key, value in method.diagnosis_.items() if isinstance(value, (int, float))}
    return {**found, "images": images, "classes": classes, "gib_of_the_features": Z.numel() * 4 / 2**30, **kept}


def attempts(
    options: argparse.Namespace, folder: Path
) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """What is measured, by what it is recorded under."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = (2_000, 10) if options.small else (1_281_167, 1_000)
    model = checkpoint(folder / "clip", options.small)
    seen = photos(folder / "photos", 4 if options.small else 100, 64 if options.small else 2_000)
    for dtype in ("float32", "bfloat16"):
        encoder = ma.load_encoder(model, device=device, dtype=dtype, cache=False)
        yield {"what": "embedding", "dtype": dtype}, lambda encoder=encoder: embedding(encoder, seen)
        for name in METHODS:
            yield (
                {"what": name, "dtype": dtype},
                lambda name=name, encoder=encoder: steps(
                    encoder, seen, name, 2 if options.small else STEPS, 4 if options.small else 100
                ),
            )
    yield {"what": "gpua", "dtype": "float32"}, lambda: gpua(device, *size, None)


def table(found: list[tuple[dict[str, Any], dict[str, Any]]], note: str) -> str:
    """Markdown, with ``note`` at the end."""
    lines = [
        "# On a GPU", "",
        f"`python -m bench.gpu`, {date.today():%B %Y}: {found[0][1]['machine']}. {SETTING}", "",
        "| | precision | batch | seconds per step | images per second | GiB |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for run, figures in found:
        what, gib = (f"| {run['what']} | {run['dtype']} | ", figures.get("gib", 0.0))
        if "seconds_per_step" in figures:
            step, batch = figures["seconds_per_step"], figures["batch_size"]
            lines.append(f"{what}{batch} | {step:.3f} | {batch / step:.0f} | {gib:.2f} |")
        elif "images_per_second" in figures:
            speed, bare = figures["images_per_second"], figures["bare"]
            lines.append(f"{what}64 | | {speed:.0f}, the tower alone {bare:.0f} | {gib:.2f} |")
        elif "images" in figures:
            lines += [
                "",
                f"GPUA, {figures['images']:,} × {figures['classes']:,} × {D}, default settings, features on the "
                f"device: {figures['seconds']:.1f} s, {gib:.1f} GiB, of which {figures['gib_of_the_features']:.1f} GiB "
                "are the features.",
            ]
        else:
            lines += ["", f"{run['what']} in {run['dtype']} failed: {figures['error']}"]
    return "\n".join([*lines, "", note]).rstrip() + "\n"


def card() -> str:
    """Name of the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not recorded yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="a small network and little data, for trying it")
    parser.add_argument("--out", type=Path, help="a Markdown file, beside which the figures are kept")
    parser.add_argument("--note", default="", help="a paragraph for the page")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    record = Record(None if options.out is None else options.out.with_suffix(".jsonl"))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for run, measure in attempts(options, Path(folder)):
            figures = record.get(run)
            if figures is None:
                try:
                    figures = measure()
                except Exception as error:
                    traceback.print_exc()
                    figures = {"error": f"{type(error).__name__}: {error}"}
                figures |= {"machine": f"{machine()}, {card()}"}
                record.add(run, figures)
            print(json.dumps(plain(run | figures)), flush=True)
            found.append((run, figures))
    if options.out is not None:
        options.out.write_text(table(found, options.note), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
