"""The same numbers give the same answer in every container, or are refused in one sentence, wherever vectors go in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from problems import few_shot, quick
from scipy.sparse import csr_array

import modalign as ma
from modalign.methods.contract.vectors import VectorMethod

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
DATA = few_shot()
NAMES = tuple("abcde")

SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "list of tensors": lambda a: list(torch.from_numpy(a)),
    "float64": lambda a: a.astype(np.float64),
    "long double": lambda a: a.astype(np.longdouble),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "other byte order": lambda a: a.astype(">f8"),
    "gradient": lambda a: torch.from_numpy(a.copy()).requires_grad_(),
    "Float32": lambda a: pd.DataFrame(a, index=range(7, 7 + len(a))).astype("Float32"),
    "column of vectors": lambda a: pd.Series(list(a), index=range(7, 7 + len(a))),
    "arrow": lambda a: pa.FixedSizeListArray.from_arrays(pa.array(a.reshape(-1)), a.shape[1]),
    "objects": lambda a: a.astype(object),
}
OTHER: dict[str, Callable[[np.ndarray], Any]] = {
    "sparse": csr_array,
    "sparse tensor": lambda a: torch.from_numpy(a).to_sparse(),
    "nested tensor": lambda a: torch.nested.nested_tensor(list(torch.from_numpy(a)), layout=torch.jagged),
    "meta tensor": lambda a: torch.from_numpy(a).to("meta"),
    "bool": lambda a: a > 0,
    "bool tensor": lambda a: torch.from_numpy(a > 0),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "dates": lambda a: (100 * a).astype("M8[s]"),
    "complex": lambda a: a.astype(complex),
    "fields": lambda a: a.view([(f"column {i}", "f4") for i in range(a.shape[1])])[:, 0],
    "missing": lambda a: pd.DataFrame(a).astype("Float32").mask(a == a[0, 0]),
    "lengths": lambda a: [row[: 3 + i % 2] for i, row in enumerate(a.tolist())],
    "generator": iter,
    "path": lambda a: "vectors.npy",
}
PLACES: dict[str, Callable[[str, Any], Any]] = {
    "fit": lambda name, A: _fit(name, X=A(DATA.X)).predict_proba(DATA.Xt),
    "text": lambda name, A: _fit(name, text=A(DATA.text)).predict_proba(DATA.Xt),
    "validation": lambda name, A: _fit(name, validation=(A(DATA.Xv), DATA.yv)).predict_proba(DATA.Xt),
    "prediction": lambda name, A: _fitted(name).predict_proba(A(DATA.Xt)),
    "Features": lambda name, A: _fitted(name).predict_proba(ma.Features(A(DATA.Xt))),
    "ClassText": lambda name, A: _fit(name, text=ma.ClassText(A(DATA.text), NAMES)).predict_proba(DATA.Xt),
}


def _fit(name: str, **given: Any) -> VectorMethod:
    data = {"X": DATA.X, "text": DATA.text, "validation": (DATA.Xv, DATA.yv)} | given
    return quick(name).fit(y=DATA.y, **data)


_fitted = cache(_fit)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["zero_shot", "gda"])
def test_containers_of_the_same_numbers_give_the_same_answer(name, place):
    expected = _fitted(name).predict_proba(DATA.Xt)
    for kind, form in SAME.items():
        found = np.asarray(PLACES[place](name, form))
        assert found == pytest.approx(expected, abs=1e-5), kind


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", OTHER)
def test_what_holds_no_vectors_is_refused_in_one_sentence(kind, place):
    with pytest.raises(ma.InputError, match=r"^Expected ") as caught:
        PLACES[place]("zero_shot", OTHER[kind])
    assert len(str(caught.value)) < 200
    assert not any(word in str(caught.value) for word in ("numpy", "sklearn", "sequence", "Tensor."))


def test_float64_maps_are_vectors_of_float32(tmp_path):
    X = np.memmap(tmp_path / "X", dtype=np.float64, mode="w+", shape=DATA.X.shape)
    X[:] = DATA.X
    expected = _fit("anchored_gaussian").scores(DATA.Xt)
    assert _fit("anchored_gaussian", X=X).scores(DATA.Xt) == pytest.approx(expected, abs=1e-3)
