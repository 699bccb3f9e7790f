"""Accuracy of the baselines on the data of :mod:`bench.real`, by its protocol: ``python -m bench.real_baselines``.

Beside it, the methods that learn from unlabelled images, on the test images themselves ("transductive"): they get
these without labels, with the labelled images of the shot set or, at 0 shots, with none, and are marked on what they
answer for them. The test labels are sealed and every fitted method is marked once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from bench.real import DATA, Dataset, Row, few_per_class, measure, show
from modalign.evaluate.metrics import mean_interval
from modalign.evaluate.protocol import SealedLabels
from modalign.methods.base import VectorMethod
from modalign.methods.cma import CMA
from modalign.methods.cross_modal_probe import CrossModalProbe
from modalign.methods.lfa import LFA
from modalign.methods.tip_adapter import TipAdapter, TipAdapterF
from modalign.methods.transclip import TransCLIP
from modalign.methods.zero_shot import ZeroShot
from modalign.progress import track
from modalign.record import versions

Build = Callable[[int], VectorMethod]


def inductive(data: Dataset) -> dict[str, Build]:
    """Name → how to build it for a seed; learned from labelled images, tested on others."""
    start = "nearest mean" if data.text is None else "zero-shot"
    return {
        start: lambda seed: ZeroShot(),
        "Tip-Adapter": lambda seed: TipAdapter(),
        "Tip-Adapter-F": lambda seed: TipAdapterF(random_state=seed),
        "LFA": lambda seed: LFA(random_state=seed),
        "cross-modal": lambda seed: CrossModalProbe(random_state=seed),
        "CMA pairs": lambda seed: CMA(form="pairwise"),
        "CMA sets": lambda seed: CMA(form="sets"),
    }


def transductive(data: Dataset, shots: int) -> dict[str, Build]:
    """The same for methods that see the test images without labels."""
    few: dict[str, Build] = {"TransCLIP": lambda seed: TransCLIP()}
    if shots:
        return few
    return {} if data.text is None else few | {"LFA": lambda seed: LFA(random_state=seed)}


def measure_transductive(
    data: Dataset, shots: int, name: str, build: Build, seeds: list[int], validation: str
) -> Row:
    """Fit on the shot set and the unlabelled test images, and mark the answers for these."""
    (Xv, yv), (Xt, yt) = data.parts["val"], data.parts["test"]
    X, y = data.parts[f"shots{shots}"] if shots else (Xt[:0], yt[:0])
    rows, labels = np.concatenate([X, Xt]), np.concatenate([y, np.full(len(Xt), -1)])
    accuracies, seconds, results = [], [], []
    for seed in seeds:
        chosen = few_per_class(yv, min(shots, 4), seed) if validation == "few" else np.arange(len(yv))
        held_out = (Xv[chosen], yv[chosen]) if shots else None
        started = time.perf_counter()
        method = build(seed).fit(rows, labels, text=data.text, validation=held_out)
        seconds.append(time.perf_counter() - started)
        result = SealedLabels(yt).score(method.transduction_[len(X) :])
        accuracies.append(100 * result.top1)
        results.append((result.low, result.high))
    interval, several = mean_interval(accuracies), len(seeds) > 1
    low, high = np.mean(results, axis=0)
    return Row(
        dataset=data.name,
        shots=shots,
        method=f"{name} (t)",
        mean=interval.mean,
        low=interval.low if several else None,
        high=interval.high if several else None,
        accuracies=tuple(accuracies),
        test_low=100 * float(low),
        test_high=100 * float(high),
        n_test=len(yt),
        required=None,
        fit_seconds=float(np.mean(seconds)),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_baselines", description=__doc__.split("\n\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["caltech101", "oxford_flowers"], help="files to measure on")
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 1, 4, 16], help="labelled images a class")
    parser.add_argument("--methods", nargs="+", help="only these rows, by the name in the table without (t)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument(
        "--validation", choices=["all", "few"], default="few", help="min(shots, 4) images a class, as CoOp, or all"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        print(f"The features are not at {DATA}; there is nothing to measure.", file=sys.stderr)
        return 2
    cells = [
        (how, data, shots, name, build)
        for data in map(Dataset.load, options.datasets)
        for shots in options.shots
        for how, table in (
            (measure, inductive(data) if shots else {}),
            (measure_transductive, transductive(data, shots)),
        )
        for name, build in table.items()
        if options.methods is None or name in options.methods
    ]
    seeds = list(range(options.seeds))
    rows = [
        how(data, shots, name, build, seeds, options.validation)
        for how, data, shots, name, build in track(cells, "methods and shots", unit="cells")
    ]
    protocol = (
        f"Fixed shot sets; {options.seeds} seeds vary start and batch order"
        + (" and the validation images (min(shots, 4) a class)" if options.validation == "few" else "")
        + "; (t) transductive: the test images are seen in fitting, without labels; one test each."
    )
    if options.json:
        found = {"protocol": protocol, "rows": [asdict(row) for row in rows], "versions": versions()}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        show(rows, protocol)
    return 0


if __name__ == "__main__":
    sys.exit(main())
