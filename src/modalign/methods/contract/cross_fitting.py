"""Cross-fitting: out-of-fold predictions of all labeled images, and a final model fitted to all of them.

With few labeled images, all are used for both training and validation: each of K folds is predicted by a model fitted
to the others, and the final model is fitted to all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median_low, mode
from typing import Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.progress import track
from modalign.core.scored import Scored
from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import groups_of_copies
from modalign.methods.contract.calibrating import without_calibration
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.selection import FOLDS, folds
from modalign.methods.contract.vectors import VectorMethod


@dataclass(frozen=True)
class CrossFit:
    """Out-of-fold predictions and the selected hyper-parameters.

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Rows of the images with a prediction.
    scored : Scored
        Their ids, labels and logits.
    folds : int
        K.
    chosen : dict
        Values of the method's ``choices``.
    curves : dict
        Attributes of the method with the results of the selection, such as ``step_curve_``.
    """

    rows: np.ndarray
    scored: Scored
    folds: int
    chosen: dict[str, Any]
    curves: dict[str, Any] = field(default_factory=dict)


def cross_fit(
    method: VectorMethod,
    X: Features,
    *,
    text: ClassText | None = None,
    clip_features: Features | None = None,
    views: int = 1,
    count: int = FOLDS,
    random_state: int | None = 0,
) -> CrossFit:
    """Select hyper-parameters and predict every labeled image with clones of ``method`` fitted without it.

    Hyper-parameters are selected first. A method with internal cross-validation selects them on all images. For other
    methods, each fold is the validation set of a model fitted to the other folds, and the result is the median over the
    folds, or the most common value for non-numbers. Then each fold is predicted by a model with these hyper-parameters,
    fitted to the others, so that all logits have the scale of those of the final model.

    Folds are stratified, and copies of an image, detected by their vectors, share a fold.

    Parameters
    ----------
    method : VectorMethod
        Unfitted method; not changed.
    X : Features
        Vectors with labels; unlabeled images, -1, are training images of every fold.
    text, clip_features : ClassText or None, default=None
        As for ``fit``.
    views : int, default=1
        Number of views of each image in ``X`` (and ``clip_features``): rows i, i + n, ... are views of image i. The
        first view is predicted.
    count : int, default=FOLDS
        Number of folds K, at most the number of labeled images.
    random_state : int or None, default=0
        Seed of the division into folds.

    Returns
    -------
    CrossFit
        Without class text, an image whose class is missing in the other folds has no prediction, and a class that is
        missing in them gets the lowest score. There are no predictions if all labeled images are copies of one, or if
        the method raises for so few images.

    Notes
    -----
    Cost: K fits, and K more, or one with internal cross-validation, for a method with ``choices``.
    """
    copies = groups_of_copies(as_single(X.vectors[: len(X) // views]))
    labels = torch.from_numpy(X.labels[: len(copies)])
    n_classes = len(text) if text is not None else int(X.labels.max()) + 1
    if len(copies[labels != UNLABELED].unique()) < 2:
        return CrossFit(np.empty(0, dtype=np.int64), Scored((), labels[:0].numpy(), np.empty((0, n_classes))), 0, {})
    fold = folds(labels, count, groups=copies, random_state=random_state).numpy()
    images = _Folded(X, text, clip_features, fold, named_by_text=text is not None and method.takes_text)
    usable = [k for k in range(int(fold.max()) + 1) if images.can_do_without(k)]
    chosen, curves = images.choose(method, usable)
    settled = unfitted(method).set_params(**chosen)
    rows, logits = [np.empty(0, dtype=np.int64)], [np.empty((0, n_classes))]
    for k in _shown(usable, f"cross-fitting {method.title}"):
        model = images.fit(settled, k)
        if model is not None:
            rows.append(images.held_out(k))
            logits.append(_columns(model, X.select(rows[-1]), n_classes))
    all_rows = np.concatenate(rows)
    order = np.argsort(all_rows)
    found = all_rows[order]
    scored = Scored(tuple(X.ids[i] for i in found), X.labels[found], np.concatenate(logits)[order])
    return CrossFit(found, scored, int(fold.max()) + 1, chosen, curves)


def own_predictions(method: VectorMethod, X: Features, views: int = 1) -> CrossFit:
    """The out-of-fold predictions that a method made of the labeled images of ``X`` while it was fitted to them."""
    found = method.out_of_fold()  # of methods with ``judges_itself``
    rows, logits = (np.empty(0, dtype=np.int64), np.empty((0, len(method.classes_)))) if found is None else found
    first = rows < len(X) // views
    rows, logits = rows[first], logits[first]
    scored = Scored(tuple(X.ids[i] for i in rows), X.labels[rows], logits)
    return CrossFit(rows, scored, FOLDS if len(rows) else 0, method.chosen())


@dataclass(frozen=True)
class _Folded:
    """Images with the fold that holds each out, -1 for unlabeled ones."""

    X: Features
    text: ClassText | None
    clip_features: Features | None
    fold: np.ndarray
    named_by_text: bool

    def held_out(self, k: int) -> np.ndarray:
        """Return the images of fold ``k`` whose class occurs in the other folds or has text."""
        labels = self.X.labels[: len(self.fold)]
        known = self.named_by_text | np.isin(labels, self._present(k))
        return np.flatnonzero((self.fold == k) & known)

    def can_do_without(self, k: int) -> bool:
        """Whether there is something to learn from the other folds, and something to hold out."""
        return (self.named_by_text or len(self._present(k)) > 1) and len(self.held_out(k)) > 0

    def choose(self, method: VectorMethod, usable: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of the ``choices`` of the method, none if it has none, and its curves of a cross-validation."""
        if not method.choices:
            return {}, {}
        if method.cross_validates:
            fitted = unfitted(method).fit(self.X, text=self.text, clip_features=self.clip_features)
            return fitted.chosen(), {name: curve for name, curve in vars(fitted).items() if name.endswith("_curve_")}
        rounds = _shown(usable, f"tuning {method.title}")
        models = [self.fit(method, k, choose=True) for k in rounds]
        return _agreed([model.chosen() for model in models if model is not None]), {}

    def fit(self, method: VectorMethod, k: int, *, choose: bool = False) -> VectorMethod | None:
        """A clone fitted to the other folds, with fold ``k`` as validation images if it is to choose.

        None if the method refuses the other folds as too few. It also refuses what else is wrong with its input, but
        then the same error is raised when it is fitted to all images.
        """
        views = len(self.X) // len(self.fold)
        learned = np.flatnonzero(np.tile(self.fold != k, views))
        try:
            with without_calibration():  # its logits are used
                return unfitted(method).fit(
                    self.X.select(learned),
                    text=self.text,
                    clip_features=None if self.clip_features is None else self.clip_features.select(learned),
                    validation=self.X.select(self.held_out(k)) if choose else None,
                )
        except InputError:
            return None

    def _present(self, k: int) -> np.ndarray:
        return np.unique(self.X.labels[: len(self.fold)][(self.fold != k) & (self.fold >= 0)])


def _shown(usable: list[int], description: str) -> Iterator[int]:
    return track(usable, description, unit="folds")


def _columns(model: VectorMethod, X: Features, n_classes: int) -> np.ndarray:
    """(n, C) float64 logits with a column for every class; classes unknown to the model have the least of each row."""
    scores = np.asarray(model.scores(X), dtype=np.float64)
    table = np.repeat(scores.min(axis=1, keepdims=True), n_classes, axis=1)
    table[:, model.classes_] = scores
    return table


def _agreed(chosen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each setting, which is one of its values; the most common one of what is no number."""
    values = {name: [choice[name] for choice in chosen] for name in (chosen[0] if chosen else ())}
    return {name: median_low(found) if _numbers(found) else mode(found) for name, found in values.items()}


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
