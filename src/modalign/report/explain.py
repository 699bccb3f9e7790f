"""Transport plans of prompts and tokens as maps over the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modalign.core.errors import require
from modalign.report.style import INK, MUTED, SERIES, Picture, canvas, panel, settings, text_width
from modalign.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from modalign.methods.prompts.patch_plans import PatchPlans

PROMPTS, TOKENS = 4, 6  # rows, and maps of tokens in a row, at most
CELL, GAP, TITLE, LINE = 92, 8, 24, 16


def patch_plans(plans: PatchPlans) -> Picture:
    """The picture, then a row for each of the first textual prompts: its own map, and one for each of its tokens.

    A map is drawn over the picture in gray, patch by patch; the stronger the color, the larger the value. Token plans
    and PLOT's prompt plans share one scale from uniform (no color) to the largest value anywhere. ALIGN's cosines of a
    prompt go from their lowest (no color) to their highest.

    Parameters
    ----------
    plans : PatchPlans
        What ``explain`` of a fitted ALIGN or PLOT returns.
    """
    N = min(PROMPTS, len(plans.prompts))
    shown = [] if plans.tokens is None else [own[:TOKENS] for own in plans.tokens[:N]]
    columns = 2 + max((len(own) for own in shown), default=0)
    top = max([own.max() for own in shown] or [plans.prompts.max()])
    scale = f"no color: uniform or less; strongest: {top:.2f} times uniform"
    notes = (
        [f"Tokens: {scale}.", "Prompts: from the lowest cosine to the highest."]
        if shown
        else [f"{scale.capitalize()}."]
    )
    width = max(columns * (CELL + GAP), text_width(notes, 10) + 4)
    height = N * (CELL + TITLE + GAP) + LINE * len(notes) + 6
    with settings():
        figure = canvas(width, height)

        def cell(row: int, column: int, title: str) -> Axes:
            below = height - (row + 1) * (CELL + TITLE + GAP)
            left = column * (CELL + GAP)
            axes = panel(figure, left, below, width - left - CELL, height - below - CELL)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_title(shorten(title, 14), loc="left", fontsize=10.5, color=INK if column == 0 else MUTED, pad=4)
            return axes

        cell(0, 0, plans.class_name).imshow(plans.image, interpolation="nearest")
        for n in range(N):
            own = plans.prompts[n]
            low, high = (own.min(), own.max()) if plans.tokens is not None else (1.0, top)
            _heat(cell(n, 1, f"prompt {n + 1}"), plans.image, own, low, high)
            for i, each in enumerate(shown[n] if shown else ()):
                _heat(cell(n, 2 + i, plans.words[n][i]), plans.image, each, 1.0, top)
        for line, note in enumerate(reversed(notes)):
            figure.text(0, (4 + LINE * line) / height, note, fontsize=10, color=MUTED, va="bottom", ha="left")
    what = "prompts and their tokens" if shown else "prompts"
    name = shorten(plans.class_name, 40)
    return Picture(figure, f"Maps of the {what} of the class {name} over the patches of the picture.")


def _heat(axes: Axes, image: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """A map over the picture, which is drawn faintly in gray."""
    color = require("matplotlib.colors", "plot").to_rgb(SERIES[1])
    gray = np.repeat((0.5 * image.mean(axis=2, keepdims=True) + 127).astype(np.uint8), 3, axis=2)
    axes.imshow(gray, interpolation="nearest")
    strength = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    overlay = np.concatenate([np.broadcast_to(color, (*values.shape, 3)), 0.8 * strength[..., None]], axis=2)
    axes.imshow(overlay, extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5), interpolation="nearest")
