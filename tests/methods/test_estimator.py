"""Methods behave as estimators of scikit-learn, which a prediction does not import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from PIL import Image
from problems import few_shot, quick
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils import get_tags

import modalign as ma
from modalign.data.digits import load_digits
from modalign.methods import METHODS, method_class
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing import few_shot_problem

SLOW = {
    "numpy.ma", "pandas", "scipy", "sklearn", "sympy", "torch._dynamo", "torch.distributed.fsdp", "transformers"
}  # fmt: skip


def original(method: VectorMethod) -> BaseEstimator:
    """An estimator with the same constructor and values whose other functions are scikit-learn's own."""
    cls = type(method)
    mixins = (ClassifierMixin,) if issubclass(cls, VectorMethod) else ()
    mixins += (TransformerMixin,) if hasattr(cls, "transform") else ()
    found = type(cls.__name__, (*mixins, BaseEstimator), {"__init__": cls.__init__, "fit": cls.fit})()
    return found.set_params(**method.get_params())


def test_a_saved_model_predicts_without_packages_that_are_slow_to_import(tmp_path: Path) -> None:
    method = ma.CMM(steps=2, random_state=0)  # maps features, so that it is a transformer too
    folder = ma.adapt(load_digits().select(range(40)), method=method, mirror=False).save(tmp_path / "model")
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; from modalign.cli import main; from modalign.methods import METHODS, method_class\n"
        f"sys.argv = ['modalign', 'predict', {str(folder)!r}, {str(tmp_path / 'a.png')!r}]\n"
        "main(); [method_class(name) for name in METHODS]\n"
        f"print({SLOW} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("set()\n")
    assert "a.png" in run.stdout


@pytest.mark.parametrize("name", METHODS)
def test_parameters_repr_and_tags_are_those_of_scikit_learns_base_class(name: str) -> None:
    for method in (method_class(name)(), method_class(name)().set_params(random_state=7)):
        theirs = original(method)
        assert method.get_params() == theirs.get_params()
        assert list(method.get_params()) == list(theirs.get_params())
        assert repr(method) == " ".join(repr(theirs).split())
        tags, expected = get_tags(method), get_tags(theirs)
        if tags.transformer_tags is not None:
            expected.transformer_tags.preserves_dtype = ["float32"]
        assert tags == expected
        for copy in (clone(method), unfitted(method)):
            assert copy is not method
            assert copy.get_params() == method.get_params()
        assert is_classifier(method) == isinstance(method, VectorMethod)


def test_copies_share_no_parameter() -> None:
    weights = np.ones(3)
    assert unfitted(ma.GPUA(class_prior=weights)).class_prior is not weights
    nested = ma.Auto(candidates=["gda"])
    assert unfitted(nested).candidates == ["gda"]
    assert unfitted(nested).candidates is not nested.candidates


def test_grid_search_in_a_pipeline_passes_text_with_and_without_routing() -> None:
    p = few_shot()
    settings = {"tipadapter__alpha": [0.5, 2.0]}
    plain = GridSearchCV(make_pipeline(Normalizer(), ma.TipAdapter()), settings, cv=2)
    plain.fit(p.X, p.y, tipadapter__text=p.text)
    with sklearn.config_context(enable_metadata_routing=True):
        method = clone(ma.TipAdapter().set_fit_request(text=True))
        routed = GridSearchCV(make_pipeline(Normalizer(), method), settings, cv=2).fit(p.X, p.y, text=p.text)
        with pytest.raises(TypeError, match="Unexpected args"):
            method.set_fit_request(sentences=True)
    assert routed.best_estimator_[-1].fitted_with_text_
    assert routed.best_params_ == plain.best_params_
    assert np.array_equal(routed.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_notebooks_show_a_diagram_with_the_parameters() -> None:
    bundle = ma.TipAdapter(alpha=3.25)._repr_mimebundle_()
    assert bundle["text/plain"] == "TipAdapter(alpha=3.25)"
    assert "3.25" in bundle["text/html"]
    assert "sk-estimator" in make_pipeline(Normalizer(), ma.TipAdapter())._repr_html_()
    with sklearn.config_context(display="text"):
        assert not hasattr(ma.TipAdapter(), "_repr_html_")


@pytest.mark.parametrize("name", ["cmm", "gpua"])
def test_mapped_features_come_as_requested(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    p = few_shot()
    method = quick(name).fit(p.X, p.y, text=p.text)
    mapped = method.transform(p.X)
    assert isinstance(mapped, np.ndarray)
    assert np.array_equal(mapped, quick(name).fit_transform(p.X, p.y, text=p.text))
    frame = method.set_output(transform="pandas").transform(p.X)
    assert isinstance(frame, pandas.DataFrame)
    assert np.array_equal(frame, mapped)
    assert list(frame.columns) == [f"{name}{i}" for i in range(mapped.shape[1])]
    assert isinstance(clone(method).fit(p.X, p.y, text=p.text).transform(p.X), pandas.DataFrame)


def test_what_is_not_there_is_said_to_be_missing() -> None:
    method = ma.GDA()
    for name in ("means", "means_", "_mean", "set_output", "set_transform_request", "transform"):
        with pytest.raises(AttributeError, match=f"'GDA' object has no attribute '{name}'"):
            getattr(method, name)


def test_a_fit_that_failed_leaves_no_model() -> None:
    p = few_shot()
    method = ma.GDA()
    with pytest.raises(ValueError, match="at least 2 classes"):
        method.fit(p.X, np.zeros(len(p.X), dtype=int))
    with pytest.raises(NotFittedError):
        method.predict(p.X)


@dataclass(kw_only=True, eq=False, repr=False)
class Shifted(VectorMethod):
    """A method of another package with a ``transform`` of its own, and without ``diagnosis_``."""

    title = "Shifted"
    needs_labels = True

    def _fit(self, problem: Problem) -> None:
        X, y = problem.labeled()
        self.means_ = torch.stack([X[y == k].mean(dim=0) for k in range(problem.n_classes)])

    def _scores(self, X: torch.Tensor) -> torch.Tensor:
        return X @ self.means_.T

    def transform(self, X: Any) -> np.ndarray:
        return np.asarray(X)[:, :2]


def test_a_method_with_a_transform_of_its_own_is_shown_routed_and_fitted() -> None:
    data = few_shot_problem()
    assert "Shifted" in Shifted()._repr_html_()
    with sklearn.config_context(enable_metadata_routing=True):
        assert Shifted().set_fit_request(text=True) is not None
    method = Shifted().fit(data.X, data.y)
    assert method.predict(data.Xt).shape == data.yt.shape
    assert method.transform(data.Xt).shape == (len(data.Xt), 2)
