"""Precision and recall of the audit on planted label errors: ``python -m bench.audit``.

Needs ``SHARED``, a folder with ``data/clip-vitb32``, for the rows of CLIP; without it the digits alone are measured.
``--kind pairs`` replaces labels by the next class in place of any other. The second table has the labels as they are
published, of which every one that is reported counts as a false alarm; its draws differ in the folds alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.machine import machine
from modalign.audit.label_errors import find_label_errors
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.encoders import load_encoder
from modalign.linalg.calibration import fit_temperature
from modalign.methods import method_class
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.methods.contract.vectors import VectorMethod

HEADER = ("images", "wrong labels", "reported", "estimated share, %", "precision", "recall", "confident learning alone")
FALSE_ALARMS = ("images", "labels", "reported", "share reported, %", "estimated share, %", "confident learning alone")
CLEAN_DRAWS = 5
SETS = {"Caltech101": "caltech101.npz", "Oxford Flowers": "oxford_flowers.npz"}


def sources() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, unit vectors and published labels."""
    digits = load_digits()
    yield "digits, tiny", load_encoder("tiny").embed_images(digits).vectors, digits.labels
    folder = Path(os.environ.get("SHARED", "shared"), "data", "clip-vitb32")
    for name, file in SETS.items():
        if (folder / file).is_file():
            found = np.load(folder / file)
            for part, words in (("shots16", "16 per class"), ("val", "validation part")):
                X = found[f"{part}_images"].astype(np.float32)
                yield f"{name}, {words}", X / np.linalg.norm(X, axis=1, keepdims=True), found[f"{part}_labels"]


def with_errors(labels: np.ndarray, share: float, seed: int, kind: str) -> np.ndarray:
    """The labels with a share replaced by another class, drawn uniformly, or by the next one."""
    rng, n_classes = np.random.default_rng(seed), int(labels.max()) + 1
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    step = rng.integers(1, n_classes, len(wrong)) if kind == "any" else 1
    found = labels.astype(np.int64)
    found[wrong] = (labels[wrong] + step) % n_classes
    return found


def counted(features: Features, random_state: int = 0) -> np.ndarray:
    """Rows by confident learning alone: with probabilities of a temperature fitted without regard to errors."""
    import torch
    from cleanlab.filter import find_label_issues

    found = cross_fit(_learner(), features, random_state=random_state)
    logits = torch.from_numpy(found.scored.logits)
    temperature = fit_temperature(logits, torch.from_numpy(found.scored.labels))
    p = (logits / temperature).softmax(dim=1).numpy()
    return found.rows[find_label_issues(found.scored.labels, p, filter_by="low_self_confidence", n_jobs=1)]


def main() -> None:
    """Print a table in Markdown: means over the draws, and the lowest draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--only", default="", help="part of the names of the sets to measure")
    parser.add_argument("--kind", choices=("any", "pairs"), default="any")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.draws)
    chosen = [source for source in sources() if given.only in source[0]]
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, X, labels in chosen if given.share else []:
        print(f"| {' | '.join(planted(name, X, labels, seeds, given.share, given.kind))} |", flush=True)
    print(f"\n| {' | '.join(FALSE_ALARMS)} |\n|{'---|' * len(FALSE_ALARMS)}")
    for name, X, labels in chosen:
        print(f"| {' | '.join(false_alarms(name, X, labels, seeds[:CLEAN_DRAWS]))} |", flush=True)
    print(f"\n{machine()}")


def planted(name: str, X: np.ndarray, labels: np.ndarray, seeds: range, share: float, kind: str) -> list[str]:
    """A row of the first table."""
    rows = []
    for seed in seeds:
        noisy = with_errors(labels, share, seed, kind)
        features, wrong = _features(X, noisy), noisy != labels
        found = find_label_errors(features, _learner())
        rows.append(
            [100 * (found.rate or 0), *_shares(found.rows, wrong), *_shares(counted(features), wrong), len(found.rows)]
        )
    mean, least = np.mean(rows, axis=0), np.min(rows, axis=0)
    cells = [f"{mean[k]:.3f} ({least[k]:.3f})" for k in (1, 2)]
    return [
        name, str(wrong.sum()), f"{mean[5]:.1f}", f"{mean[0]:.1f}", *cells, f"{mean[3]:.3f}, {mean[4]:.3f}"
    ]  # fmt: skip


def false_alarms(name: str, X: np.ndarray, labels: np.ndarray, seeds: range) -> list[str]:
    """A row of the second table."""
    features, rows = _features(X, labels.astype(np.int64)), []
    for seed in seeds:
        found = find_label_errors(features, _learner(), random_state=seed)
        rows.append([len(found.rows), 100 * (found.rate or 0), len(counted(features, seed))])
    mean, most = np.mean(rows, axis=0), np.max(rows, axis=0)
    share = f"{100 * mean[0] / len(labels):.2f}"
    return [name, str(len(labels)), f"{mean[0]:.1f} ({most[0]:.0f})", share, f"{mean[1]:.2f}", f"{mean[2]:.1f}"]


def _features(X: np.ndarray, labels: np.ndarray) -> Features:
    return Features(X, labels=labels, class_names=tuple(map(str, range(int(labels.max()) + 1))))


def _learner() -> VectorMethod:
    method = method_class("gda")()
    assert isinstance(method, VectorMethod)
    return method


def _shares(rows: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    hits = int(wrong[rows].sum())
    return hits / max(1, len(rows)), hits / max(1, int(wrong.sum()))


if __name__ == "__main__":
    main()
