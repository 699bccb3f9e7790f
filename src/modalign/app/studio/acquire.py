"""Selection of the images to label next, from probabilities and vectors."""

from __future__ import annotations

import numpy as np

from modalign.core.errors import UnknownNameError

POOL = 0.1  # share of the candidates that `diverse` chooses from
MOST_SPREAD = 10_000  # maximum number of candidates of `diverse`
ACQUISITIONS = {
    "both": "uncertain and unlike each other",
    "uncertain": "smallest margin between the two likeliest classes",
    "diverse": "unlike each other and what is labeled",
    "random": "drawn at random",
    "exam": "images of the exam set only",
}


def margins(probabilities: np.ndarray) -> np.ndarray:
    """(n,) difference of the two largest probabilities of each row; 0 where there is one class only."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), dtype=np.float32)
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0]


def acquire(
    by: str,
    count: int,
    *,
    candidates: np.ndarray,
    labeled: np.ndarray,
    margin: np.ndarray,
    vectors: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Up to ``count`` rows of ``candidates``, the most useful first.

    ``"uncertain"`` takes the smallest margins. ``"both"`` takes the tenth of the candidates with the smallest margins
    and chooses among these by k-means++ seeding with the distance 1 − cosine, so that they differ from each other.
    ``"diverse"`` does the same with all candidates (at most 10,000 of them, drawn at random) and the distance to the
    labeled images too. ``"random"`` draws.

    Parameters
    ----------
    by : {"both", "uncertain", "diverse", "random"}
        The rule.
    count : int
        Number of rows.
    candidates, labeled : ndarray of int
        Rows that may be selected, and rows with a label.
    margin : ndarray of shape (n,)
        Of :func:`margins`.
    vectors : ndarray of shape (n, d)
        Unit rows.
    generator : Generator
        Source of randomness.

    Notes
    -----
    O(n + count · p · d) with p images in the pool.

    References
    ----------
    .. [1] Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    count = min(count, len(candidates))
    if not count:
        return candidates[:0]
    if by == "uncertain":
        return _least_sure(candidates, margin, count)
    if by == "random":
        return generator.choice(candidates, count, replace=False)
    if by == "both":
        pool = _least_sure(candidates, margin, max(count, round(POOL * len(candidates))))
        return _spread_out(pool, vectors, count, None, generator)
    if by == "diverse":
        pool = (
            candidates if len(candidates) <= MOST_SPREAD else generator.choice(candidates, MOST_SPREAD, replace=False)
        )
        known = labeled if len(labeled) <= 500 else generator.choice(labeled, 500, replace=False)
        return _spread_out(pool, vectors, count, known, generator)
    raise UnknownNameError("acquisition", by, ACQUISITIONS)


def _some(rows: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else generator.choice(rows, most, replace=False)


def _least_sure(candidates: np.ndarray, margin: np.ndarray, count: int) -> np.ndarray:
    found = margin[candidates]
    if count < len(candidates):
        some = np.argpartition(found, count - 1)[:count]
        candidates, found = candidates[some], found[some]
    return candidates[np.argsort(found, kind="stable")]


def _spread_out(
    pool: np.ndarray, vectors: np.ndarray, count: int, known: np.ndarray | None, generator: np.random.Generator
) -> np.ndarray:
    """k-means++ seeding of the pool, which begins with its first row, or at the distance to known rows."""
    X = np.asarray(vectors[pool], dtype=np.float32)
    if known is not None and len(known):
        distance = 1 - (X @ vectors[known].T).max(axis=1)
        chosen: list[int] = []
    else:
        chosen = [0]
        distance = 1 - X @ X[0]
    while len(chosen) < count:
        weight = np.maximum(distance, 0.0).astype(np.float64)
        weight[chosen] = 0.0
        if weight.sum() <= 0:  # copies only are left
            rest = np.setdiff1d(np.arange(len(pool)), chosen, assume_unique=True)
            chosen += rest[: count - len(chosen)].tolist()
            break
        chosen.append(int(generator.choice(len(pool), p=weight / weight.sum())))
        distance = np.minimum(distance, 1 - X @ X[chosen[-1]])
    return pool[chosen]
