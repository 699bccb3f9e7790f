"""Pictures of classes: which are confused with which, and how well each does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from modalign.errors import InputError
from modalign.evaluate.metrics import ClassAccuracy, percent
from modalign.report.style import INK, MUTED, RULE, SERIES, Picture, canvas, panel, settings, shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 14  # up to so many classes a cell has room for its count
_NAMED = 32  # up to so many classes every row has room for its name


def confusion_matrix(counts: ArrayLike, class_names: Sequence[str], *, limit: int = 100) -> Picture:
    """True classes down, answers across: right answers in one colour, mistakes in another.

    A cell's strength is its share of the row. Few classes show their counts; many show every so many names, and the
    most frequent mistakes are numbered in the matrix and listed below it. Beyond ``limit`` classes those with the
    most mistakes are drawn.

    Parameters
    ----------
    counts : (C, C), what :func:`~modalign.evaluate.metrics.confusion` returns.
    class_names : C names.
    limit : most classes to draw.
    """
    table, names = np.asarray(counts), list(class_names)
    if table.ndim != 2 or table.shape != (len(names), len(names)) or not len(names):
        raise InputError(f"Expected a (C, C) table and C names, got {table.shape} and {len(names)} names.")
    table = table.astype(np.int64)
    right, total = int(np.trace(table)), int(table.sum())
    alt = f"Confusion matrix of {len(names)} classes: {right:,} of {total:,} right."
    if len(names) > limit:
        wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
        kept = np.sort(np.argsort(-wrong, kind="stable")[:limit])
        table, names = table[np.ix_(kept, kept)], [names[k] for k in kept]
        alt += f" Drawn are the {limit} classes with the most mistakes."
    worst = _worst(table)
    if worst:
        i, j = worst[0]
        alt += f" Most frequent mistake: {names[i]} taken for {names[j]}, {table[i, j]:,} times."
    n, words = len(names), [shorten(name, 20) for name in names]
    listed = worst[:8] if n > _NUMBERED else []
    cell = min(44.0, 364 / n) if n <= _NAMED else max(5.2, 540 / n)
    turned = text_width(words, 12) > cell - 4
    label = min(12.0, max(9.5, cell * 0.8))
    with settings():
        left = 24 + text_width(words, label)
        top = 26 + (text_width(words, label) * 0.78 if turned else label)
        below = 14 + 17 * math.ceil(len(listed) / 2) + (6 if listed else 0)
        width = max(left + n * cell + (34 if turned else 8), 440 if listed else 0)
        figure = canvas(width, top + n * cell + below)
        axes = panel(figure, left, below, width - left - n * cell, top)
        axes.set(xlim=(0, n), ylim=(n, 0))
        _cells(axes, table, cell)
        _names(axes, words, cell, label, turned)
        for number, (sign, (i, j)) in enumerate(zip("①②③④⑤⑥⑦⑧", listed, strict=False)):
            place = (j + 0.5, "center") if cell >= 12 else (j + 1.3, "left")
            axes.text(place[0], i + 0.5, sign, fontsize=11, color=INK, va="center_baseline", ha=place[1], zorder=4)
            x, y = number % 2 * (width - 24) / 2 + 12, 14 + number // 2 * 17
            text = f"{sign} {shorten(names[i], 15)} → {shorten(names[j], 15)}, {table[i, j]} of {table[i].sum()}"
            figure.text(x / width, (below - y) / (top + n * cell + below), text, fontsize=10.5, color=INK, va="top")
        corner = 1 - 8 / (top + n * cell + below)
        figure.text(6 / width, corner, "true ↓  answer →", fontsize=10.5, color=MUTED, va="top")
    return Picture(figure, alt)


def per_class_bars(rows: Sequence[ClassAccuracy], *, limit: int = 40, width: int = 430) -> Picture:
    """Accuracy class by class, lowest first, with its interval; beyond ``limit`` classes the lowest ones.

    Parameters
    ----------
    rows : what :func:`~modalign.evaluate.metrics.per_class_accuracy` returns; classes without images are left out.
    limit : most bars to draw.
    width : CSS pixels.
    """
    known = sorted((r for r in rows if r.n), key=lambda r: (r.accuracy, r.name))
    if not known:
        raise InputError("Expected at least one class with images, got none.")
    shown, hidden = known[:limit], known[limit:]
    names = [shorten(r.name, 24) for r in shown]
    with settings():
        figure = canvas(width, 19 * len(shown) + 34 + (18 if hidden else 0))
        axes = panel(figure, 14 + text_width(names, 12), 8 + (18 if hidden else 0), 92, 24)
        for i, row in enumerate(shown):
            axes.barh(i, 100 * row.accuracy, height=0.62, color=SERIES[0], alpha=0.32)
            axes.hlines(i, 100 * row.low, 100 * row.high, color=SERIES[0], linewidth=1.3)
            axes.plot(100 * row.accuracy, i, "o", color=SERIES[0], markersize=4.5)
            for text, x, size, colour in ((percent(row.accuracy), 36, 11.5, INK), (f"of {row.n:,}", 86, 10, MUTED)):
                axes.annotate(
                    text, (1, i), xycoords=axes.get_yaxis_transform(), xytext=(x, 0), textcoords="offset points",
                    ha="right", va="center_baseline", fontsize=size, color=colour,
                )  # fmt: skip
        axes.set_yticks(range(len(shown)), names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.xaxis.tick_top()
        axes.grid(axis="x")
        axes.spines[:].set_visible(False)
        if hidden:
            note = f"and {len(hidden)} more classes at {percent(hidden[0].accuracy)} % or above"
            axes.text(0, len(shown) + 0.25, note, fontsize=11, color=MUTED)
    return Picture(
        figure,
        f"Accuracy of {len(known)} classes; lowest {known[0].name} with {percent(known[0].accuracy)} %, "
        f"highest {known[-1].name} with {percent(known[-1].accuracy)} %.",
    )


def _worst(table: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of the mistakes, most frequent first."""
    off = table - np.diag(table.diagonal())
    order = np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)]
    return [divmod(int(k), len(table)) for k in order]


def _cells(axes: Axes, table: np.ndarray, cell: float) -> None:
    from matplotlib.patches import Rectangle

    n = len(table)
    for k in range(n + 1) if cell >= 12 else (0, n):
        axes.plot([k, k], [0, n], color=RULE, linewidth=0.7, zorder=1, clip_on=False)
        axes.plot([0, n], [k, k], color=RULE, linewidth=0.7, zorder=1, clip_on=False)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    for i, j in np.argwhere(table):
        strength = 0.68 * share[i, j] if i == j else 0.14 + 0.6 * math.sqrt(share[i, j])
        axes.add_patch(Rectangle((j, i), 1, 1, color=SERIES[0 if i == j else 1], alpha=strength, linewidth=0))
        if n <= _NUMBERED:
            axes.text(j + 0.5, i + 0.5, f"{table[i, j]}", fontsize=11, color=INK, va="center_baseline", ha="center")


def _names(axes: Axes, words: Sequence[str], cell: float, size: float, turned: bool) -> None:
    n = len(words)
    step = 1 if n <= _NAMED else math.ceil(13 / cell)
    at = range(0, n, step)
    axes.set_yticks([k + 0.5 for k in at], [words[k] for k in at], fontsize=size, color=INK)
    axes.set_xticks([])
    how = {"rotation": 50, "rotation_mode": "anchor", "ha": "left"} if turned else {"ha": "center"}
    for k in at:
        axes.text(k + 0.5, -5 / cell, words[k], fontsize=size, color=INK, va="baseline", **how)
    axes.spines[:].set_visible(False)
