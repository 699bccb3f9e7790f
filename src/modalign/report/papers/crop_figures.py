"""What local views contribute: densities of crop weights, and the sentences nearest to an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.report.papers.densities import DensityLine, draw_densities
from modalign.report.run_tables import Table
from modalign.report.style import Picture

GRID = 200  # places at which a density is drawn


def crop_weight_density(
    weights: Mapping[str, ArrayLike], *, title: str = "Weights of crops", width: int = 430, height: int = 250
) -> Picture:
    """Densities of the weights that a method gives the crops of an image, estimated with Gaussian kernels.

    Parameters
    ----------
    weights : mapping of str to array
        Name, such as an epoch or a way of weighting → weights of any shape.
    title : str
        Above the picture.
    width, height : int
        CSS pixels.

    Returns
    -------
    Picture
        With ``data`` of ``grid`` (200,) and a density per name.
    """
    values = {name: np.asarray(one, dtype=np.float64).ravel() for name, one in weights.items()}
    if not values or any(len(one) < 2 or not np.isfinite(one).all() for one in values.values()):
        raise InputError("Expected at least two finite weights per density.")
    every = np.concatenate(list(values.values()))
    margin = 0.08 * (np.ptp(every) or abs(every[0]) or 1.0)
    grid = np.linspace(every.min() - margin, every.max() + margin, GRID)
    densities = {name: _density(one, grid) for name, one in values.items()}
    lines = [
        DensityLine(f"{name}: {values[name].min():.3g} to {values[name].max():.3g}", grid, density)
        for name, density in densities.items()
    ]
    figure = draw_densities(lines, "weight of a crop", width, height)
    spreads = ", ".join(f"{name} {one.std():.3g}" for name, one in values.items())
    return Picture(figure, f"Densities of crop weights; standard deviations: {spreads}.", title,
                   {"grid": grid, **densities})  # fmt: skip


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """By Gaussian kernels with Scott's bandwidth; of equal values, a narrow one around them."""
    from scipy.stats import gaussian_kde

    if np.ptp(values) < 1e-12:
        width = 0.01 * float(np.ptp(grid))
        return np.exp(-0.5 * ((grid - values[0]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return gaussian_kde(values)(grid)


def best_sentences(
    image: ArrayLike, sentences: Sequence[Sequence[str]], vectors: ArrayLike, class_names: Sequence[str], *, k: int = 5
) -> Table:
    """The sentences whose vectors are nearest to an image, with their classes and cosines.

    Parameters
    ----------
    image : array of shape (d,)
        Its vector.
    sentences : sequence of sequence of str
        The sentences of each class.
    vectors : array of shape (C, T, d)
        Their vectors; rows after the last sentence of a class are not looked at.
    class_names : sequence of str
        C names.
    k : int
        How many.

    Returns
    -------
    Table
        Nearest first.
    """
    x, V = np.asarray(image, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    counts = [len(lines) for lines in sentences]
    if x.ndim != 1 or V.ndim != 3 or V.shape[2] != len(x) or not len(V) == len(counts) == len(class_names):
        raise InputError(
            f"Expected a vector (d) and sentence vectors (C, T, d) of {len(class_names)} classes, got {x.shape} and "
            f"{V.shape}."
        )
    norms = np.linalg.norm(V, axis=2).clip(1e-12) * max(float(np.linalg.norm(x)), 1e-12)
    cosines = (V @ x) / norms
    there = np.arange(V.shape[1])[None] < np.array(counts)[:, None]
    order = np.argsort(-np.where(there, cosines, -np.inf), axis=None, kind="stable")[: min(k, int(there.sum()))]
    rows = [
        [sentences[c][t], class_names[c], f"{cosines[c, t]:.3f}"]
        for c, t in zip(*np.unravel_index(order, cosines.shape), strict=True)
    ]
    return Table(["sentence", "class", "cosine"], rows, title="Nearest sentences")
