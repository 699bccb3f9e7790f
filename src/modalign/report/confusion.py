"""Figure of the confusion matrix, with a list of the most frequent mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.report.matrix import NAMED, cell_size, draw_cells, draw_grid, draw_names
from modalign.report.style import (
    INK,
    MUTED,
    ON_FAINT,
    ON_STRONG,
    STRONG,
    Picture,
    canvas,
    panel,
    settings,
    text_width,
)
from modalign.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LISTED = 8  # mistakes below a matrix whose cells show no counts


def confusion_matrix(
    counts: ArrayLike,
    class_names: Sequence[str],
    *,
    limit: int = 100,
    cells: ArrayLike | None = None,
    unit: str = "",
) -> Picture:
    """True classes down, answers across: right answers in one color, mistakes in another.

    The opacity of a cell is its share of the row, so a class half of whose images are right is half as strong as
    one without a mistake. Up to 32 classes show their counts; more show every so many names, and the most frequent
    mistakes are numbered in the matrix and listed below it. Beyond ``limit`` classes those with the most mistakes are
    drawn.

    Parameters
    ----------
    counts : array of shape (C, C)
        Result of :func:`~modalign.evaluate.metrics.confusion`.
    class_names : sequence of str
        C names.
    limit : int, default=100
        Maximum number of classes to draw.
    cells : array of shape (C, C), default=None
        Values written in the cells instead of the counts, such as shares in percent.
    unit : str, default=""
        Unit of the counts, for the alternative text.
    """
    table, names = np.asarray(counts), list(class_names)
    if table.ndim != 2 or table.shape != (len(names), len(names)) or not len(names):
        raise InputError(f"Expected a (C, C) table and C names, got {table.shape} and {len(names)} names.")
    table = table.astype(np.int64)
    written = table if cells is None else np.asarray(cells)
    counted = f"{table.sum():,} {unit}".strip()
    alt = f"Confusion matrix of {len(names)} classes: {np.trace(table):,} of {counted} right."
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)  # of all answers, drawn or not
    totals, title = table.sum(axis=1), "Confusion matrix: rows are true classes, columns are answers"
    worst = mistakes(table)
    if worst:
        i, j = worst[0]
        alt += f" Most frequent mistake: {names[i]} taken for {names[j]}, {table[i, j]:,} times."
    if len(names) > limit:
        kept = _most_mistaken(table, limit)
        table, share, written = (values[np.ix_(kept, kept)] for values in (table, share, written))
        totals = totals[kept]
        names = [names[k] for k in kept]
        alt += f" Drawn are the {limit} classes with the most mistakes."
        title = f"Confusion matrix of the {limit} classes with the most mistakes: rows true, columns answers"
    n, words = len(names), [shorten(name, 20) for name in names]
    listed = mistakes(table)[:_LISTED] if n > NAMED else []
    cell = cell_size(n)
    turned = text_width(words, 12) > cell - 4
    size = min(12.0, max(9.5, cell * 0.8))
    with settings():
        left = 24 + text_width(words, size)
        top = 26 + (text_width(words, size) * 0.78 if turned else size)
        below = 14 + 17 * math.ceil(len(listed) / 2) + (6 if listed else 0)
        slant = max((k + 0.5 - n) * cell + 0.65 * text_width([name], size) for k, name in enumerate(words))
        width = left + n * cell + 8 + (max(0, slant) if turned else 0)
        figure = canvas(width, top + n * cell + below)
        axes = panel(figure, left, below, width - left - n * cell, top)
        axes.set(xlim=(0, n), ylim=(n, 0))
        draw_grid(axes, n, cell)
        draw_cells(axes, share, n)
        if n <= NAMED:
            _draw_counts(axes, written, share, cell)
        draw_names(axes, words, cell, size, turned)
        _list_mistakes(figure, axes, listed, words, table, totals, cell)
        figure.text(
            6 / width, 1 - 8 / (top + n * cell + below), "true ↓  answer →", fontsize=10.5, color=MUTED, va="top"
        )
    return Picture(figure, alt, title)


def mistakes(table: np.ndarray) -> list[tuple[int, int]]:
    """(true class, answer) of every kind of mistake in (C, C) counts, most frequent first."""
    off = table - np.diag(table.diagonal())
    order = np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)]
    return [divmod(int(k), len(table)) for k in order]


def _most_mistaken(table: np.ndarray, limit: int) -> np.ndarray:
    """Classes of the most frequent mistakes, then those with the most mistakes in all, in their own order."""
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
    wrong[list({k for pair in mistakes(table)[: min(_LISTED, limit // 2)] for k in pair})] = table.sum() + 1
    return np.sort(np.argsort(-wrong, kind="stable")[:limit])


def _draw_counts(axes: Axes, table: np.ndarray, share: np.ndarray, cell: float) -> None:
    for i, j in np.argwhere(table):
        text = f"{table[i, j]}"
        size = min(11.0, (cell - 3) / (0.6 * len(text)))
        color = ON_STRONG if share[i, j] >= STRONG else ON_FAINT
        axes.text(j + 0.5, i + 0.5, text, fontsize=size, color=color, va="center_baseline", ha="center")


def _list_mistakes(
    figure: Figure,
    axes: Axes,
    listed: Sequence[tuple[int, int]],
    words: Sequence[str],
    table: np.ndarray,
    totals: np.ndarray,
    cell: float,
) -> None:
    """Numbers in the matrix, and what they stand for in two columns below it."""
    width, height = figure.get_size_inches() * 72
    below = axes.get_position().y0 * height
    for number, (sign, (i, j)) in enumerate(zip("①②③④⑤⑥⑦⑧", listed, strict=False)):
        at, side = (j + 0.5, "center") if cell >= 12 else (j + 1.3, "left")
        axes.text(at, i + 0.5, sign, fontsize=11, color=INK, va="center_baseline", ha=side, zorder=4)
        x, y = number % 2 * (width - 24) / 2 + 12, 14 + number // 2 * 17
        text = f"{sign} {words[i]} → {words[j]}, {table[i, j]} of {totals[i]}"
        figure.text(x / width, (below - y) / height, text, fontsize=10.5, color=INK, va="top")
