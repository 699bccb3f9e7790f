"""Figure of the modality gap: images and class texts in one plane, before and after adaptation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.report.style import INK, MUTED, RULE, SERIES, SURFACE, WIDTH, Picture, canvas, panel, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_modality_gap(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    *,
    labels: ArrayLike | None = None,
    notes: tuple[str, str] = ("", ""),
) -> Picture:
    """Images and class texts in the plane, before and after adaptation.

    The plane is the two principal directions of all points, images and texts weighing equally however many there are;
    both halves share it where the vectors have one width, so that distances can be compared.

    Parameters
    ----------
    before, after : tuple of (array-like of shape (image vectors (n, d), text vectors (C, d)), array-like)
        Image vectors and class texts before and after the map.
    labels : array-like of shape (n,) or None, default=None
        Class of each image; draws a line from each class's mean image to its text.
    notes : tuple of (str, str)
        A line under each title, such as the gap in numbers.
    """
    clouds = [tuple(np.asarray(part, dtype=np.float64) for part in pair) for pair in (before, after)]
    _check_clouds(clouds, labels)
    shared = clouds[0][0].shape[1] == clouds[1][0].shape[1]
    bases = [_plane([part for pair in clouds for part in pair])] * 2 if shared else [_plane(pair) for pair in clouds]
    flat = [[(part - origin) @ basis for part in pair] for pair, (origin, basis) in zip(clouds, bases, strict=True)]
    with settings():
        each = (WIDTH - 20) / 2
        figure = canvas(WIDTH, each + 78)
        for i, (images, texts) in enumerate(flat):
            axes = panel(figure, i * (each + 20), 2, (1 - i) * (each + 20), 76)
            rows = np.arange(0, len(images), max(1, math.ceil(len(images) / 600)))
            x, y = images[rows].T
            axes.scatter(x, y, s=12, color=SERIES[0], alpha=0.35, linewidths=0)
            if labels is not None:
                for k, text in enumerate(texts):
                    own = images[np.asarray(labels) == k]
                    if len(own):
                        line = np.stack([own.mean(axis=0), text]).T
                        axes.plot(*line, color=MUTED, linewidth=0.8, alpha=min(0.8, max(0.25, 8 / len(texts))))
            size = 34 if len(texts) <= 20 else 16
            x, y = texts.T
            axes.scatter(x, y, s=size, marker="D", color=SERIES[1], edgecolors=SURFACE, linewidths=0.9, zorder=3)
            axes.set_title(("before", "after")[i], loc="left", color=INK, pad=27)
            axes.text(0, 1.03, notes[i], transform=axes.transAxes, fontsize=10.5, color=MUTED, va="bottom", ha="left")
            _square(axes, np.concatenate([p for pair in flat for p in pair] if shared else [images, texts]))
        top = figure.add_axes((0, 0, 1, 1), frameon=False)
        top.set(xlim=(0, WIDTH), ylim=(each + 78, 0), xticks=[], yticks=[])
        top.plot(6, 12, "o", color=SERIES[0], markersize=5)
        top.text(14, 12, "images", color=SERIES[0], va="center_baseline")
        top.plot(76, 12, "D", color=SERIES[1], markersize=5.5)
        top.text(85, 12, "class texts", color=SERIES[1], va="center_baseline")
    return Picture(
        figure,
        "Images and class texts in their principal plane, before and after adaptation.",
        "Image vectors and class-text vectors, projected to a plane",
    )


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
            f"Expected one label for each of {images[0]} images, before and after, and one text per class; "
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
    center, half = (low + high) / 2, 0.54 * float((high - low).max()) or 1.0
    axes.set(xlim=(center[0] - half, center[0] + half), ylim=(center[1] - half, center[1] + half), xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(RULE)
