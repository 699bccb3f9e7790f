"""Laws of invalid input, and of objects that must not be modified."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from sklearn.base import clone

from modalign.core.errors import EncoderMismatchError, InputError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.testing.expectations import expect, expect_equal, expect_refusal
from modalign.testing.subject import Subject, needs


def features_of_another_encoder_are_refused(subject: Subject) -> None:
    """Vectors of two encoders cannot be compared, in ``fit`` and in prediction."""
    data = subject.data
    mine, other = (EncoderSpec(n, fingerprint=n * 20, dim=data.X.shape[1]) for n in ("a", "b"))
    names = tuple("abcde")
    method = clone(subject.method)
    method.fit(
        Features(data.X, labels=data.y, class_names=names, spec=mine),
        text=ClassText(data.text, names, spec=mine),
        **needs(method, data.X),
    )
    expect_refusal(
        EncoderMismatchError,
        "Expected features of encoder 'a'",
        lambda: method.predict(Features(data.Xt, spec=other)),
        "vectors of another encoder",
    )
    if not method.needs_clip_features:
        foreign = ClassText(data.text, names, spec=other)
        expect_refusal(
            EncoderMismatchError,
            "encoder",
            lambda: method.fit(Features(data.X, labels=data.y, spec=mine), text=foreign),
            "text of another encoder",
        )


def non_finite_input_is_refused(subject: Subject) -> None:
    """NaN and infinity in images, text and validation images, and in images to predict."""
    data = subject.data
    for bad in (np.nan, np.inf):
        for field in ("X", "text", "Xv"):
            array = getattr(data, field).copy()
            array[1, 2] = bad
            spoiled = data._replace(**{field: array})
            expect_refusal(InputError, r"NaN|infinity", partial(subject.fit, spoiled), f"{bad} in {field}")
        X = data.Xt.copy()
        X[0, 0] = bad
        expect_refusal(InputError, r"NaN|infinity", partial(subject.fitted().predict, X), f"{bad}")


def mismatched_shapes_are_refused(subject: Subject) -> None:
    """Vectors, text and labels that do not belong together."""
    data, method = subject.data, subject.fitted()
    narrow = data.Xt[:, :23]
    expect_refusal(InputError, "23 features", lambda: method.predict(narrow), "narrower vectors")
    expect_refusal(InputError, "23 features", lambda: method.predict(torch.from_numpy(narrow)), "narrower tensors")
    wrong = {
        "one label per row": data._replace(y=data.y[:-1]),
        "0…3": data._replace(text=data.text[:4]),
    }
    if not method.needs_clip_features:
        wrong[r"width of X \(24\), got 23"] = data._replace(text=data.text[:, :23])
    for message, given in wrong.items():
        expect_refusal(InputError, message, partial(subject.fit, given), "what does not fit")


def fit_does_not_modify_parameters_or_arguments(subject: Subject) -> None:
    """``fit`` changes neither hyper-parameters nor its arguments, and a clone is not fitted."""
    data = subject.data
    given = type(data)(*(array.copy() for array in data))
    method = clone(subject.method)
    before = dict(method.get_params())
    method.fit(given.X, given.y, text=given.text, validation=(given.Xv, given.yv), **needs(method, given.X))
    expect(method.get_params() == before, "fit changes hyper-parameters.")
    for field, array in given._asdict().items():
        expect_equal(array, getattr(data, field), f"fit changes its argument {field}.")
    expect(not hasattr(clone(method), "diagnosis_"), "A clone of a fitted method has fitted attributes.")
