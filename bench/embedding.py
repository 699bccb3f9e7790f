"""Speed of embedding images: ``python -m bench.embedding``.

Two measurements. *Throughput*: ``embed_images`` with everything it does (reading, decoding, resizing, hashing,
committing to the store) against the bare loop of the same network over the same batches, prepared beforehand and in
memory; the two alternate in one run, and the medians of both and of their ratio are reported. The network is the size
of CLIP ViT-B/32 with random weights, saved and loaded like any other. It is measured on photos of 0.07 megapixels as
they are, and of 3 and 12: the same enlarged, with the grain of a camera, as JPEG of quality 90. ``--cores`` keeps the
process on so many cores. The share of processor seconds does not depend on other work on the machine. *Warm cache*: how
long it takes to get 10,000 images' vectors of width 512 that are in the store already, from listing the folder on, and
what it adds that every vector is verified against its checksum."""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import modalign
from bench.machine import machine
from modalign.core.progress import track
from modalign.core.record import versions
from modalign.data.items import Items, load_items
from modalign.encoders import Encoder, load_encoder
from modalign.encoders.features.vector_table import VectorTable

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "caltech101-folder"
SIZES = {0.07: None, 3: (2000, 1500), 12: (4032, 3024)}  # megapixels → pixels; None for photos as they are
REQUIRED_SHARE = {0.07: 0.9, 3: 0.75, 12: 0.6}
REQUIRED_SECONDS = 1.0
REQUIRED_CHECK = 0.03  # of a warm read without checksums
WIDTH = 512


def random_clip(folder: Path) -> Path:
    """A CLIP with the image tower of ViT-B/32 (88 M parameters) and random weights, as a checkpoint.

    The text tower is small, with the tokenizer of ``tiny``, and the file in half precision, since neither is measured
    and disks can be slow.
    """
    from transformers import CLIPConfig, CLIPModel

    from modalign.encoders.quiet import quiet

    tiny = Path(modalign.__file__).parent / "encoders" / "weights" / "tiny"
    special = json.loads((tiny / "config.json").read_text())["text_config"]
    torch.manual_seed(0)
    with quiet():
        text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
        text |= {name: special[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        CLIPModel(CLIPConfig(text_config=text)).half().save_pretrained(folder)
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    processor = {"image_processor_type": "CLIPImageProcessor", "image_mean": mean, "image_std": deviation}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    return folder


def large_photos(items: Items, size: tuple[int, int], folder: Path) -> Items:
    """The same photos at another size, with noise of up to 8 levels, as a camera's are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(len(items)):
        pixels = np.asarray(items.open(i).resize(size, Image.Resampling.BICUBIC))
        noisy = pixels + rng.integers(-8, 9, (*pixels.shape[:2], 1), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)
    return load_items(folder)


def photos(n: int, folder: Path) -> tuple[Items, str]:
    """n JPEG photos: real ones if they are at hand, else made of noise of several scales."""
    if PHOTOS.is_dir():
        items = load_items(PHOTOS)
        return items.select(np.linspace(0, len(items) - 1, min(n, len(items))).astype(int)), "caltech101-folder"
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        picture = sum(
            np.asarray(Image.fromarray(rng.integers(0, 80, (c, c, 3), dtype=np.uint8)).resize((300, 225), 3), dtype=int)
            for c in (4, 16, 64)
        )
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)
    return load_items(folder), "generated"


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call, including pending work of the GPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_loop(encoder: Encoder, batches: list[dict[str, torch.Tensor]]) -> None:
    """The network over prepared batches, and the vectors brought to the host: the least work of any pipeline."""
    with torch.inference_mode():
        for batch in batches:
            encoder.model.get_image_features(**batch).pooler_output.cpu()


def throughputs(work: Path, n: int, repeats: int, dtype: str, device: str) -> list[dict[str, object]]:
    """One row for each size of photo; of the larger ones a third."""
    encoder = load_encoder(random_clip(work / "clip"), device=device, dtype=dtype, cache=work / "cache")
    items, source = photos(n, work / "photos")
    rows = []
    for megapixels, size in SIZES.items():
        some = items if size is None else large_photos(items.select(slice(0, None, 3)), size, work / f"{megapixels}")
        rows.append({"megapixels": megapixels, "photos": source, **throughput(encoder, some, repeats)})
        rows[-1]["required_share"] = REQUIRED_SHARE[megapixels]
    return rows


def throughput(encoder: Encoder, items: Items, repeats: int) -> dict[str, object]:
    """Images a second of both, their ratio, and what was measured."""
    prepared = [encoder.preprocessing.prepare(items.open(i)) for i in range(len(items))]
    size = encoder.batch_size
    batches = [
        encoder.preprocessing.inputs(prepared[start : start + size], encoder.device, encoder.dtype)
        for start in range(0, len(prepared), size)
    ]
    bare_loop(encoder, batches[:1])
    runs: dict[str, list[tuple[float, float]]] = {"bare": [], "embed": []}

    def embed() -> None:
        encoder.embed_images(items, progress=False)

    for repeat in track(range(repeats), "Embedding and the bare loop in turn", unit="rounds"):
        for name in ("bare", "embed") if repeat % 2 else ("embed", "bare"):
            if name == "embed":
                for table in encoder.store.root.glob("*-centre"):
                    shutil.rmtree(table)
            runs[name].append(seconds(embed if name == "embed" else lambda: bare_loop(encoder, batches)))
    walls = {name: [wall for wall, _ in found] for name, found in runs.items()}
    return {
        "images": len(items),
        "device": encoder.device_name,
        "dtype": encoder.spec.dtype,
        "threads": torch.get_num_threads(),
        "batch_size": size,
        "bare_images_per_second": round(len(items) / median(walls["bare"]), 2),
        "embed_images_per_second": round(len(items) / median(walls["embed"]), 2),
        "share_of_bare": round(median(b / e for b, e in zip(walls["bare"], walls["embed"], strict=True)), 4),
        "share_of_processor_seconds": round(
            median(b / e for (_, b), (_, e) in zip(runs["bare"], runs["embed"], strict=True)), 4
        ),
        "extra_processor_ms_per_image": round(
            1e3 * median(e - b for (_, b), (_, e) in zip(runs["bare"], runs["embed"], strict=True)) / len(items), 2
        ),
    }


def warm_cache(work: Path, n: int, repeats: int) -> dict[str, object]:
    """Seconds to the vectors of n images that are all in the store: list, stat, look up, map."""
    folder = work / "many"
    rng = np.random.default_rng(1)
    for i in track(range(n), "Writing pictures", unit="images"):
        path = folder / f"class {i % 100:02d}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    time.sleep(0.2)  # until the last file counts as settled
    encoder = load_encoder("tiny", cache=work / "warm", dtype="float32")
    first, _ = seconds(lambda: encoder.embed_images(folder, progress=False))
    encoder = widened(encoder, load_items(folder))
    opened, shares = [], []
    for _ in track(range(repeats), "Reading the warm cache", unit="reads"):
        with patch.object(VectorTable, "_differ", timed(VectorTable._differ, verifying := [])):
            wall, cpu = seconds(lambda: encoder.embed_images(folder, progress=False))
        opened.append(wall)
        shares.append(sum(verifying) / (cpu - sum(verifying)))
    return {
        "images": n,
        "width": WIDTH,
        "first_run_seconds": round(first, 2),
        "open_seconds": round(median(opened), 3),
        "required_seconds": REQUIRED_SECONDS,
        "share_of_verifying": round(median(shares), 4),
        "required_share_of_verifying": REQUIRED_CHECK,
    }


def timed(function: Callable[..., object], cpu_seconds: list[float]) -> Callable[..., object]:
    """``function``, which also appends the processor seconds of each call to a list."""

    @wraps(function)
    def call(*args: object) -> object:
        started = time.process_time()
        try:
            return function(*args)
        finally:
            cpu_seconds.append(time.process_time() - started)

    return call


def widened(encoder: Encoder, items: Items) -> Encoder:
    """An encoder with vectors of the usual width, for which those of ``items`` are in the store."""
    wide = copy.copy(encoder)
    wide.spec = replace(encoder.spec, dim=WIDTH, fingerprint="0" * 64)
    vectors = np.random.default_rng(0).normal(size=(len(items), WIDTH)).astype(np.float32)
    with wide.store.files() as files, wide.store.table(wide.spec.fingerprint, "center", WIDTH) as table:
        table.add(files.contents([items.identity(i) for i in range(len(items))]), vectors)
    return wide


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 if a requirement was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.embedding", description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=96, help="photos for the throughput")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; medians are reported")
    parser.add_argument("--dtype", default="auto", help="compute type, as load_encoder takes it")
    parser.add_argument("--device", default="auto", help="device, as load_encoder takes it")
    parser.add_argument("--warm", type=int, default=10_000, help="images of the warm cache")
    parser.add_argument("--cores", type=int, help="cores to keep the process on; all by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
        torch.set_num_threads(options.cores)
    with tempfile.TemporaryDirectory(prefix="modalign-bench-") as name:
        warm = warm_cache(Path(name), options.warm, options.repeats)
        speed = throughputs(Path(name), options.images, options.repeats, options.dtype, options.device)
    if options.json:
        print(json.dumps({"throughput": speed, "warm_cache": warm, "versions": versions()}, indent=1))
    else:
        print(machine())
        for row in speed:
            print(
                f"{row['images']} photos of {row['megapixels']} MP, {row['device']}, {row['threads']} threads: "
                f"embed_images {row['embed_images_per_second']} images/s, bare loop {row['bare_images_per_second']}, "
                f"{100 * row['share_of_bare']:.1f} % of it, {100 * row['share_of_processor_seconds']:.1f} % by "
                f"processor seconds (required {100 * row['required_share']:.0f} %)"
            )
        print(
            f"{warm['images']} images in the store: opened in {warm['open_seconds']} s (required "
            f"{REQUIRED_SECONDS} s); the first run took {warm['first_run_seconds']} s; verifying checksums adds "
            f"{100 * warm['share_of_verifying']:.1f} % (required {100 * REQUIRED_CHECK:.0f} %)"
        )
    slow = any(row["share_of_processor_seconds"] < row["required_share"] for row in speed)
    slow |= warm["open_seconds"] > REQUIRED_SECONDS
    return int(slow or warm["share_of_verifying"] > REQUIRED_CHECK)


if __name__ == "__main__":
    sys.exit(main())
