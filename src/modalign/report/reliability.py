"""Reliability diagram: accuracy against predicted probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from modalign.core.errors import InputError
from modalign.evaluate.metrics import ReliabilityBin, percent, proportion
from modalign.report.style import MARKERS, MUTED, SERIES, SURFACE, WIDTH, Picture, canvas, panel, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 10
"""Bins with fewer images are hollow and not joined to others: their share of right answers is mostly chance."""
_LARGEST = 150.0  # area of the dot of the fullest bin, in square points


def reliability_diagram(series: Mapping[str, Sequence[ReliabilityBin]], *, chance: float | None = None) -> Picture:
    """Share of right answers against their mean probability, over the number of images; on the diagonal both agree.

    The area of a dot is in proportion to its images, each has its 95 % interval, and dots of fewer than ``FEW`` images
    are hollow.

    Parameters
    ----------
    series : mapping of str to sequence of ReliabilityBin
        Name, such as before or after calibration → result of :func:`~modalign.evaluate.metrics.reliability`.
    chance : float, default=None
        Accuracy of guessing, which is drawn as a line.
    """
    if not series or not all(series.values()):
        raise InputError("Expected at least one series with answers in it, got none.")
    errors = {name: calibration_error(bins) for name, bins in series.items()}
    fullest = max(b.n for bins in series.values() for b in bins)
    ticks = {"xlim": (0, 101), "xticks": [0, 25, 50, 75, 100], "xticklabels": ["0", "25", "50", "75", "100 %"]}
    with settings():
        legend = 17 * len(series) + 6
        figure = canvas(WIDTH, WIDTH + 44 + legend)
        axes = panel(figure, 36, 146, 22, 26 + legend)
        counts = panel(figure, 36, 44, 22, WIDTH - 62 + legend)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if chance is not None:
            axes.axhline(100 * chance, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
            words = f"chance level {percent(chance)} %"
            axes.text(99, 100 * chance + 1, words, ha="right", va="bottom", fontsize=10.5, color=MUTED)
        for i, (name, bins) in enumerate(series.items()):
            _draw_series(axes, counts, i, bins, fullest, (i - (len(series) - 1) / 2) * 1.7)
            words = f"{name}: off by {percent(errors[name])} points on average"
            axes.annotate(words, (0, 1), (14, 30 + 17 * (len(series) - 1 - i)), xycoords="axes fraction",
                          textcoords="offset points", color=SERIES[i % len(SERIES)], fontsize=12)  # fmt: skip
        axes.set(**ticks, ylim=(0, 101), yticks=[0, 25, 50, 75, 100], yticklabels=["0", "25", "50", "75", "100"])
        axes.tick_params(labelbottom=False)
        axes.grid()
        counts.set(**ticks, xlabel="probability of the answer", ylim=(0, 1.12 * fullest), yticks=[fullest])
        counts.set_yticklabels([f"{fullest:,}"])
        counts.spines["left"].set_visible(False)
        for a, what in ((axes, "right answers, %"), (counts, "images per bin")):
            a.annotate(what, (0, 1), (-30, 8), xycoords="axes fraction", textcoords="offset points",
                       fontsize=11, color=MUTED)  # fmt: skip
    parts = [f"{name} off by {percent(e)} points" for name, e in errors.items()]
    return Picture(
        figure, f"Calibration: {'; '.join(parts)} on average.", "Share of right answers by probability of the answer"
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, weighted by images."""
    return sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / sum(b.n for b in bins)


def _draw_series(axes: Axes, counts: Axes, i: int, bins: Sequence[ReliabilityBin], fullest: int, shift: float) -> None:
    color, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
    sure, right, n = np.array([(100 * b.confidence, 100 * b.accuracy, b.n) for b in bins]).T
    ends = 100 * np.array([(s.low, s.high) for s in (proportion(round(b.accuracy * b.n), b.n) for b in bins)]).T
    many = n >= FEW
    axes.vlines(sure, *ends, color=color, alpha=np.where(many, 0.5, 0.2), linewidth=1.3)
    axes.plot(sure[many], right[many], color=color, linewidth=1.2, zorder=3)
    for group, face in ((many, color), (~many, SURFACE)):
        axes.scatter(
            sure[group], right[group], s=np.maximum(_LARGEST * n[group] / fullest, 14), facecolors=face, marker=marker,
            edgecolors=SURFACE if face == color else color, linewidths=0.9, zorder=4, clip_on=False,
        )  # fmt: skip
    counts.vlines(sure + shift, 0, n, color=color, linewidth=4.5, alpha=0.75)
