"""Processor seconds of the candidates of ``auto``: ``python -m bench.auto_costs``, which prints the table ``COSTS``.

Each candidate is fitted to all labeled images and to the five folds, as ``auto`` does, on files of features: with class
text and without it, and for the numbers of shots and of classes below. Where a file has no text, the class means of
its validation images stand for it. A cost is the largest time on a data set, each divided by the size of its problem
where that is larger than ``SIZE`` of ``methods/auto/auto_timing.py``, in the mean over the data sets. Processor seconds
depend less on the load of the machine than wall time; one thread is used.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from bench.accuracy import DATA, Dataset
from bench.machine import machine
from modalign.methods.auto.auto import Auto
from modalign.methods.auto.auto_pool import WITH_LABELS, fit_member
from modalign.methods.auto.auto_timing import SIZE
from modalign.methods.auto.auto_trials import groups_of_views, trials
from modalign.methods.contract.problem import Problem

DATASETS = ("caltech101", "oxford_flowers")
PROBLEMS = ((16, 102), (4, 102), (16, 20))
"""Shots, and classes of which these are drawn."""


def read(data: Dataset, shots: int, n_classes: int, text: bool) -> Problem:
    """The labeled images of the first classes as a method gets them."""
    X, y = data.parts[f"shots{shots}"]
    kept = y < n_classes
    method = Auto(random_state=0)
    method.encoder_ = None
    rows = text_of(data)[:n_classes] if text else None
    return method._read_problem(X[kept], y[kept], rows, None, None, None)


def text_of(data: Dataset) -> np.ndarray:
    """(C, d) class text, or the class means of the validation images."""
    if data.text is not None:
        return data.text
    X, y = data.parts["val"]
    return np.stack([X[y == k].mean(axis=0) for k in range(y.max() + 1)])


def seconds_of(name: str, problem: Problem) -> float:
    """Processor seconds of a fit and of the fits of all folds."""
    division = trials(problem, groups_of_views(problem), seed=0)
    assert division is not None
    started = time.process_time()
    chosen = fit_member(name, problem, 0).chosen()
    for learned, _ in division.parts:
        fit_member(name, problem, 0, learned, **chosen)
    return time.process_time() - started


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.auto_costs", description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=DATASETS, help=f"files of {DATA}")
    parser.add_argument("--methods", nargs="+", default=WITH_LABELS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine())
    loaded = [Dataset.load(name) for name in options.datasets]
    cells = [(data, *size) for data in loaded for size in PROBLEMS]
    print("method", "text", *(f"{data.name} {shots}x{n}" for data, shots, n in cells), sep="\t")
    costs = {}
    for name in options.methods:
        for text in (True, False):
            problems = [read(*cell, text) for cell in cells]
            found = [seconds_of(name, problem) for problem in problems]
            print(name, text, *(f"{seconds:.2f}" for seconds in found), sep="\t", flush=True)
            factors = [max(1.0, problem.X.numel() * problem.n_classes / SIZE) for problem in problems]
            scaled = (np.array(found) / factors).reshape(len(loaded), -1)
            costs[name, text] = float(scaled.max(axis=1).mean())
    for name in options.methods:
        print(f'    "{name}": ({costs[name, True]:.1f}, {costs[name, False]:.1f}),')


if __name__ == "__main__":
    main()
