"""Checks that a loaded method is consistent and computes scores."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.core.arrays import is_integer, is_number
from modalign.core.errors import InputError
from modalign.core.features import EncoderSpec
from modalign.methods.contract.parameters import fits, parameters
from modalign.methods.contract.transduction import are_answers
from modalign.methods.contract.vectors import VectorMethod

if TYPE_CHECKING:
    from modalign.methods.contract.tower import TowerMethod

_TRIED = 3  # vectors


def check_restored(method: VectorMethod | TowerMethod) -> None:
    """Raise unless everything that any fitted method has is there, in its type, range and shape.

    A method on vectors scores a few vectors. A method inside an encoder is checked when its encoder is loaded, see
    :func:`check_scores`.
    """
    classes = vars(method).get("classes_")
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2:
        raise InputError("its classes are not a list of at least two labels.")
    if len(set(classes.tolist())) < len(classes):
        raise InputError("it has a class twice.")
    if not isinstance(vars(method).get("diagnosis_"), dict):
        raise InputError("its diagnosis is missing.")
    for parameter in parameters(type(method)):
        used = vars(method).get(f"{parameter.name}_")  # where the parameter leaves it open
        plain = not isinstance(used, (type(None), np.ndarray, torch.Tensor))
        if plain and not fits(used, parameter):
            raise InputError(f"its {parameter.name}_ is out of range: {used!r:.80}.")
    kept, answers = "fitted_answers_" in vars(method), vars(method).get("fitted_answers_")
    if kept and not (isinstance(method, VectorMethod) and are_answers(answers, len(classes))):
        raise InputError("its answers for the images that it was fitted on do not fit it.")
    if isinstance(method, VectorMethod):
        _check_vector_method(method)
    else:
        _check_tower_method(method)


def check_scores(scores: Any, rows: int, classes: int) -> None:
    """Raise unless there is one finite score per image and class."""
    found = np.asarray(scores)
    if found.shape != (rows, classes):
        raise InputError(f"it gives scores of shape {found.shape} where {(rows, classes)} is expected.")
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        raise InputError("it gives scores that are not finite.")


def _check_vector_method(method: VectorMethod) -> None:
    temperature, names = method.temperature_, vars(method).get("class_names_")
    if not is_number(temperature) or not 0 < temperature < math.inf:
        raise InputError(f"its temperature is {temperature!r:.40}, which is not above 0.")
    if names is not None:
        check_class_names(names, len(method.classes_))
    width, spec = vars(method).get("n_features_in_"), vars(method).get("encoder_")
    if not is_integer(width) or not 0 < width <= 2**24:
        raise InputError(f"its number of features is {width!r:.40}.")
    if "encoder_" not in vars(method):
        raise InputError("the encoder of its training vectors is missing.")
    if spec is not None and (not isinstance(spec, EncoderSpec) or spec.dim != width):
        raise InputError(f"its encoder does not make vectors of its width {width}.")
    X = np.random.default_rng(0).normal(size=(_TRIED, width)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = method.scores(X)
    except Exception as error:  # inconsistent parts may raise any arithmetic error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"its weights do not fit each other: {reason}.") from None
    check_scores(scores, _TRIED, len(method.classes_))


def _check_tower_method(method: TowerMethod) -> None:
    learned, count = vars(method), len(method.classes_)
    if not np.array_equal(method.classes_, np.arange(count)):
        raise InputError("its classes are not numbered from 0.")
    check_class_names(learned.get("class_names_"), count)
    sentences, spec, text = (learned.get(name) for name in ("sentences_", "encoder_", "class_text_"))
    if not isinstance(sentences, list) or len(sentences) != count or not all(map(_are_sentences, sentences)):
        raise InputError("it has not at least one sentence per class.")
    if not isinstance(spec, EncoderSpec):
        raise InputError("the encoder that it was trained in is missing.")
    shape = (count, max(map(len, sentences)), spec.dim)
    if not isinstance(text, torch.Tensor) or text.dtype != torch.float32 or tuple(text.shape) != shape:
        raise InputError(f"its class text has not the shape {shape}.")
    if not isinstance(learned.get("tensors_"), dict):
        raise InputError("it is not fitted.")


def _are_sentences(own: object) -> bool:
    return isinstance(own, list) and bool(own) and all(isinstance(sentence, str) for sentence in own)


def check_class_names(names: object, count: int) -> None:
    """Raise unless there are ``count`` different class names."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError("its class names are not a list of names.")
    if len(names) != count:
        raise InputError(f"it has {len(names)} class names for {count} columns of scores.")
    if len(set(names)) < len(names):
        raise InputError("it has a class name twice.")
