"""Matrix of squares whose opacity is a share, shared by the figures of classes by classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modalign.report.style import INK, RIGHT, RULE, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 32  # up to so many classes every row has its name, and every cell room for its count


def cell_size(n: int) -> float:
    """CSS pixels of a cell: the whole matrix takes about 360, and more where its counts would have no room."""
    if n > NAMED:
        return max(5.2, 540 / n)
    return min(44.0, max(22.0, 364 / n))


def draw_grid(axes: Axes, n: int, cell: float) -> None:
    for k in range(n + 1) if cell >= 12 else (0, n):
        axes.plot([k, k], [0, n], color=RULE, linewidth=0.7, zorder=1, clip_on=False)
        axes.plot([0, n], [k, k], color=RULE, linewidth=0.7, zorder=1, clip_on=False)


def draw_cells(axes: Axes, share: np.ndarray, n: int) -> None:
    """One path per color and share: many cells take few bytes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    digits = 3 if n <= NAMED else 2
    level = np.where(share > 0, np.maximum(share.round(digits), 10.0**-digits), 0)
    groups: dict[tuple[str, float], list[Path]] = {}
    for i, j in np.argwhere(level):
        square = Path([(j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1), (j, i)], closed=True)
        groups.setdefault((RIGHT if i == j else WRONG, float(level[i, j])), []).append(square)
    for (color, opacity), squares in groups.items():
        path = Path.make_compound_path(*squares)
        axes.add_patch(PathPatch(path, facecolor=color, alpha=opacity, linewidth=0, zorder=0.5))


def draw_names(axes: Axes, words: Sequence[str], cell: float, size: float, turned: bool) -> None:
    n = len(words)
    step = 1 if n <= NAMED else math.ceil(13 / cell)
    at = range(0, n, step)
    axes.set_yticks([k + 0.5 for k in at], [words[k] for k in at], fontsize=size, color=INK)
    axes.set_xticks([])
    how = {"rotation": 50, "rotation_mode": "anchor", "ha": "left"} if turned else {"ha": "center"}
    for k in at:
        axes.text(k + 0.5, -5 / cell, words[k], fontsize=size, color=INK, va="baseline", **how)
    axes.spines[:].set_visible(False)
