"""The same labels give the same answer in every container; labels of mixed or other types are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

import modalign as ma
from modalign.core.label_matrix import label_matrix
from modalign.methods.multi_label.one_against_rest import OneAgainstRest

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
NAMES = np.array(["zebra", "ant", "cat", "bee", "yak"])  # not in alphabetical order
rng = np.random.default_rng(0)
TEXT, Y = rng.normal(size=(5, 16)), np.arange(20) % 5
X = TEXT[Y] + 0.4 * rng.normal(size=(20, 16))
MATRIX = np.eye(5, dtype=int)[Y]

SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "objects": lambda y: y.astype(object),
    "series": lambda y: pd.Series(y, index=range(7, 7 + len(y))),
    "categories": lambda y: pd.Categorical(y, categories=[*sorted(set(y.tolist())), y[:1].tolist()[0] * 2 or 9]),
    "polars": pl.Series,
    "arrow": lambda y: pa.array(y.tolist()),
    "dictionary": lambda y: pa.array(y.tolist()).dictionary_encode(),
}
OTHER: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda y: y > 2,
    "bool tensor": lambda y: torch.from_numpy(y > 2),
    "mixed": lambda y: [*NAMES[y[1:]].tolist(), 3],
    "truth and numbers": lambda y: [True, *y[1:].tolist()],
    "infinity": lambda y: np.where(y == 2, np.inf, y),
    "half": lambda y: torch.from_numpy(y + 0.5).bfloat16(),
    "lengths": lambda y: [[k] * (1 + k % 2) for k in y.tolist()],
    "meta": lambda y: torch.from_numpy(y).to("meta"),
    "sparse": lambda y: torch.from_numpy(y).to_sparse(),
    "text": lambda y: "cat",
}


@pytest.mark.parametrize("kind", SAME)
def test_labels_in_every_container_are_the_same(kind):
    form = SAME[kind]
    for labels, text in ((Y, TEXT), (NAMES[Y], ma.ClassText(TEXT, form(NAMES)))):
        expected = ma.GDA().fit(X, labels, text=text, validation=(X, labels))
        found = ma.GDA().fit(X, form(labels), text=text, validation=(X, form(labels)))
        assert np.array_equal(found.predict_proba(X), expected.predict_proba(X))
        assert found.score(X, form(labels)) == expected.score(X, labels)
    marked = ma.Features(X, form(NAMES[Y]), labels=form(Y), class_names=form(NAMES))
    assert (marked.class_names, marked.ids) == (tuple(NAMES), tuple(NAMES[Y]))
    assert np.array_equal(marked.labels, Y)


@pytest.mark.parametrize("kind", OTHER)
def test_labels_of_another_type_are_refused_in_one_sentence(kind):
    labels, fitted = OTHER[kind](Y), ma.GDA().fit(X, Y, text=TEXT)
    for call in (
        lambda: ma.GDA().fit(X, labels, text=TEXT),
        lambda: ma.GDA().fit(X, Y, text=TEXT, validation=(X, labels)),
        lambda: fitted.score(X, labels),
        lambda: ma.Features(X, labels=labels),
    ):
        with pytest.raises(ma.InputError, match=r"^Expected .*label"):
            call()


@pytest.mark.parametrize(
    "form",
    [
        pd.DataFrame,
        lambda M: pd.DataFrame(M).astype("boolean"),
        lambda M: pd.DataFrame(M[:, ::-1], columns=NAMES[::-1]),
        lambda M: pl.DataFrame(M, schema=NAMES.tolist()),
        lambda M: pa.table({name: M[:, k] for k, name in enumerate(NAMES)}),
        lambda M: pd.Series(list(M)),
        lambda M: torch.from_numpy(M).bfloat16(),
        lambda M: [{name} for name in NAMES[Y]],
        lambda M: pa.array([[name] for name in NAMES[Y]]),
        lambda M: pd.Series([[name] for name in NAMES[Y]]).to_numpy(),
    ],
)
def test_label_matrices_and_sets_are_read_from_every_container(form):
    assert np.array_equal(label_matrix(form(MATRIX), NAMES)[0], MATRIX)


def test_columns_of_labels_are_matched_by_name():
    with pytest.raises(ma.InputError, match=r"column of labels for every class name.*'ant'"):
        label_matrix(pl.DataFrame(MATRIX, schema=["zebra", "aunt", "cat", "bee", "yak"]), NAMES)
    with pytest.raises(ma.InputError, match="sparse"):
        label_matrix(csr_array(MATRIX))


def test_classes_without_names_are_fitted_one_against_the_rest():
    expected = OneAgainstRest(ma.ZeroShot()).fit(X, MATRIX, text=ma.ClassText(TEXT, NAMES)).predict_proba(X)
    for scale in (1, 1e300):
        found = OneAgainstRest(ma.ZeroShot()).fit(X * scale, MATRIX, text=TEXT * scale).predict_proba(X)
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_named_columns_of_labels_that_are_no_class_are_refused(frame):
    with pytest.raises(ma.InputError, match="among the 1 class names, got 'x'"):
        label_matrix(frame({"x": [0, 1], "y": [1, 0]}), ["y"])


def test_columns_of_labels_with_one_name_are_refused():
    with pytest.raises(ma.InputError, match="the columns of labels once, got 'x' twice"):
        label_matrix(pd.DataFrame([[0, 1], [1, 0]], columns=["x", "x"]))


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_a_column_of_vectors_is_read_and_its_data_frame_is_told_so(frame):
    given = frame({"vector": X.tolist()})
    found, expected = (ma.GDA().fit(V, Y, validation=(X, Y)).predict_proba(V) for V in (given["vector"], X))
    assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ma.InputError, match=r"number in each cell.*give the column of vectors itself"):
        ma.GDA().fit(given, Y)
