"""Open-vocabulary segmentation on scenes with exact masks: ``python -m bench.segmentation [quality …]``.

``quality``: mIoU of every kind of features by the embedded encoders, plain and with the map of GPUA, over seeds, on
mosaics of textures and on real digits. A seed is 30 scenes of 96 pixels to segment and 60 others, without masks, to
learn the map from; windows of 32 pixels, every 8 (every 16 in learning). All choices were made on seeds from 100 on,
those for digits on drawings that are not of scikit-learn. IoU is summed over the scenes of a seed and averaged over the
classes that occur.

``throughput``: windows per second of each kind of features beside the bare tower (all tokens, projected) on the same
windows, by a network of the shape of ViT-B/16 with random weights; in turns, medians of processor seconds.

``memory``: the highest resident memory of segmenting one photo, by its size, 20 names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from itertools import product
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

import modalign as ma
from bench.machine import machine
from modalign.core.record import plain
from modalign.data.mosaics import SENTENCES, SIDE, digit_scenes, texture_scenes
from modalign.encoders.base import Encoder
from modalign.encoders.towers.vision_tower import VisionTower
from modalign.evaluate.masks.confusion_counts import segmentation_scores
from modalign.evaluate.peak_memory import PeakMemory
from modalign.linalg.similarity import unit
from modalign.segmentation.calibrated import Calibration, calibrated
from modalign.segmentation.dense import LAST_LAYERS, of_last_layer

SCENES, FITTED, STRIDE, FIT_STRIDE = 30, 60, 8, 16
ENCODERS = ("tiny", "tiny-scenes")
SCENES_OF = {"textures": (texture_scenes, SIDE), "digits": (digit_scenes, SIDE)}
"""How scenes are drawn, and the shorter side that they are segmented at."""
KINDS = ("clip", "maskclip", "maskclip-residual", "clearclip", "sclip", "scclip", "window")
MAPPED = ("clip", "maskclip", "sclip")  # with a required mean gain
FASTER = {"clip": 0.8, "maskclip": 0.8, "sclip": 0.8, "scclip": 0.5}
PHOTOS = ((480, 640), (1000, 1500), (3000, 4000), (6000, 8000), (50, 20_000))
NAMES = tuple(f"thing {i}" for i in range(20))


def quality(seeds: int, kinds: Sequence[str] = KINDS, encoders: Sequence[str] = ENCODERS) -> list[dict[str, Any]]:
    """One row per kind of scenes, encoder and kind of features: mIoU in percent by seed, plain and with a map."""
    vfm, rows = _loaded("tiny-vision"), []
    for kind, of in product(SCENES_OF, encoders):
        encoder = _loaded(of)
        for features in kinds:
            found = _over_seeds(encoder, vfm, kind, features, seeds)
            rows.append({"scenes": kind, "encoder": of, "features": features, **found})
            print(f"{kind}, {of}, {features}: {found}", file=sys.stderr)
    return rows


def _over_seeds(encoder: Encoder, vfm: Encoder, kind: str, features: str, seeds: int) -> dict[str, list[float]]:
    drawn, short_side = SCENES_OF[kind]
    found: dict[str, list[float]] = {"plain": [], "mapped": []}
    for seed in range(seeds):
        scenes, others = drawn(seed, SCENES), drawn(1000 + seed, FITTED)
        segmenter = ma.Segmenter(
            encoder, scenes.names, features=features, templates=SENTENCES, short_side=short_side, stride=STRIDE
        )
        found["plain"].append(miou(segmenter, scenes.pictures, scenes.masks))
        if features != "window":
            segmenter.fit_map(others.pictures, vfm=vfm, stride=FIT_STRIDE)
            found["mapped"].append(miou(segmenter, scenes.pictures, scenes.masks))
    return found


def miou(segmenter: ma.Segmenter, pictures: np.ndarray, masks: np.ndarray) -> float:
    """Mean IoU in percent over the classes that occur."""
    labels = [s.labels for s in segmenter.segment(pictures)]
    return 100 * segmentation_scores(labels, list(masks), n_classes=len(segmenter.names)).miou


def bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The required and the measured values for each encoder and kind of scenes, in points of mIoU."""
    found = []
    for kind, of in dict.fromkeys((row["scenes"], row["encoder"]) for row in rows):
        some = [row for row in rows if (row["scenes"], row["encoder"]) == (kind, of)]
        plain = {row["features"]: mean(row["plain"]) for row in some}
        gain = {row["features"]: mean(row["mapped"]) - plain[row["features"]] for row in some if row["mapped"]}
        if kind == "textures":
            asked = [
                ("maskclip above clip", 10, plain["maskclip"] - plain["clip"]),
                ("scclip above clip", 12, plain["scclip"] - plain["clip"]),
                ("the map on clip, maskclip and sclip, mean gain", 4, mean(gain[name] for name in MAPPED)),
                ("the map on scclip, gain", -1, gain["scclip"]),
            ]
        else:
            asked = [
                ("the best features, mIoU", 45, max(plain.values())),
                ("the map, mean gain", 4, mean(gain.values())),
                ("the map, least gain", -1, min(gain.values())),
            ]
        found += [
            {"scenes": kind, "encoder": of, "bar": name, "required": least, "found": round(value, 2)}
            for name, least, value in asked
        ]
    return found


def throughput(turns: int) -> list[dict[str, Any]]:
    """One row per kind of features: windows a second as a share of those of the bare tower."""
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(vision_config={"patch_size": 16}, text_config={"num_hidden_layers": 1})).eval()
    tower, windows = VisionTower.of(model), torch.randn(4, 3, 224, 224)
    runs: dict[str, Any] = {"tower": lambda: tower(windows, tokens=True).tokens}
    runs |= {name: lambda layer=LAST_LAYERS[name]: unit(of_last_layer(tower, windows, layer)) for name in LAST_LAYERS}
    runs["scclip"] = lambda: unit(calibrated(tower, windows, Calibration()))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(turns + 1):
            for name, run in runs.items():
                began = time.process_time()
                run()
                if turn:
                    seconds[name].append(time.process_time() - began)
    best = {name: median(values) for name, values in seconds.items()}
    return [
        {
            "features": name,
            "windows_a_second": len(windows) / best[name],
            "of_the_tower": best["tower"] / best[name],
            "required": FASTER.get(name),
        }
        for name in runs
    ]


def memory() -> list[dict[str, Any]]:
    """One row per photo: MB above the start, beside those of its pixels and of its labels and confidence."""
    segmenter = ma.Segmenter(_loaded("tiny"), NAMES, features="sclip", templates=("{}",), short_side=336, stride=16)
    list(segmenter.segment(np.zeros((1, 64, 64, 3), np.uint8)))
    rows = []
    for height, width in PHOTOS:
        photo = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        with PeakMemory() as peak:
            (found,) = segmenter.segment(photo)
        kept = found.labels.nbytes + found.confidence.nbytes
        rows.append({"height": height, "width": width, "peak": peak.bytes, "pixels": photo.nbytes, "result": kept})
    return rows


def show(part: str, rows: list[dict[str, Any]]) -> None:
    """Print the table of one part."""
    print(f"\n{part}")
    for row in rows:
        if part == "quality":
            means = [f"{mean(row[key]):5.1f}" if row[key] else "    –" for key in ("plain", "mapped")]
            each = "; ".join(" ".join(f"{value:.1f}" for value in row[key]) for key in ("plain", "mapped"))
            name = f"{row['scenes']:8} {row['encoder']:11} {row['features']:18}"
            print(f"  {name} plain {means[0]}  with the map {means[1]}   by seed: {each}")
        elif part == "bars":
            name = f"{row['scenes']:8} {row['encoder']:11} {row['bar']:48}"
            print(f"  {name} {row['found']:+6.1f} (required {row['required']:+d})")
        elif part == "throughput":
            asked = f" (required {row['required']})" if row["required"] else ""
            print(f"  {row['features']:18} {row['windows_a_second']:6.2f} windows/s {row['of_the_tower']:6.2f}{asked}")
        else:
            parts = (
                f"{key} {row[key] / 2**20:7.1f} MB" for key in ("peak", "pixels", "result") if row[key] is not None
            )
            print(f"  {row['width']:6} × {row['height']:<5} {', '.join(parts)}")


def main(arguments: list[str] | None = None) -> int:
    """Measure what is requested; 1 if a requirement was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.segmentation", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("parts", nargs="*", default=["quality", "throughput", "memory"], help="what to measure")
    parser.add_argument("--seeds", type=int, default=3, help="of the scenes, from 0")
    parser.add_argument("--features", nargs="+", choices=KINDS, default=KINDS, help="of the quality")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, help="of the quality")
    parser.add_argument("--turns", type=int, default=5, help="of the throughput")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    found: dict[str, list[dict[str, Any]]] = {}
    if "quality" in options.parts:
        found["quality"] = quality(options.seeds, options.features, options.encoders)
        if len(options.features) == len(KINDS):
            found["bars"] = bars(found["quality"])
    if "throughput" in options.parts:
        found["throughput"] = throughput(options.turns)
    if "memory" in options.parts:
        found["memory"] = memory()
    if options.json:
        print(json.dumps(plain({"machine": machine(), **found}), indent=1))
    else:
        print(machine())
        for part, rows in found.items():
            show(part, rows)
    missed = [row for row in found.get("bars", []) if row["found"] < row["required"]]
    slow = [row for row in found.get("throughput", []) if row["required"] and row["of_the_tower"] < row["required"]]
    return int(bool(missed or slow))


def _loaded(name: str) -> Encoder:
    encoder = ma.load_encoder(name, cache=False)
    assert isinstance(encoder, Encoder)
    return encoder


if __name__ == "__main__":
    sys.exit(main())
