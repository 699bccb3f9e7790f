"""From sets of classes to the answers for all images: every class is a separate binary problem."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit

from modalign.app.studio.refitting import MOST, Answers
from modalign.core.features import ClassText, Features
from modalign.core.label_matrix import PRESENT, UNKNOWN
from modalign.core.progress import progress
from modalign.evaluate.multi_label_metrics import multi_label_scores
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.one_against_rest import OneAgainstRest

AT_ONCE, THOROUGH = "gda", ("gda", "linear_probe")
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the given model."""


@dataclass(frozen=True)
class SetAnswers(Answers):
    """Probabilities that each image shows each class.

    ``held_out`` are rows of labeled images and their held-out probabilities, (m, C), NaN where there is none.

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
    return SetAnswers(
        model.method.title if len(known) else "Zero-shot",
        class_ids,
        P,
        len(labeled),
        thorough,
        time.perf_counter() - began,
        (known, _held_out(model, columns, len(class_ids))) if len(known) else None,
        learned_by=names[best],
        thresholds=thresholds,
    )


def blend_sets(answers: SetAnswers, given: SetAnswers, labels: np.ndarray) -> SetAnswers:
    r"""Combine a refit with a given model, for each class with the weight of the lowest held-out log-loss.

    .. math:: \operatorname{logit} p = \lambda \operatorname{logit} p_0 + (1 - \lambda) \operatorname{logit} p_1

    with the λ of {0, ¼, ½, ¾, 1} that has the least log-loss on the labeled images, of which the refit makes held-out
    predictions. It is 1, the given model, without an image that shows the class or without one that does not, and 0 for
    a class that the given model does not have. Thresholds are combined in the same way.

    Parameters
    ----------
    answers : SetAnswers
        Of the refit, p₁.
    given : SetAnswers
        Of the given model, p₀, for the same classes; 0 for a class that it does not have.
    labels : ndarray of shape (n, C)
        1, 0, and −1 where there is none.
    """
    if not answers.method or answers.held_out is None:
        return replace(given, n_labels=answers.n_labels, thorough=answers.thorough)
    rows, held = answers.held_out
    P, thresholds = answers.probabilities.copy(), answers.thresholds.copy()
    for k in np.flatnonzero(given.probabilities.any(axis=0)):
        judged = (labels[rows, k] != UNKNOWN) & np.isfinite(held[:, k])
        truth, weight = labels[rows[judged], k] == PRESENT, 1.0
        if truth.any() and not truth.all():
            pair = held[judged, k], given.probabilities[rows[judged], k]
            losses = [-np.log(np.where(truth, p, 1 - p)).mean() for p in (_mixed(*pair, w) for w in WEIGHTS)]
            weight = WEIGHTS[int(np.argmin(losses))]
        P[:, k] = _mixed(P[:, k], given.probabilities[:, k], weight)
        thresholds[k] = _mixed(thresholds[k], given.thresholds[k], weight)
    return replace(
        answers, method=f"{answers.method} with the given model", probabilities=P, thresholds=thresholds, held_out=None
    )


def _mixed(p: np.ndarray, given: np.ndarray, weight: float) -> np.ndarray:
    own, other = (logit(np.clip(np.asarray(q, dtype=np.float64), 1e-6, 1 - 1e-6)) for q in (p, given))
    return expit(weight * other + (1 - weight) * own)


def _held_out(model: OneAgainstRest, columns: np.ndarray, n_classes: int) -> np.ndarray:
    """(m, C) held-out probabilities, NaN where there is none."""
    held = model.held_out_
    found = np.full((0 if held is None else len(held.labels), n_classes), np.nan)
    for k, decision in enumerate(model.decisions_ if held is not None else ()):
        assert held is not None
        judged = held.labels[:, k] != UNKNOWN
        found[judged, columns[k]] = decision.probabilities(held.margins[judged, k])
    return found


def _fitted(name: str, features: Features, matrix: np.ndarray, text: ClassText | None) -> OneAgainstRest:
    method = method_class(name)()
    assert isinstance(method, VectorMethod)
    if "random_state" in method.get_params():
        method.set_params(random_state=0)
    names = text.class_names if text is not None else tuple(map(str, range(matrix.shape[1])))
    labeled = Features(features.vectors, features.ids, spec=features.spec)  # in the studio, whatever their part
    return OneAgainstRest(method).fit(labeled, matrix, text=text, class_names=names)


def _quality(model: OneAgainstRest) -> float:
    """Mean average precision on out-of-fold predictions; 0 where there are none."""
    held = model.held_out_
    if held is None or not (held.labels == PRESENT).any():
        return 0.0
    return multi_label_scores(held.labels, held.margins, answers=held.answers, draws=0).mean_average_precision.value
