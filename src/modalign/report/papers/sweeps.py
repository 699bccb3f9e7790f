"""Curves over a hyper-parameter or over epochs, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from modalign.core.errors import InputError, require
from modalign.evaluate.metrics import Interval, percent
from modalign.report.line_ends import label_ends, label_points
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

SHARES = 100.0  # factor that turns shares into percent
HEIGHT = 300  # CSS pixels of a picture
MARKED = 40  # points of a curve at most that each get a marker


def sweep_curve(
    curves: Mapping[str, Mapping[float, Interval | float]],
    *,
    quantity: str,
    unit: str = "accuracy in percent",
    scale: float = SHARES,
    title: str = "",
    describe_ends: bool = False,
) -> Picture:
    """A quantity against a hyper-parameter, an epoch or an iteration, a line per curve with its interval.

    Parameters
    ----------
    curves : mapping of str to mapping of float to Interval or float
        Name → value of the hyper-parameter → mean with interval over seeds, or a number.
    quantity : str
        The varied quantity, below the axis, such as ``"λ"``.
    unit : str
        The plotted quantity, above the picture.
    scale : float
        Factor of the values; 100 turns shares into percent.
    title : str
        Above the picture on a page.
    describe_ends : bool
        The text in place of the picture has the first and the last value of each curve, not the highest.

    Returns
    -------
    Picture
        With ``data`` of an array (m, 4) per curve: value, mean, low, high, not scaled. Of a number, the ends are NaN.
    """
    data = {name: _columns(points) for name, points in curves.items()}
    if not data or any(not len(rows) for rows in data.values()):
        raise InputError("Expected at least one curve with at least one point.")
    names = [shorten(name, 26) for name in data]
    with settings():
        figure = canvas(WIDTH, HEIGHT)
        right = 16 + (text_width(names, 12) if len(names) > 1 else 0)
        axes = panel(figure, 46, 44, right, 26)
        ends: list[tuple[float, str, str]] = []
        for i, rows in enumerate(data.values()):
            color = SERIES[i % len(SERIES)]
            x, mean, low, high = rows.T * [[1], [scale], [scale], [scale]]
            known = np.isfinite(low) & np.isfinite(high)
            axes.fill_between(x, low, high, where=known, color=color, alpha=0.15, linewidth=0)
            marker = MARKERS[i % len(MARKERS)] if len(x) <= MARKED else ""
            axes.plot(x, mean, color=color, linestyle=DASHES[i // len(SERIES) % len(DASHES)], linewidth=2,
                      marker=marker, markersize=5.5, markeredgecolor=SURFACE)  # fmt: skip
            ends.append((mean[-1], names[i], color))
        axes.set_xlabel(quantity)
        if all((rows[:, 0] % 1 == 0).all() for rows in data.values()):
            axes.xaxis.set_major_locator(require("matplotlib.ticker", "plot").MaxNLocator("auto", integer=True))
        highest = max(np.nanmax(rows[:, 1:]) for rows in data.values())
        if scale == SHARES and highest <= 1 < axes.get_ylim()[1] / scale:
            axes.set_ylim(top=scale * (1 + 0.04 * (1 - axes.get_ylim()[0] / scale)))  # no share is above one
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        if len(names) > 1:
            label_ends(figure, axes, ends)
        figure.text(6 / WIDTH, 1 - 12 / HEIGHT, unit, fontsize=10.5, color=MUTED, va="center_baseline")
    described = "; ".join(f"{name} {_described(rows, scale, describe_ends)}" for name, rows in data.items())
    return Picture(
        figure,
        f"{unit} against {quantity}: {described}.",
        title or f"{unit[:1].upper()}{unit[1:]} against {quantity}",
        data,
    )


def _described(rows: np.ndarray, scale: float, ends: bool) -> str:
    if ends:
        (first, start), (last, end) = rows[0, :2], rows[-1, :2]
        return f"{scale * start:.3g} at {first:g} and {scale * end:.3g} at {last:g}"
    x, highest = rows[np.nanargmax(rows[:, 1]), :2]
    return f"highest at {x:g} with {scale * highest:.3g}"


def _columns(points: Mapping[float, Interval | float]) -> np.ndarray:
    rows = [
        (x, y.mean, y.low, y.high) if isinstance(y, Interval) and y.n > 1
        else (x, y.mean if isinstance(y, Interval) else y, np.nan, np.nan)
        for x, y in sorted(points.items())
    ]  # fmt: skip
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


class MethodCost(NamedTuple):
    """Accuracy and cost of a method.

    Attributes
    ----------
    name : str
        Of the method.
    accuracy : float
        A share.
    seconds : float
        Processor time of a fit.
    bytes : float, optional
        Peak memory; sets the size of the bubble.
    """

    name: str
    accuracy: float
    seconds: float
    bytes: float | None = None


def cost_bubbles(costs: Sequence[MethodCost]) -> Picture:
    """Accuracy against processor seconds (logarithmic); the area of a bubble is the peak memory.

    Names that would cover others are left out, those of less accurate methods first.

    Parameters
    ----------
    costs : sequence of MethodCost
        At least one.

    Returns
    -------
    Picture
        With ``data`` of ``accuracy``, ``seconds`` and ``bytes``, in the order of ``costs``.
    """
    if not costs or any(cost.seconds < 0 or not 0 <= cost.accuracy <= 1 for cost in costs):
        raise InputError("Expected at least one cost, with an accuracy in [0, 1] and seconds ≥ 0.")
    seconds = np.array([max(cost.seconds, 1e-3) for cost in costs])
    memory = np.array([np.nan if cost.bytes is None else cost.bytes for cost in costs], dtype=np.float64)
    largest = np.nanmax(memory) if np.isfinite(memory).any() else 1.0
    with settings():
        figure = canvas(WIDTH, HEIGHT + 20)
        axes = panel(figure, 50, 44, 30 + text_width([shorten(c.name, 20) for c in costs], 11) / 2, 26)
        points = np.stack([seconds, [100 * cost.accuracy for cost in costs]], axis=1)
        for i in range(len(costs)):
            area = 40.0 if np.isnan(memory[i]) else 30 + 420 * memory[i] / largest
            axes.scatter(points[i, 0], points[i, 1], s=area, color=SERIES[i % len(SERIES)], alpha=0.45, linewidths=0)
        axes.set_xscale("log")
        powers = 10.0 ** np.arange(np.floor(np.log10(seconds.min())), np.ceil(np.log10(seconds.max())) + 1)
        axes.set_xticks(powers, [f"{power:g}" for power in powers])
        axes.minorticks_off()
        axes.margins(0.12)
        axes.grid()
        axes.set_xlabel("processor seconds of a fit")
        label_points(figure, axes, points, [shorten(cost.name, 20) for cost in costs])
        note = "accuracy, percent" + ("; area: peak memory" if np.isfinite(memory).any() else "")
        figure.text(6 / WIDTH, 1 - 12 / (HEIGHT + 20), note, fontsize=10.5, color=MUTED, va="center_baseline")
    best = max(costs, key=lambda cost: cost.accuracy)
    alt = f"Accuracy and cost of {len(costs)} methods; the highest is {best.name} with {percent(best.accuracy)} %."
    data = {"accuracy": np.array([cost.accuracy for cost in costs]), "seconds": seconds, "bytes": memory}
    return Picture(figure, alt, "Accuracy against processor time", data)
