"""Densities of the weights of crops."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.report.papers.densities import DensityLine, draw_densities
from modalign.report.style import Picture

GRID = 200  # places at which a density is drawn


def crop_weight_density(weights: Mapping[str, ArrayLike], *, title: str = "Weights of crops") -> Picture:
    """Densities of the weights that a method gives the crops of an image, estimated with Gaussian kernels.

    Parameters
    ----------
    weights : mapping of str to array
        Name, such as an epoch or a way of weighting → weights of any shape.
    title : str
        Above the picture.

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
    figure = draw_densities(lines, "weight of a crop", 250)
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
