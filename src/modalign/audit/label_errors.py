"""Labels that out-of-fold predictions contradict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modalign.audit.label_noise import fit_label_noise
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, Features
from modalign.methods.contract.cross_fitting import cross_fit
from modalign.methods.contract.selection import FOLDS
from modalign.methods.contract.vectors import VectorMethod

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
    agreement : float
        Share of the examined images of which the given label is the most probable class.
    rate : float or None, default=None
        Estimated share of wrong labels, of :func:`find_label_errors`.
    """

    rows: np.ndarray
    suggested: np.ndarray
    self_confidence: np.ndarray
    agreement: float
    rate: float | None = None


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
    images = np.arange(len(labels))
    own, others = p[images, labels], p.copy()
    others[images, labels] = -1.0
    suggested, contradicted = others.argmax(axis=1), others.max(axis=1) > own
    order = np.argsort(own, kind="stable")
    rows = order[(contradicted & (noise.wrong(p, labels) > DOUBTED))[order]]
    return LabelErrors(rows, suggested[rows], own[rows], float(1 - contradicted.mean()), noise.rate)


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
        return LabelErrors(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0), 1.0)
    errors = probable_label_errors(found.scored.labels, found.scored.logits)
    return replace(errors, rows=judged[found.rows[errors.rows]], suggested=enough[errors.suggested])
