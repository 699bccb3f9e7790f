"""Images that are unlike all other images of their class."""

from __future__ import annotations

import numpy as np
import torch

from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import CHUNK, unit

NEIGHBORS = 10
FENCE = 3.0  # interquartile ranges below the lower quartile: Tukey's "far out"


def neighbor_similarity(vectors: np.ndarray, labels: np.ndarray, neighbors: int = NEIGHBORS) -> np.ndarray:
    r"""Mean cosine of each image to its nearest images of the same class.

    .. math:: s_i = \frac1m \sum_{j \in N_m(i)} \hat x_i^\top \hat x_j

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        Image vectors.
    labels : ndarray of shape (n,)
        Classes; images with one number, −1 included, are compared with each other.
    neighbors : int, default=NEIGHBORS
        m, or as many as the class has other images.

    Returns
    -------
    ndarray of shape (n,)
        NaN for an image that is alone in its class. Cost O(Σ n_c² d), in blocks.
    """
    found = np.full(len(vectors), np.nan)
    rows = unit(as_single(vectors))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own, m = rows[members], min(neighbors, len(members) - 1)
        if m < 1:
            continue
        step = max(1, CHUNK // len(members))
        for start in range(0, len(members), step):
            cosines = own[start : start + step] @ own.T
            here = torch.arange(len(cosines))
            cosines[here, here + start] = -torch.inf
            found[members[start : start + step]] = cosines.topk(m, dim=1).values.mean(dim=1).numpy()
    return found


def outlying(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows far below the other images of their class in :func:`neighbor_similarity`, lowest first, and their values.

    The similarity of images differs between classes. The median of the class is therefore subtracted, and an image is
    reported below Q1 − 3 (Q3 − Q1) of these differences over all classes.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        Image vectors.
    labels : ndarray of shape (n,)
        Classes, −1 where unknown.

    Returns
    -------
    tuple of (ndarray, ndarray)
        Row numbers and similarities.
    """
    similarity = neighbor_similarity(vectors, labels)
    difference = np.full(len(similarity), np.nan)
    for label in np.unique(labels):
        members = labels == label
        if members.sum() > NEIGHBORS:  # fewer have no typical similarity
            difference[members] = similarity[members] - np.median(similarity[members])
    known = difference[np.isfinite(difference)]
    if not len(known):
        return np.empty(0, dtype=np.int64), np.empty(0)
    low, high = np.quantile(known, (0.25, 0.75))
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(difference < low - FENCE * max(high - low, 1e-6))
    rows = rows[np.argsort(difference[rows], kind="stable")]
    return rows, similarity[rows]
