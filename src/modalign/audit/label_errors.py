"""Labels that out-of-fold predictions contradict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from modalign.audit.label_noise import fit_label_noise
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, Features
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.methods.contract.selection import FOLDS
from modalign.methods.contract.vectors import VectorMethod

ROUNDING = 1e-6  # by which the mean of equal probabilities may exceed them
DOUBTED = 0.5
"""A label is reported if it is more probably wrong than right."""


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label is probably wrong, the least probable label first.

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Their row numbers.
    suggested : ndarray of shape (m,)
        The most probable class other than the given one.
    self_confidence : ndarray of shape (m,)
        Predicted probability of the given label.
    judged : int
        Number of labeled images examined.
    agreement : float
        Share of these of which the given label is the most probable class.
    rate : float or None, default=None
        Estimated share of wrong labels, of :func:`find_label_errors`.
    """

    rows: np.ndarray
    suggested: np.ndarray
    self_confidence: np.ndarray
    judged: int
    agreement: float
    rate: float | None = None


def confident_label_errors(labels: ArrayLike, probabilities: ArrayLike) -> LabelErrors:
    r"""The images with the least probable labels, as many as the confident joint counts as errors.

    .. math:: \tau_k = \frac{1}{|\{i : y_i = k\}|} \sum_{i : y_i = k} p_{ik}, \qquad
              \hat y_i = \arg\max_{k \,:\, p_{ik} \ge \tau_k} p_{ik}

    Image i counts as an error if :math:`\hat y_i` exists and differs from :math:`y_i`, and :math:`y_i` is not the most
    probable class. The images with the lowest :math:`p_{i y_i}`, the self-confidence, are reported.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Class indices 0…C−1.
    probabilities : array-like of shape (n, C)
        Out-of-fold: each row from a model that was not fitted to that image.

    Returns
    -------
    LabelErrors
        Cost O(n C).

    Raises
    ------
    InputError
        Shapes that do not fit, labels out of range, values that are no probabilities.

    References
    ----------
    .. [1] Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021,
       arXiv:1911.00068, section 3.

    Examples
    --------
    >>> from modalign.audit.label_errors import confident_label_errors
    >>> found = confident_label_errors([0, 0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    >>> found.rows, found.suggested
    (array([1]), array([1]))
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not len(p) or p.shape[1] < 2 or y.shape != p.shape[:1]:
        raise InputError(f"Expected probabilities (n, C) of at least 2 classes and n labels, got {p.shape}, {y.shape}.")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise InputError(f"Expected labels in 0…{p.shape[1] - 1}, got {y.min()}…{y.max()}.")
    if not ((p >= 0) & (p <= 1 + 1e-6)).all():
        raise InputError("Expected probabilities from 0 to 1, got others.")
    images = np.arange(len(y))
    own = p[images, y]
    counts = np.bincount(y, minlength=p.shape[1])
    sums = np.bincount(y, weights=own, minlength=p.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(p >= thresholds - ROUNDING, p, -1.0)
    suggested, contradicted = _best_other(p, y)
    errors = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != y) & contradicted
    rows = np.argsort(own, kind="stable")[: errors.sum()]
    return LabelErrors(rows, suggested[rows], own[rows], len(y), float(1 - contradicted.mean()))


def probable_label_errors(labels: np.ndarray, logits: np.ndarray) -> LabelErrors:
    """The images whose label is more probably wrong than right.

    How labels were replaced and the temperature of the predictions are fitted together, see
    :class:`~modalign.audit.label_noise.LabelNoise`. A label is reported if by these it is wrong with a probability
    above one half, and another class is the most probable.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class indices 0…C−1.
    logits : ndarray of shape (n, C)
        Out-of-fold scores, of any scale.

    Returns
    -------
    LabelErrors
        Cost as of :func:`~modalign.audit.label_noise.fit_label_noise`.

    Examples
    --------
    >>> import numpy as np
    >>> from modalign.audit.label_errors import probable_label_errors
    >>> true = np.arange(300) % 3
    >>> given = np.where(np.arange(300) % 100, true, (true + 1) % 3)
    >>> scores = 2 * np.eye(3)[true] + np.random.default_rng(0).normal(size=(300, 3)) / 3
    >>> sorted(probable_label_errors(given, scores).rows.tolist())
    [0, 100, 200]
    """
    noise = fit_label_noise(logits, labels)
    p = noise.probabilities(logits)
    own = p[np.arange(len(labels)), labels]
    suggested, contradicted = _best_other(p, labels)
    order = np.argsort(own, kind="stable")
    rows = order[(contradicted & (noise.wrong(p, labels) > DOUBTED))[order]]
    return LabelErrors(rows, suggested[rows], own[rows], len(own), float(1 - contradicted.mean()), noise.rate)


def _best_other(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class other than the label of each image, and whether it is more probable than the label."""
    images = np.arange(len(labels))
    others = p.copy()
    others[images, labels] = -1.0
    return others.argmax(axis=1), others.max(axis=1) > p[images, labels]


def find_label_errors(features: Features, method: VectorMethod, *, random_state: int | None = 0) -> LabelErrors:
    """:func:`probable_label_errors` of images, with out-of-fold scores of ``method``.

    Images of classes with fewer labels than folds are not checked, since the other folds would have too few images of
    the class. Copies of an image share a fold, so that a copy is not used to predict the label of another.

    Parameters
    ----------
    features : Features
        Vectors; images without a label are ignored.
    method : VectorMethod
        Not fitted.
    random_state : int or None, default=0
        Seed of the folds.

    Raises
    ------
    InputError
        Fewer than two classes have enough labels.
    """
    counts = np.bincount(features.labels[features.labels != UNLABELED], minlength=len(features.class_names))
    enough = np.flatnonzero(counts >= FOLDS)
    if len(enough) < 2:
        raise InputError(
            f"Expected at least {FOLDS} labeled images in each of 2 classes to find label errors, got that many in "
            f"{len(enough)}."
        )
    judged = np.flatnonzero(np.isin(features.labels, enough))
    place = np.full(max(len(counts), 1) + 1, UNLABELED)
    place[enough] = np.arange(len(enough))
    names = tuple(features.class_names[k] for k in enough) if features.class_names else ()
    part = features.select(judged)
    compact = Features(part.vectors, part.ids, place[part.labels], names, spec=part.spec)
    found = cross_fit(method, compact, random_state=random_state)
    if not len(found.rows):
        return LabelErrors(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0), 0, 1.0)
    errors = probable_label_errors(found.scored.labels, found.scored.logits)
    return replace(errors, rows=judged[found.rows[errors.rows]], suggested=enough[errors.suggested])
