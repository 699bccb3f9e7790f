"""Accuracy of methods that learn inside an encoder, trained in float32 and in bfloat16.

``tiny`` on the digits, 16 labels per class, half of the images tested, settings of :mod:`bench.tower`, equal draws and
seeds for both. A network as small as ``tiny`` always trains in float32 by default; here bfloat16 is forced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import modalign as ma
from bench.tower import SETTINGS, TESTED, Task, fitted, mark
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.splits.drawing import few_shot
from modalign.evaluate.metrics import mean_interval

METHODS, SHOTS, SEEDS, EPOCHS = ("coop", "maple", "align"), 16, (0, 1, 2), 5
KINDS = ("float32", "bfloat16")


def measure(full: bool) -> list[dict[str, Any]]:
    """A row per method: percent right by precision and seed; a few epochs unless ``full``."""
    task = Task(load_digits(), DIGIT_TEMPLATES, ma.load_encoder("tiny", dtype="float32"))
    return [_row(name, task, SETTINGS[name] | ({} if full else {"epochs": EPOCHS})) for name in METHODS]


def _row(name: str, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": name, "epochs": settings["epochs"], **{kind: [] for kind in KINDS}}
    everything, seconds = np.arange(len(task.items.class_names)), dict.fromkeys(KINDS, 0.0)
    for seed in SEEDS:
        split = few_shot(task.items, SHOTS, seed, test=TESTED)
        train, test = (task.some(everything, part) for part in (split.train, split.test))
        for kind in KINDS:
            own = settings | {"training": settings["training"] | {"precision": kind}}
            method, took = fitted(name, own, seed, train, task)
            row[kind].append(mark(method, test, task.encoder))
            seconds[kind] += took / len(SEEDS)
    return row | {"seconds": seconds, "loses": _losses(row)}


def _losses(row: dict[str, Any]) -> dict[str, float]:
    """Points that bfloat16 loses: mean over the seeds and 95 % interval of the paired differences."""
    found = mean_interval(np.subtract(row["float32"], row["bfloat16"]))
    return {"mean": found.mean, "low": found.low, "high": found.high}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("            epochs         float32        bfloat16    bfloat16 loses (95 % interval)   seconds of a fit")
    for row in rows:
        means = [mean_interval(row[kind], bounds=(0, 100)) for kind in KINDS]
        cells = "  ".join(f"{found.mean:6.2f} ± {found.high - found.mean:5.2f}" for found in means)
        loses, seconds = row["loses"], " and ".join(f"{row['seconds'][kind]:.1f}" for kind in KINDS)
        interval = f"{loses['mean']:+.2f} ({loses['low']:+.2f} to {loses['high']:+.2f})"
        print(f"  {row['method']:8} {row['epochs']:7}  {cells}   {interval:>31}   {seconds}")


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether bfloat16 loses accuracy: the whole interval is above zero."""
    return any(row["loses"]["low"] > 0 for row in rows)
