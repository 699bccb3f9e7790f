"""From sets of classes to the answers for all images: every class is a separate binary problem."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from modalign.app.studio.refitting import MOST, Answers
from modalign.core.features import ClassText, Features
from modalign.core.label_matrix import PRESENT, UNKNOWN
from modalign.core.progress import progress
from modalign.evaluate.multi_label_metrics import multi_label_scores
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.one_against_rest import OneAgainstRest

AT_ONCE, THOROUGH = "gda", ("gda", "linear_probe")


@dataclass(frozen=True)
class SetAnswers(Answers):
    """Probabilities that each image shows each class; ``held_out`` is not used.

    Attributes
    ----------
    thresholds : ndarray of shape (C,)
        From which an image counts as showing a class.
    learned_by : str, default="gda"
        Name of the method.
    """

    learned_by: str = AT_ONCE
    thresholds: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def shown(self) -> np.ndarray:
        """(n, C) whether the probability reaches the threshold."""
        return self.probabilities >= self.thresholds


def refit_sets(
    features: Features,
    matrix: np.ndarray,
    class_ids: tuple[int, ...],
    text: ClassText | None,
    *,
    thorough: bool = False,
) -> SetAnswers:
    """Fit to the images with a set and answer for all of them.

    At once by GDA. A thorough refit also fits the linear probe, and takes what has the higher mean average precision on
    out-of-fold predictions. A class without text and without both an image that shows it and one that does not has
    probability 0.

    Parameters
    ----------
    features : Features
        All n images.
    matrix : ndarray of shape (n, C)
        Labels to learn from: 1, 0, and −1 where there is none.
    class_ids : tuple of int
        Class number of each column.
    text : ClassText or None
        Of the C classes, None for an encoder that reads no text.
    thorough : bool, default=False
        Whether a second method is tried.
    """
    began = time.perf_counter()
    labeled = np.flatnonzero((matrix != UNKNOWN).any(axis=1))
    known = labeled[np.random.default_rng(0).permutation(len(labeled))[: MOST[thorough]]]
    columns = np.arange(len(class_ids))
    if text is None:
        both = (matrix[known] == PRESENT).any(axis=0) & (matrix[known] == 0).any(axis=0)
        columns = np.flatnonzero(both)
    P, thresholds = np.zeros(matrix.shape, dtype=np.float32), np.full(len(class_ids), 0.5)
    if len(columns) < 2:
        return SetAnswers("", class_ids, P, len(labeled), thresholds=thresholds)
    rows = known if len(known) else np.arange(1)
    names = THOROUGH if thorough and len(known) else (AT_ONCE,)
    with progress(False):
        models = [_fitted(name, features.select(rows), matrix[np.ix_(rows, columns)], text) for name in names]
    best = max(range(len(models)), key=lambda i: _quality(models[i]))
    model = models[best]
    P[:, columns] = model.predict_proba(features.vectors)
    thresholds[columns] = model.thresholds
    title = model.method.title if len(known) else "Zero-shot"
    return SetAnswers(
        title,
        class_ids,
        P,
        len(labeled),
        thorough,
        time.perf_counter() - began,
        learned_by=names[best],
        thresholds=thresholds,
    )


def _fitted(name: str, features: Features, matrix: np.ndarray, text: ClassText | None) -> OneAgainstRest:
    method = method_class(name)()
    assert isinstance(method, VectorMethod)
    if "random_state" in method.get_params():
        method.set_params(random_state=0)
    names = text.class_names if text is not None else tuple(map(str, range(matrix.shape[1])))
    return OneAgainstRest(method).fit(features, matrix, text=text, class_names=names)


def _quality(model: OneAgainstRest) -> float:
    """Mean average precision on out-of-fold predictions; 0 where there are none."""
    held = model.held_out_
    if held is None or not (held.labels == PRESENT).any():
        return 0.0
    return multi_label_scores(held.labels, held.margins, answers=held.answers, draws=0).mean_average_precision.value
