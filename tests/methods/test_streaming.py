"""Methods that read a memory map: the answers of the same vectors in memory, and no copy of all of them."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import modalign as ma
from modalign.methods import METHODS, method_class
from modalign.methods.contract import vectors
from modalign.methods.contract.vectors import VectorMethod
from modalign.testing import few_shot_problem

QUICK = {
    "auto": {"candidates": ["zero_shot", "gda", "clap"]},
    "cross_modal_probe": {"steps": 60, "learning_rate": 1e-3, "weight_decay": 0.0, "probe_weight": 0.5},
    "wise_ft": {"steps": 60, "learning_rate": 1e-3, "weight_decay": 0.0},
    "clip_adapter": {"steps": 60, "stop": 60},
    "task_res": {"steps": 60, "stop": 60},
}
STREAMING = [name for name in METHODS if method_class(name).streams]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory):
    """Mapped float16 features of a few labeled and many unlabeled images, the same in float32, and the text."""
    X, y, _, _, Xt, _, text = few_shot_problem()
    labels = np.concatenate([y, np.full(len(Xt), -1)])
    mixed = np.concatenate([X, Xt]).astype(np.float16)
    path = tmp_path_factory.mktemp("mapped") / "features.safetensors"
    names = [f"c{k}" for k in range(len(text))]
    ma.Features(mixed, labels=labels, class_names=names).save(path)
    return ma.Features.load(path), mixed.astype(np.float32), labels, ma.ClassText(text, names)


def fitted(name: str, X, text, y=None) -> VectorMethod:
    settings = {"random_state": 0} | QUICK.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method_class(name)(**settings).fit(X, y, text=text)


def test_linear_heads_zero_shot_and_what_learns_without_labels_stream() -> None:
    expected = {"zero_shot", "gpua", "anchored_gaussian", "linear_probe", "lp_plus_plus", "clap", "tip_adapter",
                "tip_adapter_f", "cross_modal_probe", "task_res", "clip_adapter", "auto"}  # fmt: skip
    assert expected <= set(STREAMING)


@pytest.mark.parametrize("name", STREAMING)
def test_a_map_gives_the_answers_of_the_same_vectors_in_memory(name: str, problem, monkeypatch) -> None:
    mapped, X, labels, text = problem
    monkeypatch.setattr(vectors, "SCORED", 37)
    found = fitted(name, mapped, text)
    monkeypatch.undo()
    whole = fitted(name, X, text, labels)
    scores = whole.scores(X)
    assert found.scores(mapped).dtype == np.float32
    assert np.abs(found.scores(mapped) - scores).max() <= 1e-3 * np.abs(scores).max()
    known = np.sort(scores, axis=1)
    clear = known[:, -1] - known[:, -2] > 2e-3 * np.abs(scores).max()
    assert (found.predict(mapped) == whole.predict(X))[clear].all()
    assert found.score(mapped) == pytest.approx(whole.score(X, labels), abs=0.02)


@pytest.mark.parametrize("name", ["zero_shot", "anchored_gaussian"])
def test_scores_of_a_map_are_computed_in_blocks(name: str, problem, monkeypatch) -> None:
    mapped, _, _, text = problem
    method = fitted(name, ma.Features(mapped.vectors[:], class_names=mapped.class_names), text)
    sizes: list[int] = []
    score = type(method)._scores
    monkeypatch.setattr(vectors, "SCORED", 50)
    monkeypatch.setattr(type(method), "_scores", lambda self, X: sizes.append(len(X)) or score(self, X))
    method.predict(mapped)
    assert max(sizes) == 50
    assert sum(sizes) == len(mapped)


def test_labeled_rows_alone_are_copied(tmp_path: Path) -> None:
    n, d = 40_000, 128
    labels = np.full(n, -1)
    labels[::2000] = np.arange(20) % 2
    half = np.random.default_rng(0).normal(size=(n, d)).astype(np.float16)
    path = ma.Features(half, labels=labels, class_names=["a", "b"]).save(tmp_path / "features.safetensors")
    mapped = ma.Features.load(path)
    tracemalloc.start()  # NumPy's own memory; what torch takes are the labeled rows
    ma.LinearProbe(C=1.0, random_state=0).fit(mapped)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < half.nbytes / 2
