"""Comparison figures: reversed errors of two methods, accuracy per class, base and new classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.evaluate.metrics import Interval, harmonic_mean, percent
from modalign.report.style import INK, MUTED, SERIES, WIDTH, Picture, canvas, panel, settings, text_width
from modalign.report.text import shorten

OUTCOMES = ("both right", "only {second} right", "only {first} right", "both wrong, same answer", "both wrong")


def error_reversal(labels: ArrayLike, first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> Picture:
    """Errors of one method under another: kept, reversed, or replaced by other errors.

    Parameters
    ----------
    labels, first, second : array of shape (n,)
        True classes, and the answers of two methods.
    names : tuple of two str
        Of the methods.

    Returns
    -------
    Picture
        With ``data`` of ``counts`` (5,) in the order of the bars, and of ``reversed``, the share of the errors of the
        first method that the second one corrects (NaN if it made none).
    """
    y, a, b = (np.asarray(values) for values in (labels, first, second))
    if y.ndim != 1 or a.shape != y.shape or b.shape != y.shape or not len(y):
        raise InputError(f"Expected n labels and n answers of each method, got {y.shape}, {a.shape} and {b.shape}.")
    right, other = a == y, b == y
    counts = np.array([
        (right & other).sum(), (~right & other).sum(), (right & ~other).sum(),
        (~right & ~other & (a == b)).sum(), (~right & ~other & (a != b)).sum(),
    ])  # fmt: skip
    words = [text.format(first=names[0], second=names[1]) for text in OUTCOMES[:4]] + ["both wrong, other answers"]
    wrong = int((~right).sum())
    reversed_share = float(counts[1] / wrong) if wrong else float("nan")
    with settings():
        height = 26 * len(words) + 12
        figure = canvas(WIDTH, height)
        axes = panel(figure, 14 + text_width([shorten(w, 34) for w in words], 12), 6, 96, 6)
        for i, count in enumerate(counts):
            color = SERIES[(0, 2, 1, 3, 4)[i]]
            axes.barh(i, 100 * count / len(y), height=0.62, color=color, alpha=0.5)
            axes.annotate(f"{100 * count / len(y):.1f} %, {count:,}", (1, i), xycoords=axes.get_yaxis_transform(),
                          xytext=(6, 0), textcoords="offset points", fontsize=11, color=INK,
                          va="center_baseline")  # fmt: skip
        axes.set_yticks(range(len(words)), [shorten(w, 34) for w in words])
        axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
        axes.set(ylim=(len(words) - 0.4, -0.6), xlim=(0, 100), xticks=[])
        axes.spines[:].set_visible(False)
    alt = f"Of {wrong:,} errors of {names[0]}, {names[1]} corrects {counts[1]:,}; it adds {counts[2]:,}."
    data = {"counts": counts, "reversed": reversed_share}
    return Picture(figure, alt, f"Errors of {names[0]} under {names[1]}", data)


def per_class_comparison(
    accuracies: Mapping[str, Sequence[float]], class_names: Sequence[str], *, limit: int = 30
) -> Picture:
    """Accuracy per class of several methods, a marker per method; classes with the largest spread first.

    Parameters
    ----------
    accuracies : mapping of str to sequence of float
        Method → a share per class, NaN for a class without images.
    class_names : sequence of str
        C names.
    limit : int
        Most classes to draw.

    Returns
    -------
    Picture
        With ``data`` of an array (C,) per method, and of ``order``, the classes that are drawn.
    """
    table = np.array([list(values) for values in accuracies.values()], dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(class_names) or not table.size:
        raise InputError(f"Expected a share for each of {len(class_names)} classes per method, got {table.shape}.")
    known = np.flatnonzero(np.isfinite(table).all(axis=0))
    order = known[np.argsort(-np.ptp(table[:, known], axis=0), kind="stable")][:limit]
    names, methods = [shorten(class_names[k], 24) for k in order], list(accuracies)
    with settings():
        head = 18 * len(methods) + 24
        height = 19 * len(order) + head + 8
        figure = canvas(WIDTH, height)
        axes = panel(figure, 14 + text_width(names, 12), 8, 16, head)
        for i, k in enumerate(order):
            axes.hlines(i, 100 * table[:, k].min(), 100 * table[:, k].max(), color=MUTED, linewidth=1, alpha=0.5)
            for m in range(len(methods)):
                axes.plot(100 * table[m, k], i, "osD^v"[m % 5], color=SERIES[m % len(SERIES)], markersize=6, alpha=0.85,
                          clip_on=False)  # fmt: skip
        for m, method in enumerate(methods):
            mean = np.nanmean(table[m])
            figure.text(14 / WIDTH, 1 - (14 + 18 * m) / height, f"{'●■◆▲▼'[m % 5]} {method}, mean {percent(mean)} %",
                        color=SERIES[m % len(SERIES)], va="center_baseline")  # fmt: skip
        axes.set_yticks(range(len(order)), names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, 100))
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.xaxis.tick_top()
        axes.grid(axis="x")
        axes.spines[:].set_visible(False)
    alt = f"Accuracy of {len(order)} of {len(class_names)} classes under {', '.join(methods)}."
    return Picture(figure, alt, "Accuracy per class, largest differences first",
                   {**dict(zip(methods, table, strict=True)), "order": order})  # fmt: skip


def base_new_bars(halves: Mapping[str, tuple[Interval, Interval]], *, title: str = "Base and new classes") -> Picture:
    """Accuracy on base and on new classes and their harmonic mean, a group of three bars per method.

    Parameters
    ----------
    halves : mapping of str to two Interval
        Method → accuracy on base and on new classes.
    title : str
        Above the picture.

    Returns
    -------
    Picture
        With ``data`` of ``base``, ``new`` and ``harmonic mean``, in the order of the methods.
    """
    if not halves:
        raise InputError("Expected at least one method.")
    names = list(halves)
    base, new = (np.array([halves[name][half].mean for name in names]) for half in (0, 1))
    both = np.array([harmonic_mean(b, n) for b, n in zip(base, new, strict=True)])
    parts = {"base": base, "new": new, "harmonic mean": both}
    with settings():
        height = 58 * len(names) + 34
        figure = canvas(WIDTH, height)
        axes = panel(figure, 14 + text_width([shorten(n, 22) for n in names], 12), 6, 54, 28)
        for p, (part, values) in enumerate(parts.items()):
            at = np.arange(len(names)) + 0.27 * (p - 1)
            axes.barh(at, 100 * values, height=0.22, color=SERIES[p], alpha=0.5)
            for y, value in zip(at, values, strict=True):
                axes.annotate(percent(value), (100 * value, y), xytext=(5, 0), textcoords="offset points", fontsize=11,
                              color=INK, va="center_baseline", annotation_clip=False)  # fmt: skip
            for y, name in zip(at, names, strict=True):
                interval = halves[name][p] if p < 2 else None
                if interval is not None and interval.n > 1:
                    axes.hlines(y, 100 * interval.low, 100 * interval.high, color=SERIES[p], linewidth=1.2)
            figure.text((14 + 86 * p) / WIDTH, 1 - 13 / height, f"■ {part}", color=SERIES[p], va="center_baseline")
        axes.set_yticks(range(len(names)), [shorten(n, 22) for n in names])
        axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
        axes.set(ylim=(len(names) - 0.45, -0.55), xlim=(0, 100), xticks=[])
        axes.spines[:].set_visible(False)
    best = names[int(both.argmax())]
    alt = f"Accuracy on base and new classes of {len(names)} methods; the highest harmonic mean is that of {best}."
    return Picture(figure, alt, title, parts)
