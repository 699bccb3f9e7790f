"""One against the rest: a binary problem per class, for any method on vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np
import torch

from modalign.core.errors import InputError, argument
from modalign.core.features import ClassText, Features
from modalign.core.label_matrix import ABSENT, PRESENT, UNKNOWN, are_sets, label_matrix
from modalign.core.name_matching import quoted
from modalign.core.progress import track
from modalign.core.scored import Scored
from modalign.linalg.inputs import as_single
from modalign.linalg.prototypes import text_prototypes
from modalign.linalg.similarity import unit
from modalign.methods import method_class
from modalign.methods.contract.cross_fitting import CrossFit, cross_fit, own_predictions
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.problem import require_no_test
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.class_decision import ClassDecision, fit_decision, held_out_answers


@dataclass(frozen=True, eq=False)
class HeldOutSets:
    """Held-out predictions of the training images.

    Attributes
    ----------
    labels : ndarray of shape (n, C), int8
        Labels as passed; −1 also for images without such a prediction.
    margins : ndarray of shape (n, C)
        0 where the label is −1. Images whose class could not be learned without them have the zero-shot margin, or
        without text the lowest margin of the class.
    answers : ndarray of shape (n, C), int8
        At thresholds that were not chosen on the image, see
        :func:`~modalign.methods.multi_label.class_decision.held_out_answers`.
    """

    labels: np.ndarray
    margins: np.ndarray
    answers: np.ndarray


@dataclass(eq=False)
class OneAgainstRest:
    r"""Multi-label classifier on vectors: for each class a two-class model, a calibration and a threshold.

    For class k the method of two classes learns from the images whose label for k is known; its text is that of k, and
    the mean direction of the other classes' texts. With its scores :math:`s_1, s_0`, the margin is
    :math:`z_k = s_1 - s_0` and the probability :math:`\sigma(a_k z_k + b_k)`. The numbers :math:`a_k`, :math:`b_k` and
    the threshold are fitted to out-of-fold margins, see
    :func:`~modalign.methods.multi_label.class_decision.fit_decision`.

    A class without positive or without negative images is predicted by zero-shot, if there is text. A
    held-out image without which the class has none of either kind gets the more frequent label. The others of such a
    class are judged as they are answered: by models of the same method that were fitted to the other folds.

    Parameters
    ----------
    method : VectorMethod
        Any unfitted method on vectors that needs no second encoder; not modified.
    random_state : int or None, default=0
        Seed of the folds.

    Attributes
    ----------
    class_names_ : tuple of str
        C names.
    members_ : list of VectorMethod
        The model of each class.
    decisions_ : list of ClassDecision
        Calibration and threshold of each class.
    held_out_ : HeldOutSets or None
        Held-out predictions; None for a model that was loaded.

    Examples
    --------
    >>> import modalign as ma
    >>> import numpy as np
    >>> from modalign.methods.multi_label.one_against_rest import OneAgainstRest
    >>> rng = np.random.default_rng(0)
    >>> Y = rng.integers(0, 2, (200, 3))
    >>> X = Y @ np.eye(3, 16) + 0.1 * rng.normal(size=(200, 16))
    >>> model = OneAgainstRest(ma.GDA()).fit(X[:100], Y[:100])
    >>> bool((model.predict(X[100:]) == Y[100:]).mean() > 0.95)
    True
    """

    method: VectorMethod
    random_state: int | None = 0
    class_names_: tuple[str, ...] = field(default=(), init=False)
    members_: list[VectorMethod] = field(default_factory=list, init=False, repr=False)
    decisions_: list[ClassDecision] = field(default_factory=list, init=False, repr=False)
    held_out_: HeldOutSets | None = field(default=None, init=False, repr=False)

    def fit(self, X: Any, Y: Any, *, text: Any = None, class_names: Sequence[str] = ()) -> Self:
        """Learn from image vectors.

        Parameters
        ----------
        X : array-like of shape (n, d) or Features
            Image vectors.
        Y : array-like of shape (n, C), or sequence of sets of str
            Labels, see :func:`~modalign.core.label_matrix.label_matrix`.
        text : array-like of shape (C, d) or (C, T, d), ClassText or None, default=None
            Class-text vectors with names, or in the order of the columns of ``Y`` or of ``class_names``.
        class_names : sequence of str, default=()
            C names; those of ``text`` by default.

        Raises
        ------
        InputError
            Labels or text that do not fit, or a class that cannot be learned.
        """
        if not isinstance(self.method, VectorMethod):
            raise InputError(
                f"Expected {argument('method')} as a method on vectors, such as GDA(), got "
                f"{type(self.method).__name__}."
            )
        if self.method.needs_clip_features:
            raise InputError(
                f"Expected a method that needs no second encoder, got {type(self.method).__name__}; choose another "
                f"{argument('method')}."
            )
        features = X if isinstance(X, Features) else Features(X)
        names = tuple(class_names) or (text.class_names if isinstance(text, ClassText) else ())
        matrix, names = label_matrix(Y, names)
        if text is not None and not isinstance(text, ClassText) and not len(class_names) and are_sets(Y):
            raise InputError(
                "Expected the names of the rows of text, since the labels are names; give ClassText(vectors, "
                f"class_names) as text, or {argument('class_names')} in the order of its rows."
            )
        if len(matrix) != len(features):
            raise InputError(f"Expected labels for {len(features)} images, got {len(matrix)} rows.")
        require_no_test(features, (matrix != UNKNOWN).any(axis=1))
        if len(names) < 2:
            raise InputError(f"Expected at least 2 classes, got {len(names)}.")
        texts = _texts(text, names)
        if text is None:
            _require_both(matrix, names)
        self.class_names_, self.members_, self.decisions_ = names, [], []
        held, learned = _nothing_held(matrix), False
        for k in track(range(len(names)), f"Fitting {self.method.title}", unit="classes"):
            member, found = self._fit_class(features, matrix[:, k], None if texts is None else texts[k])
            self.members_.append(member)
            margins, labels = _margins(found.scored.logits), found.scored.labels
            self.decisions_.append(fit_decision(margins, labels))
            held.labels[found.rows, k], held.margins[found.rows, k] = labels, margins
            held.answers[found.rows, k] = held_out_answers(margins, labels, self.random_state)
            learned |= len(found.rows) > 0
            rows = np.flatnonzero((matrix[:, k] != UNKNOWN) & (held.labels[:, k] == UNKNOWN))
            if len(rows):  # without these, one of both kinds of images is missing
                held.labels[rows, k] = matrix[rows, k]
                held.margins[rows, k], held.answers[rows, k] = _unlearned(
                    features.vectors, matrix[:, k], rows, None if texts is None else texts[k], margins.min(initial=0.0)
                )
        self.held_out_ = held if learned else _nothing_held(matrix)
        return self

    def margins(self, X: Any) -> np.ndarray:
        """(n, C) margins, whatever their scale."""
        if not self.members_:
            raise InputError("Expected a fitted OneAgainstRest, this one is not; call fit first.")
        return np.stack([_margins(np.asarray(member.scores(X), dtype=np.float64)) for member in self.members_], axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities that each image shows each class; rows need not sum to 1."""
        margins = self.margins(X)
        return np.stack([d.probabilities(margins[:, k]) for k, d in enumerate(self.decisions_)], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """(n, C) int8, 1 where the probability reaches the threshold of the class."""
        return (self.predict_proba(X) >= self.thresholds).astype(np.int8)

    @property
    def thresholds(self) -> np.ndarray:
        """(C,) probability from which an image counts as showing the class."""
        return np.array([decision.threshold for decision in self.decisions_])

    def _fit_class(
        self, features: Features, labels: np.ndarray, text: ClassText | None
    ) -> tuple[VectorMethod, CrossFit]:
        """The model of one class and its out-of-fold predictions; ``text`` is that of the rest and of the class."""
        known = labels != UNKNOWN
        pair = () if text is None else text.class_names  # a class may have a number as its name
        rows = Features(features.vectors, features.ids, labels.astype(np.int64), pair, spec=features.spec)
        if len(np.unique(labels[known])) < 2:
            nothing = Scored((), labels[:0], np.empty((0, 2)))
            return _zero_shot(rows, text), CrossFit(np.empty(0, dtype=np.int64), nothing, 0, {})
        if self.method.judges_itself:
            learned = unfitted(self.method).fit(rows, text=text)
            found = own_predictions(learned, rows)
            return learned, found if len(found.rows) else self._judged(rows, text)
        found = cross_fit(self.method, rows, text=text, random_state=self.random_state)
        return unfitted(self.method).set_params(**found.chosen).fit(rows, text=text), found

    def _judged(self, rows: Features, text: ClassText | None) -> CrossFit:
        """Out-of-fold predictions for a method that made none, since a single image shows the class, or does not.

        That image is left out: a model without it would have learned from one kind of images only.
        """
        found = cross_fit(self.method, rows, text=text, random_state=self.random_state)
        counts = np.bincount(rows.labels[rows.labels != UNKNOWN], minlength=2)
        kept = counts[found.scored.labels] > 1
        scored = Scored(
            tuple(name for name, keep in zip(found.scored.ids, kept, strict=True) if keep),
            found.scored.labels[kept],
            found.scored.logits[kept],
        )
        return replace(found, rows=found.rows[kept], scored=scored)


def _nothing_held(matrix: np.ndarray) -> HeldOutSets:
    return HeldOutSets(np.full_like(matrix, UNKNOWN), np.zeros(matrix.shape), np.zeros_like(matrix))


def _margins(scores: np.ndarray) -> np.ndarray:
    return scores[:, 1] - scores[:, 0]


def _zero_shot(rows: Features, text: ClassText | None) -> VectorMethod:
    return cast("VectorMethod", method_class("zero_shot")()).fit(rows, text=text)


def _unlearned(
    X: np.ndarray, labels: np.ndarray, rows: np.ndarray, text: ClassText | None, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Margins and answers for images without which a class cannot be learned.

    The margins are those of zero-shot; without text they are ``lowest``. The answer is the more frequent label of the
    class, or that of zero-shot for a class whose labels are all alike.
    """
    margins = np.full(len(rows), lowest)
    if text is not None:
        margins = _margins(np.asarray(_zero_shot(Features(X), text).scores(X[rows]), dtype=np.float64))
    present, absent = (labels == PRESENT).sum(), (labels == ABSENT).sum()
    return margins, np.full(len(rows), present > absent) if present and absent else margins >= 0


def _require_both(matrix: np.ndarray, names: Sequence[str]) -> None:
    lacking = [name for name, column in zip(names, matrix.T, strict=True) if not {0, 1} <= set(column.tolist())]
    if lacking:
        raise InputError(
            f"Expected for every class an image that shows it and one that does not, got none for {quoted(lacking, 3)}"
            f"; label some, leave the class out, or give {argument('text')}."
        )


def _texts(text: Any, names: tuple[str, ...]) -> list[ClassText] | None:
    """For each class the text of the rest, as one sentence, and its own."""
    if text is None:
        return None
    given = text.select(names) if isinstance(text, ClassText) else ClassText(text, names)
    vectors = given.vectors if given.vectors.ndim == 3 else given.vectors[:, None]
    vectors = as_single(vectors).numpy()
    prototypes = text_prototypes(torch.from_numpy(vectors))
    rest = unit(prototypes.sum(dim=0) - prototypes).numpy()
    found = []
    for k, name in enumerate(names):
        pair = np.zeros((2, *vectors.shape[1:]), dtype=np.float32)
        pair[0, 0], pair[1] = rest[k], vectors[k]
        found.append(ClassText(pair, (f"not {name}", name), spec=given.spec))
    return found
