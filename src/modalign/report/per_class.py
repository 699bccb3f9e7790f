"""Figure of accuracy per class."""

from __future__ import annotations

from collections.abc import Sequence

from modalign.core.errors import InputError
from modalign.evaluate.metrics import ClassAccuracy, has_images, percent
from modalign.report.style import INK, MUTED, SERIES, WIDTH, Picture, canvas, panel, settings, text_width
from modalign.report.text import count, shorten


def per_class_bars(rows: Sequence[ClassAccuracy], *, chance: float | None = None, limit: int = 40) -> Picture:
    """Accuracy class by class, lowest first, with its interval; beyond ``limit`` classes the lowest ones.

    Parameters
    ----------
    rows : sequence of ClassAccuracy
        Result of :func:`~modalign.evaluate.metrics.per_class_accuracy`; classes without images are left out.
    chance : float, default=None
        Accuracy of guessing, which is drawn as a line.
    limit : int, default=40
        Maximum number of bars.
    """
    known = sorted((row for row in rows if has_images(row)), key=lambda row: (row.accuracy, row.name))
    if not known:
        raise InputError("Expected at least one class with images, got none.")
    shown, hidden = known[:limit], known[limit:]
    names = [shorten(r.name, 24) for r in shown]
    notes = [f"dashed: chance level {percent(chance)} %"] if chance is not None else []
    if hidden:
        notes.append(
            f"and {count(len(hidden), 'more class', 'more classes')} at {percent(hidden[0].accuracy)} % or above"
        )
    with settings():
        figure = canvas(WIDTH, 19 * len(shown) + 34 + 18 * len(notes))
        axes = panel(figure, 14 + text_width(names, 12), 8 + 18 * len(notes), 98, 24)
        for i, row in enumerate(shown):
            axes.barh(i, 100 * row.accuracy, height=0.62, color=SERIES[0], alpha=0.32)
            axes.hlines(i, 100 * row.low, 100 * row.high, color=SERIES[0], linewidth=1.3)
            axes.plot(100 * row.accuracy, i, "o", color=SERIES[0], markersize=4.5, clip_on=False)
            for text, x, size, color in ((percent(row.accuracy), 43, 11.5, INK), (f"of {row.n:,}", 93, 10, MUTED)):
                axes.annotate(
                    text, (1, i), xycoords=axes.get_yaxis_transform(), xytext=(x, 0), textcoords="offset points",
                    ha="right", va="center_baseline", fontsize=size, color=color,
                )  # fmt: skip
        if chance is not None:
            axes.axvline(100 * chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0.9)
        axes.set_yticks(range(len(shown)), names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.xaxis.tick_top()
        axes.grid(axis="x")
        axes.spines[:].set_visible(False)
        for k, note in enumerate(notes):
            axes.text(0, len(shown) + 0.25 + 0.95 * k, note, fontsize=11, color=MUTED)
    level = "" if chance is None else f" Chance level is {percent(chance)} %."
    lowest, highest = known[0], known[-1]
    return Picture(
        figure,
        f"Accuracy of {count(len(known), 'class', 'classes')}; lowest {lowest.name} with {percent(lowest.accuracy)} %, "
        f"highest {highest.name} with {percent(highest.accuracy)} %.{level}",
        "Accuracy per class with its 95 % interval, lowest first",
    )
