"""Validation of inputs, once for all methods, with a method that only records its problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modalign.core.errors import EncoderMismatchError, InputError, UnknownNameError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.methods import METHODS, method_class
from modalign.methods.contract.parameters import Seed
from modalign.methods.contract.vectors import VectorMethod


class Recorder(VectorMethod):
    """Keeps the problem.

    Parameters
    ----------
    random_state : nothing.
    """

    def __init__(self, *, random_state: Seed = None) -> None:
        self.random_state = random_state

    def _fit(self, problem):
        self.problem = problem
        self.diagnosis_ = {}

    def _scores(self, X):
        return X @ self.problem.prototypes().T


class NeedsText(Recorder):
    needs_text = True


class NeedsAnchor(Recorder):
    needs_clip_features = True


class WithoutLabels(Recorder):
    needs_labels = False


def data(n: int = 6, d: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


Y = [0, 1, 2, 0, 1, 2]


def test_arrays_of_any_kind_become_single_precision():
    for X in (data().astype(np.float16), data().astype(np.float64), data().tolist(), torch.from_numpy(data()).half()):
        problem = Recorder().fit(X, Y).problem
        assert problem.X.dtype == torch.float32
        assert problem.y.dtype == torch.int64
        np.testing.assert_allclose(problem.X, data(), atol=2e-3)


def test_class_codes_without_text_are_those_of_the_labels():
    method = Recorder().fit(data(), [7, 3, 7, 3, -1, 5])
    assert method.classes_.tolist() == [3, 5, 7]
    assert method.problem.y.tolist() == [2, 0, 2, 0, -1, 1]
    X, y = method.problem.labeled()
    assert len(X) == len(y) == 5


def test_class_codes_with_text_are_its_rows():
    method = Recorder().fit(data(), [3, 3, 1, 1, 1, 3], text=data(5))
    assert method.classes_.tolist() == [0, 1, 2, 3, 4]
    assert method.problem.y.tolist() == [3, 3, 1, 1, 1, 3]
    assert method.class_names_ is None
    named = Recorder().fit(data(), list("bbaabb"), text=data(2), classes=["b", "a"])
    assert named.classes_.tolist() == named.class_names_ == ["b", "a"]
    assert named.problem.y.tolist() == [0, 0, 1, 1, 0, 0]


def test_text_is_made_three_dimensional_and_prototypes_are_its_mean_directions():
    flat = Recorder().fit(data(), Y, text=data(3)).problem
    assert flat.text.shape == (3, 1, 4)
    sentences = np.stack([data(3), 5 * data(3, seed=1), np.zeros((3, 4), np.float32)], axis=1)
    problem = Recorder().fit(data(), Y, text=sentences).problem
    lengths = [data(3) / np.linalg.norm(data(3), axis=1, keepdims=True),
               data(3, seed=1) / np.linalg.norm(data(3, seed=1), axis=1, keepdims=True)]  # fmt: skip
    mean = sum(lengths)
    np.testing.assert_allclose(problem.prototypes(), mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_without_text_prototypes_are_class_means():
    prototypes = Recorder().fit(data(), Y).problem.prototypes()
    rows = data() / np.linalg.norm(data(), axis=1, keepdims=True)
    mean = rows[:3] + rows[3:]
    np.testing.assert_allclose(prototypes, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_features_bring_labels_and_encoder():
    spec = EncoderSpec("e", "f" * 64, 4)
    features = Features(data(), labels=np.array(Y), class_names=("x", "y", "z"), spec=spec)
    method = Recorder().fit(features, validation=features, text=ClassText(data(3), ("x", "y", "z"), spec=spec))
    assert method.encoder_ == spec
    assert method.problem.y.tolist() == Y
    assert method.problem.validation[1].tolist() == Y
    own = Recorder().fit(features, [0, 0, 1, 1, 0, 0])
    assert own.problem.y.tolist() == [0, 0, 1, 1, 0, 0]
    other = Features(data(), spec=EncoderSpec("o", "0" * 64, 4))
    for function in (method.predict, method.scores):
        with pytest.raises(EncoderMismatchError, match="encoder 'e'"):
            function(other)
    assert method.predict(Features(data())).shape == (6,)  # of unknown origin: the width is all that can be checked
    assert method.predict(data()).shape == (6,)


def test_labels_may_be_missing_only_where_the_method_allows_it():
    method = WithoutLabels().fit(data(), text=data(3))
    assert method.problem.y.tolist() == [-1] * 6
    assert method.classes_.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="requires y"):
        WithoutLabels().fit(data())
    with pytest.raises(InputError, match="requires y"):
        Recorder().fit(data(), text=data(3))
    with pytest.raises(InputError, match="at least one labeled image"):
        Recorder().fit(data(), [-1] * 6, text=data(3))


def test_anchor_is_the_same_images():
    method = NeedsAnchor().fit(data(), Y, clip_features=data(6, 9), text=data(3, 9))
    assert method.problem.clip_features.shape == (6, 9)
    with pytest.raises(InputError, match="needs clip_features"):
        NeedsAnchor().fit(data(), Y)
    with pytest.raises(InputError, match=r"as many rows in clip_features as in X \(6\), got 5"):
        NeedsAnchor().fit(data(), Y, clip_features=data(5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [0, 1, 2]}, r"one label per row of X \(6\)"),
        ({"y": [0] * 6}, "at least 2 classes, got 1 class"),
        ({"y": [0, 1, 2, 3, 0, 1], "text": data(3)}, r"labels in 0…2.*got 0…3"),
        ({"y": list("abcabc"), "text": data(3)}, "names of the rows of text, since y holds names"),
        ({"y": Y, "text": data(1)}, "at least 2 classes, got 1"),
        ({"y": Y, "text": data(3, 5)}, r"width of X \(4\), got 5"),
        ({"y": Y, "text": np.zeros((3, 4))}, "at least one sentence per class"),
        ({"y": Y, "text": data(3)[:, 0]}, r"2-dimensional or 3-dimensional.*\(3,\)"),
        ({"y": Y, "text": np.full((3, 4), np.nan)}, "finite numbers in text"),
        ({"y": Y, "validation": (data(), [0, 1])}, r"one label per validation row \(6\), got 2"),
        ({"y": Y, "validation": (data(), [0, 1, 2, 3, 0, 0])}, r"among the fitted classes, got \[3\]"),
        ({"y": Y, "validation": (data(6, 3), Y)}, "3 features"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        Recorder().fit(data(), **arguments)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0], [1.0, 2.0]], "rows of different lengths"),
        (np.zeros(4), "2-dimensional array, got shape"),
        (np.empty((0, 4)), r"non-empty 2-dimensional array, got 0 rows"),
        (np.zeros((6, 4)) + 1j, "Complex data"),
        ("photos/cats", "got the path 'photos/cats'"),
    ],
)
def test_what_are_no_vectors_is_one_sentence(X, message):
    with pytest.raises(InputError, match=message) as caught:
        Recorder().fit(X, Y)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        Recorder().fit(data(), Y).predict(X)


def test_weights_of_other_rows_are_refused():
    with pytest.raises(InputError, match=r"one weight per row of X \(6\), got weights of shape \(2,\)"):
        Recorder().fit(data(), Y).score(data(), Y, sample_weight=[1, 2])
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="weights of at least 0"):
            Recorder().fit(data(), Y).score(data(), Y, sample_weight=[wrong] * 6)


def test_text_may_be_requested():
    with pytest.raises(InputError, match="needs text"):
        NeedsText().fit(data(), Y)


def test_methods_by_name():
    for name, entry in METHODS.items():  # the class, with its module where that is not the name of the method
        assert method_class(name).__name__ == entry.rpartition(".")[2]
    assert method_class("Zero-Shot").__name__ == "ZeroShot"
    with pytest.raises(UnknownNameError, match="did you mean 'cmm'"):
        method_class("cnm")


def test_one_image_a_class_is_no_reason_to_warn(recwarn):
    Recorder().fit(data(), [0, 1, 2, 3, 4, 5])
    assert not recwarn.list


def test_labels_that_are_passed_count_more_than_those_of_the_features():
    wrong = Features(np.eye(3, 4), labels=np.array([1, 2, 0]), class_names=("a", "b", "c"))
    method = method_class("zero_shot")().fit(wrong, text=ClassText(np.eye(3, 4), ("a", "b", "c")))
    assert method.score(wrong) == 0.0
    assert method.score(wrong, [0, 1, 2]) == 1.0
    assert method.score(wrong, ["a", "b", "c"]) == 1.0


def test_a_second_fit_replaces_the_temperature_of_the_first():
    X, y, text = data(12, 8), np.arange(12) % 3, data(3, 8, seed=1)
    method = method_class("zero_shot")(logit_scale=30.0)
    first = method.fit(X, text=text, validation=(X, y)).temperature_
    again = method.fit(X, text=text).temperature_
    assert again == method_class("zero_shot")(logit_scale=30.0).fit(X, text=text).temperature_ != first


def test_rows_of_zeros_are_counted_in_a_warning():
    X = data()
    for zeros, words in (([2], "^1 row of X with zeros only, first row 2"), ([1, 4], "^2 rows of X .* first row 1")):
        X_ = X.copy()
        X_[zeros] = 0
        with pytest.warns(UserWarning, match=words):
            Recorder().fit(X_, Y)
