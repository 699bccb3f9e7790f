"""Curves of a fit: what a method chose its settings by, and how its training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modalign.core.features import UNLABELED
from modalign.report.papers.sweeps import sweep_curve
from modalign.report.style import Picture

SHOWN = 200  # points of a curve of losses
EPOCHS = {
    "changed": "changed labels",
    "agreement": "crops that agree",
}


def selection_curves(method: Any) -> list[Picture]:
    """Accuracy on held-out images by the settings that were tried: β and the number of steps of CMM.

    Parameters
    ----------
    method : object
        A fitted method.
    """
    found = []
    for state, quantity in (("fusion_curve_", "weight β of the zero-shot score"), ("step_curve_", "optimizer steps")):
        curve: Mapping[str, list[float]] = getattr(method, state, {})
        name = "zero_shot_weight" if state == "fusion_curve_" else "steps"
        if len(curve.get(name, ())) > 1:
            points = dict(zip(curve[name], curve["accuracy"], strict=True))
            unit = "accuracy on held-out images, percent"
            title = (
                f"Accuracy by the {quantity}" if name == "zero_shot_weight" else f"Accuracy by the number of {quantity}"
            )
            found.append(sweep_curve({"accuracy": points}, quantity=quantity, unit=unit, title=title))
    return found


def training_curves(method: Any) -> list[Picture]:
    """Loss by step of methods that keep it, and statistics of the pseudo-labels by epoch of self-training methods.

    Parameters
    ----------
    method : object
        A fitted method.
    """
    found = []
    losses = getattr(method, "losses_", None)
    if losses is not None and len(losses) > 1:
        values = np.asarray(losses.cpu(), dtype=np.float64)
        rows = np.unique(np.linspace(0, len(values) - 1, SHOWN).round().astype(int))
        points = {float(i + 1): float(values[i]) for i in rows if np.isfinite(values[i])}
        found.append(
            sweep_curve(
                {"loss": points},
                quantity="optimizer step",
                unit="loss",
                scale=1,
                title="Loss by step",
                describe_ends=True,
            )
        )
    epochs = {
        words: {float(e + 1): value for e, value in enumerate(values) if value is not None}
        for name, words in EPOCHS.items()
        if isinstance(values := method.diagnosis_.get(name), list)
    }
    epochs = {words: points for words, points in epochs.items() if points}
    if epochs:
        found.append(sweep_curve(epochs, quantity="epoch", unit="share, percent", title="Pseudo-labels by epoch"))
    return found


def pseudo_label_curve(labels: np.ndarray, truth: np.ndarray) -> Picture:
    """Accuracy of pseudo-labels by epoch, where true labels are known afterwards.

    Parameters
    ----------
    labels : ndarray of shape (epochs, n)
        Pseudo-label of each image, −1 in epochs in which it got none.
    truth : ndarray of shape (n,)
        True classes, −1 where unknown.
    """
    points = {}
    for epoch, own in enumerate(labels, start=1):
        known = (own != UNLABELED) & (truth != UNLABELED)
        if known.any():
            points[float(epoch)] = float((own[known] == truth[known]).mean())
    unit = "accuracy of pseudo-labels, percent"
    return sweep_curve({"pseudo-labels": points}, quantity="epoch", unit=unit, title="Accuracy by epoch")
