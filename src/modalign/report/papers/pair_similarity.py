"""Similarity of images and class texts: histograms of kinds of pairs, and the matrix of classes by texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.report.matrix import NAMED, cell_size, draw_cells, draw_grid, draw_names
from modalign.report.papers.densities import DensityLine, draw_densities
from modalign.report.style import (
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

BINS = 50


def similarity_kinds(images: ArrayLike, texts: ArrayLike, labels: ArrayLike) -> dict[str, np.ndarray]:
    """Cosines of three kinds of pairs.

    Parameters
    ----------
    images : array of shape (n, d)
        Image vectors.
    texts : array of shape (C, d)
        A vector per class.
    labels : array of shape (n,)
        Class of every image.

    Returns
    -------
    dict of str to ndarray
        ``"matching"`` (n,), an image and the text of its class; ``"not matching"`` (n · (C - 1),), an image and the
        text of another class; ``"two texts"`` (C · (C - 1) / 2,), the texts of two classes.
    """
    X, T, y = _unit(images), _unit(texts), np.asarray(labels)
    if len(X) != len(y) or X.shape[1] != T.shape[1] or not len(y) or y.min() < 0 or y.max() >= len(T):
        raise InputError(
            f"Expected images (n, d), texts (C, d) and n labels in 0…C-1, got {X.shape}, {T.shape} and {y.shape}."
        )
    cosines = X @ T.T
    own = np.zeros_like(cosines, dtype=bool)
    own[np.arange(len(y)), y] = True
    return {
        "matching": cosines[own],
        "not matching": cosines[~own],
        "two texts": (T @ T.T)[np.triu_indices(len(T), 1)],
    }


def similarity_histograms(kinds: Mapping[str, ArrayLike], *, title: str = "Cosine similarity") -> Picture:
    """Histograms of several kinds of pairs above one axis, each of area one.

    Parameters
    ----------
    kinds : mapping of str to array
        Name → cosines, such as :func:`similarity_kinds` returns, or the matching pairs of several methods.
    title : str
        Above the picture.

    Returns
    -------
    Picture
        With ``data`` of ``edges`` and the densities of each kind.
    """
    values = {name: np.asarray(cosines, dtype=np.float64).ravel() for name, cosines in kinds.items()}
    if not values or any(not len(one) or not np.isfinite(one).all() for one in values.values()):
        raise InputError("Expected at least one kind of pairs, each with finite similarities.")
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    densities = {name: np.histogram(one, edges, density=True)[0] for name, one in values.items()}
    lines = [
        DensityLine(f"{name}: mean {_signed(values[name].mean())}", edges, density, float(values[name].mean()))
        for name, density in densities.items()
    ]
    figure = draw_densities(lines, "cosine", 260)
    means = ", ".join(f"{name} {_signed(one.mean())}" for name, one in values.items())
    return Picture(figure, f"Histograms of cosines; means: {means}.", title, {"edges": edges, **densities})


def _signed(cosine: float) -> str:
    return f"{cosine:.3f}".replace("-", "−")


def matching_matrix(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Picture:
    """Mean probability of each class text for the images of each class; row = class, column = text.

    Parameters
    ----------
    probabilities : array of shape (n, C)
        Rows sum to one.
    labels : array of shape (n,)
        Class of every image. Every class needs an image.
    class_names : sequence of str
        C names.

    Returns
    -------
    Picture
        With ``data`` of the ``matrix`` (C, C).
    """
    P, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    C = len(class_names)
    if P.ndim != 2 or P.shape != (len(y), C) or set(y.tolist()) != set(range(C)):
        raise InputError(
            f"Expected probabilities (n, {C}) and n labels in which each of the {C} classes occurs, got {P.shape} and "
            f"{len(np.unique(y))} classes."
        )
    matrix = np.stack([P[y == k].mean(axis=0) for k in range(C)])
    words, cell = [shorten(name, 20) for name in class_names], cell_size(C)
    size, turned = min(12.0, max(9.5, cell * 0.8)), text_width(words, 12) > cell - 4
    with settings():
        left = 14 + text_width(words, size)
        top = 26 + (text_width(words, size) * 0.78 if turned else size)
        slant = max((k + 0.5 - C) * cell + 0.65 * text_width([name], size) for k, name in enumerate(words))
        width = left + C * cell + 8 + (max(0.0, slant) if turned else 0)
        figure = canvas(width, top + C * cell + 8)
        axes = panel(figure, left, 8, width - left - C * cell, top)
        axes.set(xlim=(0, C), ylim=(C, 0))
        draw_grid(axes, C, cell)
        draw_cells(axes, matrix.clip(0, 1), C)
        for i, j in np.argwhere(matrix >= 0.005) if C <= NAMED and cell >= 24 else ():
            color = ON_STRONG if matrix[i, j] >= STRONG else ON_FAINT
            axes.text(j + 0.5, i + 0.5, f"{100 * matrix[i, j]:.0f}", fontsize=min(11.0, cell / 2.4), color=color,
                      va="center_baseline", ha="center")  # fmt: skip
        draw_names(axes, words, cell, size, turned)
    own = matrix.diagonal().mean()
    alt = f"Mean probability of {C} class texts for the images of {C} classes; their own gets {own:.2f} on average."
    return Picture(figure, alt, "Mean probability of each text (columns) for the images of each class (rows)",
                   {"matrix": matrix})  # fmt: skip


def _unit(vectors: ArrayLike) -> np.ndarray:
    X = np.asarray(vectors, dtype=np.float64)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise InputError(f"Expected finite vectors as a matrix, got shape {X.shape}.")
    return X / np.linalg.norm(X, axis=1, keepdims=True).clip(1e-12)
