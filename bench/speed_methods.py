"""Few-shot methods compared with reference implementations: ``python -m bench.speed methods``.

Both sides run one after the other on the same data in the same process, and processor seconds are compared, after a
check that the results are equal: sums of Tip-Adapter's votes per class with the product with one-hot labels, six
candidates of the cross-modal probe by successive halving with all six trained to the end, and CMM's folds trained
together with folds trained one after the other. ``--full`` takes the published sizes and steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.speed_threads import problem
from modalign.methods.baselines import cross_modal_probe
from modalign.methods.baselines.cross_modal_probe import CrossModalProbe
from modalign.methods.baselines.tip_adapter import BETAS
from modalign.methods.baselines.tip_adapter_cache import Cache
from modalign.methods.cmm.cmm import CMM
from modalign.methods.cmm.cmm_training import CMMRun

SHOTS = 16


def measure(full: bool) -> list[dict[str, Any]]:
    """One row per comparison."""
    return [votes(full), halving(full), folds()]


def votes(full: bool) -> dict[str, Any]:
    """Votes of all β for 1,000 classes; the largest relative difference of a vote that counts."""
    classes, held = 1000, 4000 if full else 1000
    X, y, text = problem(classes * SHOTS + held, classes)
    keys, owners, rows = X[held:], y[held:], X[:held]

    def plain() -> list[Tensor]:
        one_hot, affinities = F.one_hot(owners, classes).float(), rows @ keys.T
        return [torch.exp(beta * (affinities - 1)) @ one_hot for beta in BETAS]

    row, expected, found = _compare(plain, lambda: Cache(keys, owners, text, 100.0, 1.0, 1.0).votes(rows, BETAS))
    difference = max(float(((f - e).abs() / (e + 1e-6)).max()) for f, e in zip(found, expected, strict=True))
    title = (
        f"Tip-Adapter, votes of {len(BETAS)} β, 1,000 classes × {SHOTS}, {held:,} validation images: one-hot product"
    )
    return {"title": title, "required": 9.0, "difference": difference, "tolerated": 1e-3, **row}


def halving(full: bool) -> dict[str, Any]:
    """The cross-modal probe with validation images; the difference is that of the validation accuracy."""
    steps, classes = 12_800 if full else 3200, 100
    X, y, text = problem(classes * (SHOTS + 4), classes)
    taught, held = slice(0, classes * SHOTS), slice(classes * SHOTS, None)

    def fit() -> CrossModalProbe:
        model = CrossModalProbe(steps=steps, random_state=0)
        return model.fit(X[taught], y[taught], text=text, validation=(X[held], y[held]))

    def plain() -> CrossModalProbe:
        with patch.object(cross_modal_probe, "HALVINGS", ()):
            return fit()

    row, expected, found = _compare(plain, fit)
    right = [model.diagnosis_["validation_accuracy"] for model in (expected, found)]
    title = f"Cross-modal probe, {classes} classes × {SHOTS}, {steps:,} steps: all six candidates to the end"
    return {"title": title, "required": 3.0, "difference": max(0.0, right[0] - right[1]), "tolerated": 0.01, **row}


def folds() -> dict[str, Any]:
    """CMM without validation images on few numbers; the difference is that of the log-likelihoods it chose by."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(10 * SHOTS) % 10
    centers = F.normalize(torch.randn(10, 128, generator=generator), dim=1)
    X = F.normalize(centers[y] + 0.2 * torch.randn(len(y), 128, generator=generator), dim=1)
    text = F.normalize(centers + 0.2 * torch.randn(10, 128, generator=generator), dim=1)

    def fit() -> CMM:
        return CMM(random_state=0, patience=100, max_steps=512).fit(X, y, text=text)

    def plain() -> CMM:
        with patch.object(CMMRun, "together", lambda runs: None):
            return fit()

    row, expected, found = _compare(plain, fit)
    curves = [torch.tensor(model.step_curve_["log_likelihood"]) for model in (expected, found)]
    difference = float((curves[0] - curves[1]).abs().max())
    title = f"CMM, five folds, 10 classes × {SHOTS}, 128 numbers: one after the other"
    return {"title": title, "required": 1.2, "difference": difference, "tolerated": 1e-3, **row}


def _compare(plain: Callable[[], Any], ours: Callable[[], Any]) -> tuple[dict[str, float], Any, Any]:
    """Processor seconds of both sides and what they returned."""
    seconds, found = [], []
    for side in (plain, ours):
        started = time.process_time()
        found.append(side())
        seconds.append(time.process_time() - started)
    return {"plain_seconds": seconds[0], "seconds": seconds[1], "faster": seconds[0] / seconds[1]}, *found


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a row is slower than required or computes something else."""
    return any(row["faster"] < row["required"] or not row["difference"] <= row["tolerated"] for row in rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("Few-shot methods, processor seconds")
    for row in rows:
        print(
            f"  {row['title']} {row['plain_seconds']:.2f} s, ours {row['seconds']:.2f} s\n"
            f"    {row['faster']:.1f} × faster (required {row['required']:g}); difference {row['difference']:.1e} "
            f"(tolerated {row['tolerated']:g})"
        )
