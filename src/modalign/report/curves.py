"""Figure of accuracy against the number of labels, a line per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modalign.core.errors import InputError
from modalign.evaluate.metrics import percent
from modalign.evaluate.runs import Shots, Summary, amount
from modalign.report.line_ends import label_ends
from modalign.report.style import (
    DASHES,
    MARKERS,
    MUTED,
    SERIES,
    SURFACE,
    WIDTH,
    Picture,
    canvas,
    panel,
    settings,
    text_width,
)
from modalign.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEAR = 0.5  # chance level is drawn where it lies no farther below the data than this share of their range


def accuracy_over_labels(
    rows: Sequence[Summary], *, chance: float | None = None, width: int = WIDTH, height: int = 320
) -> Picture:
    """Accuracy against labeled images per class, a line per method with its interval over seeds.

    Methods without labels are horizontal lines. Names are at the ends of the lines, with the last value. Intervals are
    drawn only if :func:`draws_intervals` is true. Chance level is a line, or a note under the curves if it is far below
    all of them.

    Parameters
    ----------
    rows : sequence of Summary
        Result of :func:`~modalign.evaluate.runs.summarize`.
    chance : float, default=None
        Accuracy of guessing.
    width, height : int
        CSS pixels.
    """
    if not rows:
        raise InputError("Expected at least one summary row to draw, got none.")
    methods = list(dict.fromkeys(row.method for row in rows))
    curves = [name for name in methods if {row.shots for row in rows if row.method == name} != {0}]
    shots = sorted({row.shots for row in rows if row.method in curves}, key=amount) or [1]
    place = _places(shots)
    with settings():
        figure = canvas(width, height)
        right = 30 + text_width([f"{shorten(name, 30)} 100.0" for name in methods], 12)
        axes = panel(figure, 46, 44, right, 14)
        ends = []
        for i, name in enumerate(methods):
            own = sorted((row for row in rows if row.method == name), key=lambda row: amount(row.shots))
            if name in curves:
                _draw_curve(axes, i, [place[row.shots] for row in own], own, intervals=draws_intervals(rows))
            else:
                axes.axhline(100 * own[0].accuracy.mean, color=_color(i), lw=1.4, ls=(0, (1.5, 2.5)), zorder=2)
            mean = own[-1].accuracy.mean
            ends.append((100 * mean, f"{shorten(name, 30)} {percent(mean)}", _color(i)))
        first, last = place[shots[0]], place[shots[-1]]
        axes.set_xlim(first - 0.06 * (last - first) - 0.05, last + 0.05 * (last - first) + 0.05)
        axes.set_xticks(list(place.values()), [str(s) for s in shots])
        axes.minorticks_off()
        axes.set_xlabel("labeled images per class")
        _limit(axes, rows, chance)
        if chance is not None:
            _draw_chance(axes, chance)
        _percent_axis(axes)
        label_ends(figure, axes, ends)
    return Picture(figure, _in_words(rows, methods, chance), "Accuracy by labeled images per class")


def draws_intervals(rows: Sequence[Summary]) -> bool:
    """Whether :func:`accuracy_over_labels` draws intervals: there are some, and no more lines than colors."""
    return len({row.method for row in rows}) <= len(SERIES) and any(row.accuracy.n > 1 for row in rows)


def _draw_curve(axes: Axes, i: int, places: Sequence[float], rows: Sequence[Summary], *, intervals: bool) -> None:
    x = np.asarray(places)
    y, low, high = 100 * np.array([(r.accuracy.mean, r.accuracy.low, r.accuracy.high) for r in rows]).T
    known = np.array([intervals and row.accuracy.n > 1 for row in rows])
    axes.fill_between(x, low, high, where=known, color=_color(i), alpha=0.15, linewidth=0, zorder=1)
    axes.vlines(x[known], low[known], high[known], color=_color(i), alpha=0.45, linewidth=1.2, zorder=2)
    axes.plot(
        x, y, color=_color(i), linestyle=DASHES[i // len(SERIES) % len(DASHES)], linewidth=2, zorder=3,
        marker=MARKERS[i % len(MARKERS)], markersize=6.5, markeredgecolor=SURFACE, markeredgewidth=1,
    )  # fmt: skip


def _color(i: int) -> str:
    return SERIES[i % len(SERIES)]


def _places(shots: Sequence[Shots]) -> dict[Shots, float]:
    """Positions of numbers of labels on the axis: by their logarithm, none and all a step beyond the ends."""
    counts = [k for k in shots if not isinstance(k, str) and k] or [1]
    ends: dict[Shots, float] = {0: math.log2(min(counts)) - 1, "all": math.log2(max(counts)) + 1}
    return {k: math.log2(k) if not isinstance(k, str) and k else ends[k] for k in shots}


def _limit(axes: Axes, rows: Sequence[Summary], chance: float | None) -> None:
    """The vertical range: all means, the intervals that are drawn, and chance level where that is near."""
    reach = [row.accuracy.mean for row in rows]
    if draws_intervals(rows):
        reach += [end for row in rows if row.accuracy.n > 1 for end in (row.accuracy.low, row.accuracy.high)]
    span = max(max(reach) - min(reach), 0.04)
    if chance is not None and chance > min(reach) - _NEAR * span:
        reach.append(chance)
        span = max(max(reach) - min(reach), 0.04)
    below = 0.06 if chance is None or chance in reach else 0.14  # room for a note
    bottom, top = max(0.0, min(reach) - below * span), min(1.005, max(reach) + 0.06 * span)
    axes.set_ylim(100 * bottom, 100 * top)


def _draw_chance(axes: Axes, chance: float) -> None:
    bottom, top = axes.get_ylim()
    words = f"chance level {percent(chance)} %"
    if 100 * chance >= bottom:
        axes.axhline(100 * chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        above = 100 * chance < (bottom + top) / 2
        place, side = (0.01, 100 * chance), "bottom" if above else "top"
        axes.text(*place, words, transform=axes.get_yaxis_transform(), fontsize=10.5, color=MUTED, va=side)
    else:
        axes.text(0.01, 0.015, f"{words}, below this axis ↓", transform=axes.transAxes, fontsize=10.5, color=MUTED)


def _in_words(rows: Sequence[Summary], methods: Sequence[str], chance: float | None) -> str:
    best = max(rows, key=lambda row: row.accuracy.mean)
    labels = "no" if best.shots == 0 else best.shots
    note = "" if chance is None else f" Chance level is {percent(chance)} %."
    return (
        f"Accuracy by labeled images per class for {', '.join(methods)}; the highest is {best.method} with "
        f"{percent(best.accuracy.mean)} % at {labels} labels per class.{note}"
    )


def _percent_axis(axes: Axes) -> None:
    ticks = [t for t in axes.get_yticks() if axes.get_ylim()[0] <= t <= min(100, axes.get_ylim()[1])]
    digits = 0 if all(float(t).is_integer() for t in ticks) else 1
    axes.set_yticks(ticks, [f"{t:.{digits}f}{' %' if t == ticks[-1] else ''}" for t in ticks])
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
