"""Published evaluation protocols in which methods have no access to test labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.data.splits.split import Split
from modalign.evaluate.measuring import fingerprint_of, measured
from modalign.evaluate.runs import Run, Shots
from modalign.evaluate.sealed import SealedLabels


class Method(Protocol):
    """Interface of a method; implemented by every :class:`~modalign.methods.contract.vectors.VectorMethod`.

    ``takes_labels`` (by default as ``needs_labels``), ``takes_unlabeled`` (True) and ``takes_clip_features`` (False)
    are read as well, and ``fit`` gets ``clip_features=`` only where it takes one.
    """

    needs_labels: bool

    def fit(self, X: Features, *, text: ClassText | None, validation: Features | None) -> object: ...
    def predict(self, X: Features) -> ArrayLike: ...
    def get_params(self, deep: bool = ...) -> dict[str, object]: ...


def run_once(
    name: str,
    method: Method,
    features: Features,
    text: ClassText | None,
    split: Split,
    seed: int,
    *,
    shots: Shots,
    clip_features: Features | None = None,
    fingerprint: str | None = None,
) -> Run:
    """Fit ``method`` on the training part of ``split``, test it once, and return the run.

    The method gets the training rows with labels, the validation rows with labels for its own choices, and the test
    rows without labels and without file names, which often contain the class.

    Parameters
    ----------
    name : str
        Of the method, in the run.
    method : Method
        Not fitted.
    features : Features
        All images, labeled 0…C−1.
    text : ClassText or None
        Class-text vectors in the order of the classes, or None.
    split : Split
        Rows to learn from, to validate on and to test on.
    seed : int
        That of the split, for the record.
    shots : int or str
        Labeled images per class. With 0 every label is withheld, of training and validation too: the method gets the
        training pool, or without a pool the test images (the record then has "transductive"). A method that can use
        labels and needs none gets the rest of the pool as unlabeled images.
    clip_features : Features or None, default=None
        The same images in the language-aligned space, row by row, where ``features`` are of a vision-only encoder and
        ``text`` of that space. Methods that take ``clip_features`` get both; all others run on these alone, which is
        the only space of the two that has text.
    fingerprint : str or None, default=None
        Of features, text and CLIP features; computed by default.
    """
    sealed = SealedLabels(features.labels[split.test])
    protocol, validation = split.description, None
    aligned = clip_features if getattr(method, "takes_clip_features", False) else None
    space = (
        features
        if clip_features is None or aligned is not None
        else replace(clip_features, labels=features.labels, class_names=features.class_names)
    )
    space = replace(space, parts=())  # the split decides what is learned from
    rest = np.union1d(split.train, split.unlabeled)
    n_train = n_unlabeled = 0
    if shots:
        rows, train = split.train, space.select(split.train)
        validation = space.select(split.validation) if len(split.validation) else None
        n_train = len(train)
        if not method.needs_labels and len(split.unlabeled):  # also one that ignores them: auto shares its fit
            train = _below(train, _blind(space, split.unlabeled))
            rows = np.concatenate([rows, split.unlabeled])
            if learns_from_unlabeled(method):
                n_unlabeled = len(split.unlabeled)
                protocol += f"; with {n_unlabeled} unlabeled images"
    else:
        protocol += "" if len(rest) else "; transductive"
        rows = rest if len(rest) else split.test
        train, n_unlabeled = _blind(space, rows), len(rows)
    also = {} if aligned is None else {"clip_features": _blind(aligned, rows)}
    return measured(
        name,
        method,
        lambda: method.fit(train, text=text, validation=validation, **also),
        lambda: method.predict(_blind(space, split.test)),  # copied after the fit, which has its own copy of the rest
        split,
        sealed,
        seed=seed,
        shots=shots,
        n_train=n_train,
        n_unlabeled=n_unlabeled,
        n_validation=0 if validation is None else len(validation),
        protocol=protocol,
        features=fingerprint or fingerprint_of(features, text, clip_features),
    )


def learns_from_unlabeled(method: Method) -> bool:
    """Whether images without a label have an effect beside labeled ones."""
    return not method.needs_labels and getattr(method, "takes_unlabeled", True)


def budgets(method: Method, shots: Sequence[Shots], text: ClassText | None) -> list[Shots]:
    """Return the numbers of labels for ``method``: 0 if it needs no labels, ``shots`` if it can use labels."""
    free = not method.needs_labels and text is not None
    helped = not free or getattr(method, "takes_labels", method.needs_labels)
    return [0] * free + [k for k in shots if k and helped]


def _below(upper: Features, lower: Features) -> Features:
    """The rows of both, without names."""
    return replace(
        upper,
        vectors=np.concatenate([upper.vectors, lower.vectors]),
        labels=np.concatenate([upper.labels, lower.labels]),
        ids=(),
        tokens=None,
        parts=(),
    )


def _blind(features: Features, rows: np.ndarray) -> Features:
    """Return the images without labels and without names, since a path often contains the class."""
    return replace(features.select(rows), labels=np.full(len(rows), UNLABELED, dtype=np.int64), ids=(), quarantined=())


def require_clip_features(features: Features, clip_features: Features | None, text: ClassText | None) -> None:
    """Raise unless ``clip_features`` is absent, or has the rows of ``features`` and the space of ``text``."""
    if clip_features is None:
        return
    if len(clip_features) != len(features) or clip_features.ids != features.ids:
        raise InputError(
            f"Expected {argument('clip_features')} to be the same images in the same order as features "
            f"({len(features)} rows), got {len(clip_features)} rows"
            f"{'' if len(clip_features) != len(features) else ' with other ids'}."
        )
    if text is not None and clip_features.vectors.shape[1] != text.vectors.shape[-1]:
        raise InputError(
            f"Expected {argument('clip_features')} in the space of the text ({text.vectors.shape[-1]} columns), "
            f"got {clip_features.vectors.shape[1]}; embed both with one vision-language encoder."
        )
