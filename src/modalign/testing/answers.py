"""Laws of predictions, diagnoses and saved state of a fitted method."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from modalign.core.features import ClassText
from modalign.methods.contract.parameters import parameters
from modalign.model.persistence.state import decode_parameters, encode_parameters, encode_state, restore_state
from modalign.testing.expectations import expect, expect_close, expect_equal
from modalign.testing.subject import Subject, few_shot_problem


def learns_something(subject: Subject) -> None:
    """On five classes, 4 labeled images each, more than half of the answers are right; chance is a fifth."""
    data = subject.data
    for with_text in subject.texts:
        accuracy = subject.fitted(with_text).score(data.Xt, data.yt)
        where = "with" if with_text else "without"
        expect(accuracy > 0.5, f"The accuracy {where} text is {accuracy:.3f}, where more than 0.5 is expected.")


def a_class_without_an_image_keeps_its_column(subject: Subject) -> None:
    """Text may have classes without images; they have finite scores."""
    data = subject.data
    seen = data.y != 2
    method = subject.fit(data._replace(X=data.X[seen], y=data.y[seen]))
    expect(method.classes_.tolist() == [0, 1, 2, 3, 4], f"A class without an image is missing in {method.classes_}.")
    scores = method.scores(data.Xt)
    expect(scores.shape == (len(data.Xt), 5), f"Scores have the shape {scores.shape}; (200, 5) is expected.")
    expect(np.isfinite(scores).all(), "Scores are not finite where a class has no image.")


def string_labels_are_returned(subject: Subject) -> None:
    """Fitted with class names, a method predicts class names, and otherwise the same."""
    data = subject.data
    names = np.array(["gnu", "dog", "fox", "elk", "cat"])
    named = data._replace(y=names[data.y], yv=names[data.yv])
    text = ClassText(data.text, tuple(names.tolist()))
    found, expected = subject.fit(named, text=text).predict(data.Xt), subject.fitted().predict(data.Xt)
    expect_equal(found, names[expected], "Fitted with class names, the predictions differ from those with numbers.")


def probabilities_are_the_softmax_of_the_scores(subject: Subject) -> None:
    """``predict_proba`` is the softmax of the scores, divided by ``temperature_``."""
    X, method = subject.data.Xt, subject.fitted()
    probability = method.predict_proba(X)
    expect_close(probability.sum(axis=1), np.ones(len(X)), 1e-6, "Probabilities do not add up to one.")
    scores = method.scores(X).astype(np.float64) / method.temperature_
    ratio = np.exp(scores - scores.max(axis=1, keepdims=True))
    expect_close(probability, ratio / ratio.sum(axis=1, keepdims=True), 1e-6, "Probabilities are not the softmax.")


def two_classes_decide_by_sign(subject: Subject) -> None:
    """With two classes ``decision_function`` is one number per image, positive for the second class."""
    data = few_shot_problem(classes=2)
    method = subject.fit(data)
    decision = method.decision_function(data.Xt)
    expect(decision.shape == (len(data.Xt),), f"With two classes the decision has the shape {decision.shape}.")
    expect_equal(
        method.predict(data.Xt), (decision > 0).astype(int), "The sign of the decision differs from the prediction."
    )


def diagnosis_is_finite_numbers_and_names(subject: Subject) -> None:
    """``diagnosis_`` is a dict, nested or not, of text and finite numbers, and not empty."""
    found = [leaf for with_text in subject.texts for leaf in _leaves(subject.fitted(with_text).diagnosis_)]
    expect(found, "The diagnosis is empty.")
    for leaf in found:
        expect(isinstance(leaf, (str, bool, int, float)), f"The diagnosis holds {leaf!r}, neither number nor text.")
        expect(isinstance(leaf, str) or np.isfinite(leaf), "The diagnosis holds a number that is not finite.")


def _leaves(entry: Any) -> Iterator[Any]:
    if isinstance(entry, Mapping):
        for value in entry.values():
            yield from _leaves(value)
    else:
        yield entry


def class_attributes_match_the_behavior(subject: Any) -> None:
    """The class has a title, defaults, and a line for each hyper-parameter in its docstring."""
    cls: Any = type(subject.method)
    expect(cls.title, "The class attribute title is empty.")
    for parameter in parameters(cls):
        expect(
            parameter.default is not inspect.Parameter.empty, f"The hyper-parameter '{parameter.name}' has no default."
        )
        expect(parameter.meaning, f"The docstring has no line 'name : meaning' for '{parameter.name}'.")


def learned_attributes_can_be_saved(subject: Subject) -> None:
    """Hyper-parameters and attributes that end in an underscore are all that prediction needs."""
    X, method = subject.data.Xt, subject.fitted()
    again = clone(subject.method).set_params(**decode_parameters(encode_parameters(method)))
    try:
        restore_state(again, *encode_state(method))
        scores, probabilities = again.scores(X), again.predict_proba(X)
    except Exception as error:
        advice = (
            "name what is learned with a trailing underscore, and keep arrays, tensors, numbers, text, lists or dicts"
        )
        raise AssertionError(
            f"Saved and loaded, the method fails ({type(error).__name__}: {error}); {advice}."
        ) from error
    expect_equal(scores, method.scores(X), "Saved and loaded, the method has other scores.")
    expect_equal(probabilities, method.predict_proba(X), "Saved and loaded, the method has other probabilities.")
