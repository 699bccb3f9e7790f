"""Accuracy on real CLIP ViT-B/32 features of two benchmark data sets: ``python -m bench.real``.

Caltech101, the 68 classes that have a text vector, and Oxford Flowers-102, without text, where class means stand in for
it. The shot sets are the fixed ones of the files, so seeds vary only what a method draws itself (start and batch
order) and, with ``--validation few``, the validation images: the interval over seeds says nothing about other draws
of the shots. The interval of the test set (Wilson) stands beside it.

Everything is chosen on validation images; the test labels are sealed and each fitted method is scored once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from modalign.evaluate.metrics import mean_interval
from modalign.evaluate.protocol import SealedLabels
from modalign.methods.base import VectorMethod
from modalign.methods.cmm import CMM
from modalign.methods.linear_probe import LinearProbe
from modalign.methods.zero_shot import ZeroShot
from modalign.progress import track
from modalign.record import versions

DATA = Path(__file__).parents[2] / "shared" / "data" / "clip-vitb32"
REQUIRED = {
    ("caltech101", 1): 92.4,
    ("caltech101", 4): 95.4,
    ("caltech101", 16): 96.4,
    ("oxford_flowers", 1): 68.0,
    ("oxford_flowers", 4): 89.1,
    ("oxford_flowers", 16): 95.2,
}


@dataclass(frozen=True)
class Dataset:
    """Image vectors and labels of every part; ``text`` (C, d) or None."""

    name: str
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    text: np.ndarray | None

    @classmethod
    def load(cls, name: str, folder: Path = DATA) -> Dataset:
        """Read one file; with text, only the classes that have one, relabelled in the order of the text rows."""
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        text = arrays["text"].astype(np.float32) if "text" in arrays else None
        parts = {}
        for key in arrays:
            if not key.endswith("_images"):
                continue
            part = key.removesuffix("_images")
            X, y = arrays[key].astype(np.float32), arrays[f"{part}_labels"].astype(np.int64)
            if text is not None:
                order = np.argsort(arrays["text_labels"])
                at = np.searchsorted(arrays["text_labels"], y, sorter=order).clip(max=len(order) - 1)
                kept = arrays["text_labels"][order[at]] == y
                X, y = X[kept], order[at][kept]
            parts[part] = X, y
        return cls(name, parts, text)


@dataclass(frozen=True)
class Row:
    """One method at one number of shots; accuracies in percent, ``low``…``high`` the 95 % interval over seeds."""

    dataset: str
    shots: int
    method: str
    mean: float
    low: float | None  # None for a single run
    high: float | None
    accuracies: tuple[float, ...]
    test_low: float  # Wilson, of the seed-mean accuracy on n_test images
    test_high: float
    n_test: int
    required: float | None
    fit_seconds: float


def few_per_class(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of ``count`` random images of every class: CoOp validates on min(shots, 4) a class."""
    order = np.random.default_rng(seed).permutation(len(y))
    return np.sort(np.concatenate([order[y[order] == c][:count] for c in np.unique(y)]))


def measure(
    data: Dataset, shots: int, name: str, build: Callable[[int], VectorMethod], seeds: list[int], validation: str
) -> Row:
    """Fit and score one method for every seed."""
    (X, y), (Xv, yv), (Xt, yt) = (data.parts[part] for part in (f"shots{shots}", "val", "test"))
    text = None if name == "nearest mean" else data.text
    accuracies, seconds, hits = [], [], []
    for seed in seeds:
        chosen = few_per_class(yv, min(shots, 4), seed) if validation == "few" else np.arange(len(yv))
        started = time.perf_counter()
        method = build(seed).fit(X, y, text=text, validation=(Xv[chosen], yv[chosen]))
        seconds.append(time.perf_counter() - started)
        result = SealedLabels(yt).score(method.predict(Xt))
        accuracies.append(100 * result.top1)
        hits.append((result.low, result.high))
    interval, several = mean_interval(accuracies), len(seeds) > 1
    low, high = np.mean(hits, axis=0)
    return Row(
        dataset=data.name,
        shots=shots,
        method=name,
        mean=interval.mean,
        low=interval.low if several else None,
        high=interval.high if several else None,
        accuracies=tuple(accuracies),
        test_low=100 * float(low),
        test_high=100 * float(high),
        n_test=len(yt),
        required=REQUIRED.get((data.name, shots)) if name == "CMM" else None,
        fit_seconds=float(np.mean(seconds)),
    )


def methods(data: Dataset, steps: int) -> dict[str, Callable[[int], VectorMethod]]:
    """Name → how to build it for a seed; only CMM draws anything itself."""
    rows: dict[str, Callable[[int], VectorMethod]] = {} if data.text is None else {"zero-shot": lambda seed: ZeroShot()}
    return rows | {
        "nearest mean": lambda seed: ZeroShot(),
        "linear probe": lambda seed: LinearProbe(),
        "CMM": lambda seed: CMM(steps=steps, random_state=seed),
    }


def show(rows: list[Row], protocol: str) -> None:
    """The table, for people."""
    print(protocol)
    heads = ("over seeds", "test set", "required")
    print(f"{'data':15} {'shots':>5}  {'method':13} {'top-1':>6}  {heads[0]:15} {heads[1]:15} {heads[2]:>8}  fit")
    for row in rows:
        seeds = "one run" if row.low is None else f"{row.low:.2f} to {row.high:.2f}"
        verdict = "" if row.required is None else f"{row.required:.1f} {'✓' if row.mean >= row.required else '✗'}"
        print(
            f"{row.dataset:15} {row.shots:>5}  {row.method:13} {row.mean:6.2f}  {seeds:15} "
            f"{row.test_low:.2f} to {row.test_high:.2f}  {verdict:>8}  {row.fit_seconds:.1f} s"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 1 if a required accuracy was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=__doc__.split("\n\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "oxford_flowers"], help="files to measure on")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4, 16], help="labelled images a class")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--steps", type=int, default=16_000, help="of CMM; 16,000 is its published schedule")
    parser.add_argument(
        "--validation", choices=["all", "few"], default="few", help="min(shots, 4) images a class, as CoOp, or all"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        print(f"The features are not at {DATA}; there is nothing to measure.", file=sys.stderr)
        return 2
    cells = [
        (data, shots, name, build)
        for data in map(Dataset.load, options.datasets)
        for shots in options.shots
        for name, build in methods(data, options.steps).items()
    ]
    rows = []
    for data, shots, name, build in track(cells, "methods and shots", unit="cells"):
        varies = name == "CMM" or (name == "linear probe" and options.validation == "few")
        seeds = list(range(options.seeds if varies else 1))
        rows.append(measure(data, shots, name, build, seeds, options.validation))
    protocol = (
        f"Fixed shot sets; {options.seeds} seeds vary start, batch order"
        + (" and validation images (min(shots, 4) a class)" if options.validation == "few" else "")
        + f"; choices on {'all' if options.validation == 'all' else 'few'} validation images; one test each; "
        f"CMM {options.steps} steps."
    )
    if options.json:
        found = {"protocol": protocol, "rows": [asdict(row) for row in rows], "versions": versions()}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        show(rows, protocol)
    return int(any(row.required is not None and row.mean < row.required for row in rows))


if __name__ == "__main__":
    sys.exit(main())
