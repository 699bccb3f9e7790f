"""Diagnostics of the best method: calibration and modality gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from modalign.core.features import Features
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.comparison_inputs import ComparisonInputs
from modalign.evaluate.comparison.findings import MethodDiagnostics
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.metrics import reliability
from modalign.evaluate.protocol import run_once
from modalign.evaluate.runs import Shots, Summary, amount
from modalign.linalg.calibration import fit_temperature
from modalign.linalg.gaussians import modality_gap
from modalign.linalg.prototypes import text_prototypes
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod

BINS = 10
SHOWN = 600  # maximum number of images in a point cloud, as in its figure


def compute_diagnostics(
    result: MethodComparison,
    given: ComparisonInputs,
    split: Callable[[Shots, int], Split],
    build: Callable[[str, int], VectorMethod],
) -> tuple[MethodDiagnostics, ...]:
    """Refit the best method on vectors, and the best one with a map, and compute their diagnostics.

    Test labels may be used, because nothing is selected here.

    Parameters
    ----------
    result : MethodComparison
        All runs.
    given : ComparisonInputs
        Inputs of the comparison.
    split : callable
        The draw of a number of labels and a seed.
    build : callable
        An unfitted method of a name and a seed.
    """
    rows = (row for row in result.table if issubclass(method_class(row.method), VectorMethod))
    ranked = sorted(rows, key=lambda row: (-row.accuracy.mean, amount(row.shots)))
    mapped = [row for row in ranked if given.text is not None and hasattr(method_class(row.method), "transform")]
    chosen: dict[tuple[str, Shots], Summary] = {(row.method, row.shots): row for row in (*ranked[:1], *mapped[:1])}
    seed = min(run.seed for run in result.runs)
    return tuple(
        _diagnose(row, seed, given, split(row.shots, seed), build(row.method, seed)) for row in chosen.values()
    )


def _diagnose(
    row: Summary, seed: int, given: ComparisonInputs, split: Split, method: VectorMethod
) -> MethodDiagnostics:
    run_once(row.method, method, given.features, given.text, split, seed, shots=row.shots,
             clip_features=given.clip_features, fingerprint="none")  # fmt: skip
    space = given.features if given.clip_features is None or method.takes_clip_features else given.clip_features
    images = replace(space.select(split.test), ids=(), labels=given.features.labels[split.test])
    found = MethodDiagnostics(row.method, row.shots, seed, _reliability(method, space, images, given, split, row.shots))
    if given.text is None or not hasattr(method, "transform"):
        return found
    rows = np.arange(0, len(images), max(1, math.ceil(len(images) / SHOWN)))
    text = text_prototypes(torch.from_numpy(given.text.vectors)).numpy()
    before = images.vectors[rows] if given.clip_features is None else given.clip_features.vectors[split.test][rows]
    clouds = {
        "before": (np.asarray(before), text),
        "after": (np.asarray(method.transform(images))[rows], method.prototypes_.cpu().numpy()),
    }
    gap = {when: _gap(*pair) for when, pair in clouds.items()}
    return replace(found, gap=gap, clouds=clouds, labels=images.labels[rows])


def _reliability(
    method: VectorMethod, space: Features, images: Features, given: ComparisonInputs, split: Split, shots: Shots
) -> dict[str, tuple]:
    """Return reliability bins of the probabilities, uncalibrated and, with validation images, calibrated."""
    scores = torch.from_numpy(np.asarray(method.scores(images)))
    columns = {label: k for k, label in enumerate(method.classes_.tolist())}
    labels = np.array([columns.get(label, -1) for label in images.labels.tolist()])
    known = labels >= 0  # without text, a class without training images has no column
    found = {"uncalibrated": reliability(scores.softmax(dim=1)[known].numpy(), labels[known], bins=BINS)}
    if shots and len(split.validation):
        held = space.select(split.validation)
        truth = torch.tensor([columns.get(label, -1) for label in given.features.labels[split.validation].tolist()])
        held_scores = torch.from_numpy(np.asarray(method.scores(held)))[truth >= 0]
        temperature = fit_temperature(held_scores, truth[truth >= 0])
        calibrated = (scores / temperature).softmax(dim=1)[known].numpy()
        found["calibrated"] = reliability(calibrated, labels[known], bins=BINS)
    return found


def _gap(images: np.ndarray, texts: np.ndarray) -> dict[str, float | None]:
    found = vars(modality_gap(torch.from_numpy(images), torch.from_numpy(texts)))
    return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}
