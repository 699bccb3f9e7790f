"""Names at the right ends of lines and beside points, placed so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modalign.report.style import INK, text_width

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


def label_points(figure: Figure, axes: Axes, points: np.ndarray, words: Sequence[str], size: float = 11.0) -> None:
    """Names beside points, the highest points first; a name that would cover a point or another name is left out.

    Parameters
    ----------
    figure, axes : Figure and Axes
        With its final limits.
    points : ndarray of shape (n, 2)
        In the units of the axes.
    words : sequence of str
        A name per point.
    size : float
        Of the letters.
    """
    axes.autoscale_view()
    at = axes.transData.transform(points) * 72 / figure.dpi
    right, top = figure.get_size_inches() * 72
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    tall = 1.1 * size
    for i in np.argsort(-at[:, 1], kind="stable"):
        wide, (x, y) = text_width([words[i]], size), at[i]
        sides, above, middle, below = (7, -7 - wide, -wide / 2), 3, -tall / 2, -tall - 3
        for left, low in (*((s, h) for s in sides[:2] for h in (middle, above, below)), (sides[2], 6),
                          (sides[2], -tall - 6)):  # fmt: skip
            box = (x + left, y + low, x + left + wide, y + low + tall)
            if box[0] < 0 or box[2] > right or box[1] < 0 or box[3] > top or any(_cover(box, other) for other in taken):
                continue
            axes.annotate(words[i], points[i], xytext=(left, low + tall / 2), textcoords="offset points",
                          fontsize=size, color=INK, va="center_baseline", annotation_clip=False)  # fmt: skip
            taken.append(box)
            break


def _cover(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
