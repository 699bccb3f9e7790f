"""Whether any method on vectors is slower with all cores than with one: ``python -m bench.speed threads``.

Every method learns from synthetic vectors and predicts them, with as many threads as there are cores, in torch and in
the libraries below NumPy, and with one. The two take turns, so that other work on the machine slows both alike, and the
medians of the wall time are compared. A size is measured if the time of the previous size, scaled by the number of
images, is within a limit; with ``--full`` the limit is twelve times as high. Environment variables that set the number
of threads are overruled.

``python -m bench.speed_threads --record FILE.jsonl`` keeps each row as it comes and goes on after an interruption.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.resuming import Record
from modalign.core.errors import InputError
from modalign.methods import METHODS, method_class
from modalign.methods.contract.parameters import parameters
from modalign.tune.threads import using_threads

SIZES = ((160, 10), (1600, 100), (10_000, 100), (100_000, 100))  # images, classes
WIDTH = 512
LIMIT = 5.0  # seconds that a fit may take
REPEATS = 3, 15  # at least, and at most while they take less than a second in all
TOLERATED = 1.25  # times as slow; the medians of equal work differ by as much on a machine with other work


def problem(n: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit images around class directions, their labels, and unit texts beside those directions."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.randn(classes, WIDTH, generator=generator), dim=1)
    noise = 1.5 / WIDTH**0.5
    y = torch.arange(n) % classes
    X = F.normalize(centers[y] + noise * torch.randn(n, WIDTH, generator=generator), dim=1)
    return X, y, F.normalize(centers + noise * torch.randn(classes, WIDTH, generator=generator), dim=1)


def measure(full: bool, record: Record | None = None) -> list[dict[str, Any]]:
    """One row per method and size, those that ``record`` has from there."""
    rows, limit, record = [], 12 * LIMIT if full else LIMIT, record or Record(None)
    last: dict[str, tuple[int, float]] = {}
    for n, classes in SIZES:
        X, y, text = problem(n, classes)
        for name in METHODS:
            before, seconds = last.get(name, (n, 0.0))
            if seconds * n / before > limit:
                continue
            run = {"method": name, "images": n, "classes": classes}
            row = record.get(run)
            if row is None:
                row = _measure(name, X, y, text) or {}
                record.add(run, row)
            if row:
                rows.append(run | row)
                last[name] = n, row["one"]
    return rows


def _measure(name: str, X: Tensor, y: Tensor, text: Tensor) -> dict[str, Any] | None:
    """Medians of the wall time with one thread and with all; None for a method that refuses the data."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[int, list[float]] = {1: [], cores: []}
    cls = method_class(name)
    seed = {"random_state": 0} if "random_state" in {p.name for p in parameters(cls)} else {}
    fewest, most = REPEATS
    for done in range(most):
        if (done >= fewest and sum(found[1]) > 1) or (done and found[1][0] > LIMIT):
            break  # what takes long is compared once
        for threads, seconds in found.items():
            with using_threads(threads), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                started = time.perf_counter()
                try:
                    cls(**seed).fit(X, y, text=text).predict(X)
                except InputError:
                    return None
                seconds.append(time.perf_counter() - started)
    one, default = median(found[1]), median(found[cores])
    return {"one": one, "all": default, "threads": cores, "ratio": default / one}


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a method is slower with all cores, by more than chance."""
    return any(row["ratio"] > TOLERATED and row["all"] - row["one"] > 0.01 for row in rows)


def show(rows: list[dict[str, Any]]) -> None:
    """One line per method: seconds with one thread → with all, for each size."""
    cores = rows[0]["threads"]
    print(f"Fit and predict, {WIDTH} numbers per image, wall seconds with one thread → with {cores}")
    sizes = sorted({(row["images"], row["classes"]) for row in rows})
    print(f"  {'':18}" + "".join(f"{f'{n:,} × {c} classes':>24}" for n, c in sizes))
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {row["images"]: row for row in rows if row["method"] == name}
        cells = [
            f"{own[n]['one']:.3f} → {own[n]['all']:.3f} ({own[n]['ratio']:.2f})" if n in own else "" for n, _ in sizes
        ]
        print(f"  {name:18}" + "".join(f"{cell:>24}" for cell in cells))


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not recorded yet, print, and return 1 if a method is slower with all cores."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed_threads", description=__doc__.split("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="also what takes long")
    parser.add_argument("--record", type=Path, help="file of the rows that were measured before, and of new ones")
    options = parser.parse_args(arguments)
    rows = measure(options.full, Record(options.record))
    show(rows)
    return int(missed(rows))


if __name__ == "__main__":
    sys.exit(main())
