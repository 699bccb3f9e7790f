"""Densities above one axis, each named above the picture in its own color."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from modalign.report.style import MUTED, SERIES, WIDTH, canvas, panel, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE = 18  # CSS pixels of a line of words above the picture


class DensityLine(NamedTuple):
    """One density.

    Attributes
    ----------
    words : str
        The title above the picture.
    x : ndarray
        Places (m,), or edges (m + 1,) of bins, within which the density is constant.
    density : ndarray
        (m,) values.
    mark : float or None
        Position of a dashed line.
    """

    words: str
    x: np.ndarray
    density: np.ndarray
    mark: float | None = None


def draw_densities(lines: Sequence[DensityLine], quantity: str, height: int) -> Figure:
    """A figure with all of them.

    Parameters
    ----------
    lines : sequence of DensityLine
        At least one.
    quantity : str
        The label below the axis.
    height : int
        CSS pixels, without the words above.
    """
    head = _LINE * len(lines)
    with settings():
        figure = canvas(WIDTH, height + head)
        axes = panel(figure, 14, 40, 14, 12 + head)
        for i, line in enumerate(lines):
            color = SERIES[i % len(SERIES)]
            if len(line.x) > len(line.density):
                axes.stairs(line.density, line.x, color=color, linewidth=1.8)
                axes.stairs(line.density, line.x, color=color, fill=True, alpha=0.14)
            else:
                axes.plot(line.x, line.density, color=color, linewidth=1.8)
                axes.fill_between(line.x, 0, line.density, color=color, alpha=0.14, linewidth=0)
            if line.mark is not None:
                axes.axvline(line.mark, color=color, linewidth=1, linestyle=(0, (4, 3)))
            top = 1 - (14 + _LINE * i) / (height + head)
            figure.text(14 / WIDTH, top, line.words, color=color, va="center_baseline")
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(quantity, color=MUTED)
    return figure
