"""The pictures of a report: each function takes plain numbers and returns a :class:`~modalign.report.style.Picture`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from modalign.errors import InputError
from modalign.evaluate.metrics import ReliabilityBin, percent, proportion
from modalign.evaluate.runs import Shots, amount
from modalign.report.classes import confusion_matrix as confusion_matrix
from modalign.report.classes import per_class_bars as per_class_bars
from modalign.report.style import (
    DASHES,
    INK,
    MARKERS,
    MUTED,
    RULE,
    SERIES,
    SURFACE,
    Picture,
    canvas,
    panel,
    settings,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from modalign.evaluate.protocol import Summary


def accuracy_over_labels(rows: Sequence[Summary], *, width: int = 430, height: int = 320) -> Picture:
    """Accuracy against labelled images a class, a line a method with its interval over seeds.

    Methods that labels do not change are horizontal lines. Names stand at the lines' ends, with the last value. Of
    more methods than there are colours the intervals are not drawn.

    Parameters
    ----------
    rows : what :func:`~modalign.evaluate.protocol.summarise` returns.
    width, height : CSS pixels.
    """
    if not rows:
        raise InputError("Expected at least one summary row to draw, got none.")
    methods = list(dict.fromkeys(row.method for row in rows))
    curves = [name for name in methods if {row.shots for row in rows if row.method == name} != {0}]
    shots = sorted({row.shots for row in rows if row.method in curves}, key=amount) or [1]
    place = _places(shots)
    with settings():
        figure = canvas(width, height)
        right = 22 + text_width([f"{name} 100.0" for name in methods], 12)
        axes = panel(figure, 46, 44, right, 14)
        ends: list[tuple[float, str, str]] = []
        reach = [100 * row.accuracy.mean for row in rows]
        for i, name in enumerate(methods):
            colour, dash = SERIES[i % len(SERIES)], DASHES[i // len(SERIES) % len(DASHES)]
            own = sorted((row for row in rows if row.method == name), key=lambda row: amount(row.shots))
            curve = own if name in curves else []
            if not curve:
                mean = 100 * own[0].accuracy.mean
                axes.axhline(mean, color=colour, linewidth=1.4, linestyle=(0, (1.5, 2.5)), zorder=2)
                ends.append((mean, f"{name} {percent(mean / 100)}", colour))
            if curve:
                x = np.array([place[r.shots] for r in curve])
                y, low, high = 100 * np.array([(r.accuracy.mean, r.accuracy.low, r.accuracy.high) for r in curve]).T
                known = np.isfinite(low) & (len(methods) <= len(SERIES))
                low, high = np.clip(low, 0, 100), np.clip(high, 0, 100)
                axes.fill_between(x, low, high, where=known, color=colour, alpha=0.15, linewidth=0, zorder=1)
                axes.vlines(x[known], low[known], high[known], color=colour, alpha=0.45, linewidth=1.2, zorder=2)
                axes.plot(
                    x, y, color=colour, linestyle=dash, linewidth=2, zorder=3,
                    marker=MARKERS[i % len(MARKERS)], markersize=6.5, markeredgecolor=SURFACE, markeredgewidth=1,
                )  # fmt: skip
                ends.append((y[-1], f"{name} {percent(y[-1] / 100)}", colour))
                reach += [*low[known], *high[known]]
        span = max(max(reach) - min(reach), 4)
        axes.set_ylim(max(0, min(reach) - 0.06 * span), min(100.5, max(reach) + 0.06 * span))
        first, last = place[shots[0]], place[shots[-1]]
        axes.set_xlim(first - 0.06 * (last - first) - 0.05, last + 0.05 * (last - first) + 0.05)
        axes.set_xticks(list(place.values()), [str(s) for s in shots])
        axes.minorticks_off()
        axes.set_xlabel("labelled images a class")
        _percent_axis(axes)
        _label_ends(axes, ends)
    best = max((row for row in rows), key=lambda row: row.accuracy.mean)
    return Picture(
        figure,
        f"Accuracy over labelled images a class for {', '.join(methods)}; the highest is {best.method} with "
        f"{percent(best.accuracy.mean)} % at {best.shots} labels a class.",
    )


def _places(shots: Sequence[Shots]) -> dict[Shots, float]:
    """Where numbers of labels stand on the axis: by their logarithm, none and all a step beyond the ends."""
    counts = [k for k in shots if k not in (0, "all")] or [1]
    ends = {0: math.log2(min(counts)) - 1, "all": math.log2(max(counts)) + 1}
    return {k: ends[k] if k in ends else math.log2(k) for k in shots}


def reliability_diagram(series: Mapping[str, Sequence[ReliabilityBin]], *, width: int = 410) -> Picture:
    """How often answers are right against how sure they are; calibrated ones lie on the diagonal.

    Dots grow with the number of answers, and each has its 95 % interval.

    Parameters
    ----------
    series : name → what :func:`~modalign.evaluate.metrics.reliability` returns, such as before and after.
    width : CSS pixels.
    """
    if not series or not all(series.values()):
        raise InputError("Expected at least one series with answers in it, got none.")
    with settings():
        figure = canvas(width, width + 20)
        axes = panel(figure, 36, 110, 22, 26)
        counts = panel(figure, 36, 42, 22, width - 74)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(99, 3, "dashed: as often right as sure", ha="right", fontsize=10.5, color=MUTED)
        errors = []
        for i, (name, bins) in enumerate(series.items()):
            colour = SERIES[i % len(SERIES)]
            sure, right, n = np.array([(100 * b.confidence, 100 * b.accuracy, b.n) for b in bins]).T
            spread = [proportion(round(b.accuracy * b.n), b.n) for b in bins]
            axes.vlines(sure, [100 * s.low for s in spread], [100 * s.high for s in spread], color=colour, alpha=0.4)
            axes.plot(sure, right, color=colour, linewidth=1.2, zorder=3)
            axes.scatter(
                sure, right, s=20 + 150 * n / n.sum(), color=colour, marker=MARKERS[i % len(MARKERS)],
                edgecolors=SURFACE, linewidths=0.8, zorder=4, clip_on=False,
            )  # fmt: skip
            errors.append(float((n * np.abs(right - sure)).sum() / n.sum()))
            words = f"{name}: off by {errors[-1]:.1f} points on average"
            axes.text(1.5, 97 - 6 * i, words, color=colour, va="top", fontsize=12)
            shift = (i - (len(series) - 1) / 2) * 1.7
            counts.vlines(sure + shift, 0, n / n.sum(), color=colour, linewidth=4.5, alpha=0.75)
        for a in (axes, counts):
            a.set(xlim=(0, 101), xticks=[0, 25, 50, 75, 100], xticklabels=["0", "25", "50", "75", "100 %"])
        axes.set(ylim=(0, 101), yticks=[0, 25, 50, 75, 100], yticklabels=["0", "25", "50", "75", "100"])
        axes.tick_params(labelbottom=False)
        axes.grid()
        axes.annotate("right, %", (0, 1), xycoords="axes fraction", xytext=(-28, 10), textcoords="offset points",
                      fontsize=11.5, color=MUTED)  # fmt: skip
        counts.set(yticks=[], xlabel="how sure")
        counts.spines["left"].set_visible(False)
        counts.text(0, 1, "share of the answers", transform=counts.transAxes, va="top", fontsize=10.5, color=MUTED)
    parts = [f"{name} off by {e:.1f} points" for name, e in zip(series, errors, strict=True)]
    return Picture(figure, f"Reliability diagram: {'; '.join(parts)} on average.")


def modality_gap(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    *,
    labels: ArrayLike | None = None,
    notes: tuple[str, str] = ("", ""),
    width: int = 430,
) -> Picture:
    """Images and class texts in the plane, before and after adaptation.

    The plane is the two principal directions of all points, images and texts weighing equally however many there are;
    both halves share it where the vectors have one width, so that distances can be compared.

    Parameters
    ----------
    before, after : (image vectors (n, d), text vectors (C, d)).
    labels : (n,) class of each image; draws a line from each class's mean image to its text.
    notes : a line under each title, such as the gap in numbers.
    width : CSS pixels.
    """
    clouds = [tuple(np.asarray(part, dtype=np.float64) for part in pair) for pair in (before, after)]
    _check_clouds(clouds, labels)
    shared = clouds[0][0].shape[1] == clouds[1][0].shape[1]
    bases = [_plane([part for pair in clouds for part in pair])] * 2 if shared else [_plane(pair) for pair in clouds]
    flat = [[(part - origin) @ basis for part in pair] for pair, (origin, basis) in zip(clouds, bases, strict=True)]
    with settings():
        each = (width - 20) / 2
        figure = canvas(width, each + 78)
        for i, (images, texts) in enumerate(flat):
            axes = panel(figure, i * (each + 20), 2, (1 - i) * (each + 20), 76)
            rows = np.arange(0, len(images), max(1, math.ceil(len(images) / 600)))
            axes.scatter(*images[rows].T, s=12, color=SERIES[0], alpha=0.35, linewidths=0)
            if labels is not None:
                for k, text in enumerate(texts):
                    own = images[np.asarray(labels) == k]
                    if len(own):
                        line = np.stack([own.mean(axis=0), text]).T
                        axes.plot(*line, color=MUTED, linewidth=0.8, alpha=min(0.8, max(0.25, 8 / len(texts))))
            size = 34 if len(texts) <= 20 else 16
            axes.scatter(*texts.T, s=size, marker="D", color=SERIES[1], edgecolors=SURFACE, linewidths=0.9, zorder=3)
            axes.set_title(("before", "after")[i], loc="left", color=INK, pad=27)
            axes.text(0, 1.03, notes[i], transform=axes.transAxes, fontsize=10.5, color=MUTED, va="bottom", ha="left")
            _square(axes, np.concatenate([p for pair in flat for p in pair] if shared else [images, texts]))
        top = figure.add_axes((0, 0, 1, 1), frameon=False)
        top.set(xlim=(0, width), ylim=(each + 78, 0), xticks=[], yticks=[])
        top.plot(6, 12, "o", color=SERIES[0], markersize=5)
        top.text(14, 12, "images", color=SERIES[0], va="center_baseline")
        top.plot(76, 12, "D", color=SERIES[1], markersize=5.5)
        top.text(85, 12, "class texts", color=SERIES[1], va="center_baseline")
    return Picture(figure, "Images and class texts in their principal plane, before and after adaptation.")


def _check_clouds(clouds: Sequence[tuple[np.ndarray, ...]], labels: ArrayLike | None) -> None:
    if any(part.ndim != 2 or part.shape[1] != pair[0].shape[1] for pair in clouds for part in pair):
        raise InputError(f"Expected (n, d) images and (C, d) texts, got {[[p.shape for p in c] for c in clouds]}.")
    if any(part.shape[1] < 2 or not np.isfinite(part).all() for pair in clouds for part in pair):
        raise InputError("Expected finite vectors of width 2 or more.")
    if labels is None:
        return
    images, texts = ([len(pair[k]) for pair in clouds] for k in (0, 1))
    if {*images, len(np.atleast_1d(labels))} != {images[0]} or texts[0] != texts[1] or np.max(labels) >= texts[0]:
        raise InputError(
            f"Expected one label for each of {images[0]} images, before and after, and one text a class; "
            f"got {len(np.atleast_1d(labels))} labels, {images} images and {texts} texts."
        )


def _plane(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Origin (d,) and basis (d, 2) of the plane that holds most of the spread, each part weighing the same."""
    origin = np.mean([part.mean(axis=0) for part in parts], axis=0)
    spread = sum((part - origin).T @ (part - origin) / len(part) for part in parts)
    basis = np.linalg.eigh(spread)[1][:, :-3:-1]
    return origin, basis * np.sign(basis[np.abs(basis).argmax(axis=0), [0, 1]])


def _square(axes: Axes, points: np.ndarray) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, 0.54 * float((high - low).max()) or 1.0
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half), xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(RULE)


def _percent_axis(axes: Axes) -> None:
    ticks = [t for t in axes.get_yticks() if axes.get_ylim()[0] <= t <= min(100, axes.get_ylim()[1])]
    digits = 0 if all(float(t).is_integer() for t in ticks) else 1
    axes.set_yticks(ticks, [f"{t:.{digits}f}{' %' if t == ticks[-1] else ''}" for t in ticks])
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 15.0) -> None:
    """Names at the right edge, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    tall = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
    ordered = sorted(ends)
    wanted = np.array([(y - low) / (high - low) * tall for y, _, _ in ordered])
    placed = _spread(wanted, gap, 4, tall - 2)
    for y, (_, words, colour) in zip(placed, ordered, strict=True):
        axes.text(
            1, y / tall, "  " + words, transform=axes.transAxes, color=colour, va="center_baseline", ha="left",
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
