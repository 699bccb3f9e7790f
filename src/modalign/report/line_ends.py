"""Names at the right ends of lines, moved apart where lines end close together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def label_ends(figure: Figure, axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 15.0) -> None:
    """Names at the right edge, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    tall = axes.get_position().height * figure.get_size_inches()[1] * 72
    ordered = sorted(ends)
    wanted = np.array([(y - low) / (high - low) * tall for y, _, _ in ordered])
    placed = _spread(wanted, gap, 4, tall - 2)
    for y, (_, words, color) in zip(placed, ordered, strict=True):
        axes.text(
            1, y / tall, "  " + words, transform=axes.transAxes, color=color, va="center_baseline", ha="left",
            fontsize=12,
        )  # fmt: skip


def _spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Increasing positions at least ``gap`` apart, as near to the wanted ones as a few passes bring them."""
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    placed = np.clip(wanted, low, high)
    for _ in range(200):
        short = gap - np.diff(placed)
        if not (short > 1e-3).any():
            break
        push = np.maximum(short, 0) / 2
        placed[:-1] -= push
        placed[1:] += push
        placed = np.clip(placed, low, high)
    return placed
