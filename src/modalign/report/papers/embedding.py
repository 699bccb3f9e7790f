"""A map of image vectors and class vectors in the plane, by t-SNE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.core.randomness import require_seed
from modalign.report.style import INK, MARKERS, MUTED, RULE, SERIES, SURFACE, WIDTH, Picture, canvas, panel, settings
from modalign.report.text import shorten

NAMED = 24  # class vectors that are labeled with their names
FEWEST = 8  # points below which t-SNE has nothing to arrange


def embedding_map(
    images: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    texts: ArrayLike | None = None,
    seed: int = 0,
    title: str = "",
) -> Picture:
    """Images as points by class, class vectors as diamonds.

    Parameters
    ----------
    images : array of shape (n, d)
        Image vectors; only their directions count.
    labels : array of shape (n,)
        Class of every image, -1 where unknown.
    class_names : sequence of str
        C names. Five colors and five markers distinguish 25 classes; further ones repeat.
    texts : array of shape (C, d), optional
        A vector per class, such as class text or learned class embeddings.
    seed : int
        Of t-SNE.
    title : str
        Above the picture.

    Returns
    -------
    Picture
        With ``data`` of ``images`` (n, 2) and, where given, ``texts`` (C, 2).

    Notes
    -----
    Where class vectors are given, images and class vectors are centered separately; otherwise the modality gap would
    put all class vectors into one place. t-SNE is scikit-learn's, with cosine distances and perplexity min(30, n / 4);
    fewer than 8 points are placed by their principal directions. t-SNE keeps neighborhoods. Distances between groups
    and sizes of groups mean nothing.
    """
    require_seed(seed, "seed")
    X, y = np.asarray(images, dtype=np.float64), np.asarray(labels)
    T = np.empty((0, X.shape[-1])) if texts is None else np.asarray(texts, dtype=np.float64)
    if X.ndim != 2 or y.shape != X.shape[:1] or T.shape[1:] != X.shape[1:] or len(T) not in (0, len(class_names)):
        raise InputError(
            f"Expected images (n, d), n labels and a text vector (d) for each of {len(class_names)} classes, got "
            f"{X.shape}, {y.shape} and {T.shape}."
        )
    if not len(X) or not (np.isfinite(X).all() and np.isfinite(T).all()):
        raise InputError("Expected finite vectors of at least one image.")
    points = np.concatenate([_directions(part, centered=len(T) > 1) for part in (X, T)])
    method = "t-SNE" if len(points) >= FEWEST else "principal directions"
    flat = _t_sne(points, seed) if method == "t-SNE" else _principal(points)
    area = float(np.clip(4000 / len(X), 13, 36))  # few points are drawn larger and stronger
    faint = float(np.clip(160 / len(X), 0.55, 0.9))
    with settings():
        figure = canvas(WIDTH, WIDTH + 24)
        axes = panel(figure, 2, 2, 2, 24)
        for k in np.unique(y):
            color = MUTED if k < 0 else SERIES[k % len(SERIES)]
            marker = "o" if k < 0 else MARKERS[k // len(SERIES) % len(MARKERS)]
            across, up = flat[: len(X)][y == k].T
            axes.scatter(across, up, s=area, color=color, marker=marker, alpha=faint, linewidths=0)
        turn = flat[:, 0].min() + 0.75 * np.ptp(flat[:, 0])  # farther right, names stand on the left
        for k, (a, b) in enumerate(flat[len(X) :]):
            axes.scatter(a, b, s=52, marker="D", color=SERIES[k % len(SERIES)], edgecolors=SURFACE, zorder=3)
            if len(T) <= NAMED:
                beside = (-6, "right") if a > turn else (6, "left")
                axes.annotate(shorten(class_names[k], 18), (a, b), xytext=(beside[0], 0), ha=beside[1],
                              textcoords="offset points", fontsize=10.5, color=INK, va="center_baseline",
                              zorder=4)  # fmt: skip
        axes.set(xticks=[], yticks=[])
        axes.margins(0.06)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(RULE)
        note = "points: images, by class" + ("; diamonds: class vectors; each centered" if len(T) else "")
        figure.text(4 / WIDTH, 1 - 12 / (WIDTH + 24), note, fontsize=10.5, color=MUTED, va="center_baseline")
    data = {"images": flat[: len(X)]} | ({"texts": flat[len(X) :]} if len(T) else {})
    alt = f"{len(X)} images of {len(np.unique(y[y >= 0]))} classes in the plane by {method}."
    return Picture(figure, alt, title or f"Image vectors by {method}", data)


def _directions(vectors: np.ndarray, *, centered: bool) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    if not centered or not len(unit):
        return unit
    moved = unit - unit.mean(axis=0)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-12)


def _t_sne(points: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(2.0, len(points) / 4))
    return TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed).fit_transform(points)


def _principal(points: np.ndarray) -> np.ndarray:
    centered = points - points.mean(axis=0)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    plane = directions[:2]
    plane = plane * np.sign(plane[np.arange(len(plane)), np.abs(plane).argmax(axis=1)])[:, None]
    flat = centered @ plane.T
    return flat if flat.shape[1] == 2 else np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
