"""Common parts of the benchmarks on real CLIP ViT-B/32 features: the data, accuracies over seeds, the command line."""

from __future__ import annotations

import argparse
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modalign.core.progress import track
from modalign.core.record import plain, versions
from modalign.evaluate.metrics import mean_interval
from modalign.evaluate.sealed import SealedLabels
from modalign.linalg.calibration import expected_calibration_error
from modalign.methods.contract.vectors import VectorMethod

DATA = Path(os.environ.get("MODALIGN_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data" / "clip-vitb32"))

Build = Callable[[int], VectorMethod]
"""How to build a method for a seed."""


@dataclass(frozen=True)
class Dataset:
    """Image vectors and labels of every part; ``text`` (C, d) with the names of the classes, or None.

    ``second`` has vectors of the images of some parts by another, vision-only network.
    """

    name: str
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    text: np.ndarray | None
    class_names: tuple[str, ...]
    second: dict[str, np.ndarray]

    @classmethod
    def load(cls, name: str, folder: Path = DATA) -> Dataset:
        """Read one file; with text, only the classes that have one, relabeled in the order of the text rows."""
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        text = arrays["text"].astype(np.float32) if "text" in arrays else None
        names = tuple(arrays["text_names"].tolist()) if "text_names" in arrays else ()
        parts, second = {}, {}
        for part in (key.removesuffix("_images") for key in arrays if key.endswith("_images")):
            y = arrays[f"{part}_labels"].astype(np.int64)
            kept = np.full(len(y), True)
            if text is not None:
                order = np.argsort(arrays["text_labels"])
                at = np.searchsorted(arrays["text_labels"], y, sorter=order).clip(max=len(order) - 1)
                kept, y = arrays["text_labels"][order[at]] == y, order[at]
            parts[part] = arrays[f"{part}_images"][kept].astype(np.float32), y[kept]
            if f"{part}_second" in arrays:
                second[part] = arrays[f"{part}_second"][kept].astype(np.float32)
        return cls(name, parts, text, names, second)


class Judged(ABC):
    """A row of results, in percent, of which an accuracy may be required."""

    required: float | None

    @abstractmethod
    def judged(self) -> float:
        """The accuracy that ``required`` is about."""

    def missed(self) -> bool:
        return self.required is not None and self.judged() < self.required

    def verdict(self) -> str:
        return "" if self.required is None else f"{self.required:.1f} {'✗' if self.missed() else '✓'}"


@dataclass(frozen=True)
class Row(Judged):
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
    calibration_error: float | None  # expected calibration error of the test probabilities, 15 bins, in percent
    fit_seconds: float  # of the processor

    def judged(self) -> float:
        return self.mean


@dataclass(frozen=True)
class Cell:
    """What makes a :class:`Row`; ``transductive`` methods see the test images, without labels, in fitting.

    ``validated`` is whether the method is given validation images.
    """

    data: Dataset
    shots: int
    name: str
    build: Build
    seeds: int
    transductive: bool = False
    required: float | None = None
    validated: bool = True


def few_per_class(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of ``count`` random images of every class: CoOp validates on min(shots, 4) per class."""
    order = np.random.default_rng(seed).permutation(len(y))
    return np.sort(np.concatenate([order[y[order] == c][:count] for c in np.unique(y)]))


def measure(cell: Cell, validation: str) -> Row:
    """Fit on the shot set for every seed, and score the predictions for the test images once."""
    data, shots = cell.data, cell.shots
    (Xv, yv), (Xt, yt) = data.parts["val"], data.parts["test"]
    X, y = data.parts[f"shots{shots}"] if shots else (Xt[:0], yt[:0])
    if cell.transductive:
        X, y = np.concatenate([X, Xt]), np.concatenate([y, np.full(len(Xt), -1)])
    text = None if cell.name == "nearest mean" else data.text
    seconds, marks, errors = [], [], []
    for seed in range(cell.seeds):
        chosen = few_per_class(yv, min(shots, 4), seed) if validation == "few" else np.arange(len(yv))
        held_out = (Xv[chosen], yv[chosen]) if shots and cell.validated else None
        started = time.process_time()
        method = cell.build(seed).fit(X, y, text=text, validation=held_out)
        seconds.append(time.process_time() - started)
        answers = method.transduction_[-len(Xt) :] if cell.transductive else method.predict(Xt)
        marks.append(SealedLabels(yt).score(answers))
        if not cell.transductive:
            probabilities = torch.from_numpy(method.predict_proba(Xt))
            errors.append(100 * expected_calibration_error(probabilities, torch.from_numpy(yt)))
    accuracies = [100 * mark.top1 for mark in marks]
    interval, several = mean_interval(accuracies, bounds=(0, 100)), cell.seeds > 1
    return Row(
        dataset=data.name,
        shots=shots,
        method=f"{cell.name} (t)" if cell.transductive else cell.name,
        mean=interval.mean,
        low=interval.low if several else None,
        high=interval.high if several else None,
        accuracies=tuple(accuracies),
        test_low=100 * float(np.mean([mark.low for mark in marks])),
        test_high=100 * float(np.mean([mark.high for mark in marks])),
        n_test=len(yt),
        required=cell.required,
        calibration_error=float(np.mean(errors)) if errors else None,
        fit_seconds=float(np.mean(seconds)),
    )


def show(rows: Sequence[Row], protocol: str) -> None:
    """Print the table."""
    print(protocol)
    heads = ("data", "shots", "method", "top-1", "over seeds", "test set", "required", "calib.")
    print("{:15} {:>5}  {:18} {:>6}  {:15} {:15} {:>8}  {:>6}  fit".format(*heads))
    for row in rows:
        seeds = "one run" if row.low is None else f"{row.low:.2f} to {row.high:.2f}"
        error = "" if row.calibration_error is None else f"{row.calibration_error:.1f}"
        print(
            f"{row.dataset:15} {row.shots:>5}  {row.method:18} {row.mean:6.2f}  {seeds:15} "
            f"{row.test_low:.2f} to {row.test_high:.2f}  {row.verdict():>8}  {error:>6}  {row.fit_seconds:.1f} s"
        )


def command(name: str, doc: str) -> argparse.ArgumentParser:
    """The command line of one benchmark, named and described by its module."""
    return argparse.ArgumentParser(prog=f"python -m bench.{name}", description=doc.split("\n\n")[0])


def add_cells(parser: argparse.ArgumentParser, shots: list[int]) -> None:
    """Options for rows of several data sets, shots and seeds."""
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "oxford_flowers"], help="files to measure on")
    parser.add_argument("--shots", nargs="+", type=int, default=shots, help="labeled images per class")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")


def add_validation(parser: argparse.ArgumentParser) -> None:
    """Which validation images methods are given."""
    parser.add_argument(
        "--validation", choices=["all", "few"], default="few", help="min(shots, 4) images per class, as CoOp, or all"
    )


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """The options; without the feature files that they need, one sentence and exit status 2."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if getattr(options, "datasets", None) != ["digits"] and not DATA.is_dir():
        parser.exit(
            2,
            f"Expected files of features in '{DATA}', there is no such folder; bench/README.md describes "
            "them. Set MODALIGN_BENCH_DATA to use another folder.\n",
        )
    return options


def run(cells: Sequence[Cell], protocol: str, options: argparse.Namespace) -> int:
    """Measure every cell and print what was found; 1 if a required accuracy was missed."""
    rows = [measure(cell, options.validation) for cell in track(cells, "methods and shots", unit="cells")]
    return report(rows, show, options.json, protocol=protocol)


def report(rows: Sequence[Judged], show: Callable[..., None], as_json: bool, **head: Any) -> int:
    """Print a table or JSON, under ``head``; 1 if a required accuracy was missed."""
    if as_json:
        print(json.dumps(plain({**head, "rows": [asdict(row) for row in rows], "versions": versions()}), indent=1))
    else:
        show(rows, **head)
    return int(any(row.missed() for row in rows))
