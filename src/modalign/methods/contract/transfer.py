"""Transfer of a fitted method to other classes."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import ClassText
from modalign.linalg.prototypes import text_prototypes
from modalign.methods.contract.estimators.estimator import require_fitted
from modalign.methods.contract.rows import read_text_vectors

if TYPE_CHECKING:
    from modalign.methods.contract.vectors import VectorMethod

M = TypeVar("M", bound="VectorMethod")

_OF_FITTED_IMAGES = ("fitted_answers_", "transduction_")


def with_classes(method: M, text: ClassText) -> M:
    """Return a copy of a fitted method with the prototypes of other class text.

    Parameters
    ----------
    method : VectorMethod
        Fitted with class text. Its scores compare images with ``prototypes_`` (C, d), the mean text directions.
    text : ClassText
        Of K other classes, from the same encoder.

    Returns
    -------
    method : VectorMethod
        Method that predicts the K classes. The fitted method is not changed.

    Raises
    ------
    InputError
        The scores depend on class-specific parameters of the fit, the method was fitted without text, or the text is of
        another encoder or dimension.
    """
    require_fitted(method)
    if not isinstance(text, ClassText):
        raise InputError(
            f"Expected the text of the classes as ClassText(vectors, class_names), got {type(text).__name__}."
        )
    if not method.transfers or method.prototypes_.ndim != 2:
        raise InputError(
            f"{type(method).__name__} predicts the classes that it was fitted on only; fit it on images of the "
            "other classes, or use a method that learns a map or prompts."
        )
    if not getattr(method, "fitted_with_text_", True):  # models of earlier versions do not record it
        raise InputError(
            f"Expected {type(method).__name__} fitted with {argument('text')}, got one fitted without, whose map "
            "leads to class means; fit it with the text of its classes."
        )
    if method.encoder_ is not None:
        method.encoder_.require(text.spec)
    if len(text) < 2:
        raise InputError(f"Expected text of at least 2 classes, got {len(text)}; one leaves nothing to decide.")
    prototypes = method.prototypes_
    vectors = read_text_vectors(text, prototypes.shape[1], "the fitted text", anchored=True)
    other = copy(method)
    for name in _OF_FITTED_IMAGES:
        other.__dict__.pop(name, None)
    other.prototypes_ = text_prototypes(vectors.to(prototypes.device))
    other.classes_, other.class_names_ = np.array(text.class_names), list(text.class_names)
    return other
