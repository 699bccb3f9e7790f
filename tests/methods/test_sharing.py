"""A fit that two runs need is made once; different fits are not shared, and results equal those of separate runs."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from modalign.core.features import ClassText, Features
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.comparison.schedule import ExperimentGrid
from modalign.methods import method_class
from modalign.methods.contract import sharing
from modalign.methods.contract.problem import Problem
from modalign.methods.contract.sharing import SharedFits, clock, sharing_fits
from modalign.methods.contract.vectors import VectorMethod

C, D = 4, 8


def vectors(n: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy images around class directions, their labels, and noisy texts."""
    rng = np.random.default_rng(seed)
    centers, y = rng.normal(size=(C, D)), np.arange(n) % C
    X, text = centers[y] + 0.9 * rng.normal(size=(n, D)), centers + 0.9 * rng.normal(size=(C, D))
    return X.astype(np.float32), y, text.astype(np.float32)


@dataclass(kw_only=True, eq=False, repr=False)
class Counting(VectorMethod):
    """Counts its fits and warns in each."""

    title, paper, needs_labels = "Counting", "", True
    weight: float = 1.0
    random_state: int | None = None
    fits = 0

    def _fit(self, problem: Problem) -> None:
        type(self).fits += 1
        warnings.warn("few images", stacklevel=1)
        self.prototypes_ = problem.prototypes()
        self.diagnosis_ = {"fits": type(self).fits}

    def _scores(self, X: torch.Tensor) -> torch.Tensor:
        return self.weight * X @ self.prototypes_.T


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch):
    """How many fits a function makes."""

    def made(function) -> int:
        monkeypatch.setattr(Counting, "fits", 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function()
        return Counting.fits

    return made


def fitted(X, y, text=None, validation=None, **settings) -> Counting:
    return Counting(**{"random_state": 0, **settings}).fit(X, y, text=text, validation=validation)


def test_only_what_is_the_same_in_all_that_decides_a_fit_is_shared(fits) -> None:
    X, y, text = vectors()
    other, names = X + 1e-6, np.array(["a", "b", "c", "d"])
    variants = [
        {"X": other}, {"y": (y + 1) % C}, {"y": names[y]}, {"text": text}, {"weight": 2.0}, {"random_state": 1},
        {"validation": (X[:4], y[:4])}, {"validation": (X[:4], y[[1, 0, 2, 3]])}, {"X": X[:12], "y": y[:12]},
    ]  # fmt: skip

    def all_twice() -> None:
        with sharing_fits(SharedFits()):
            for variant in [{}, *variants, {}, *variants]:
                fitted(**{"X": X, "y": y, **variant})

    assert fits(all_twice) == 1 + len(variants)


def test_what_is_drawn_again_or_used_outside_is_not_shared(fits) -> None:
    X, y, _ = vectors()

    def drawn() -> None:
        with sharing_fits(SharedFits()):
            fitted(X, y, random_state=None)
            fitted(X, y, random_state=None)

    def outside() -> None:
        with sharing_fits(SharedFits()):
            fitted(X, y)
        fitted(X, y)

    assert fits(drawn) == fits(outside) == 2


def test_what_has_no_room_is_fitted_again(fits, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = vectors()
    monkeypatch.setattr(sharing, "MOST_BYTES", 4 * C * D - 1)

    def twice() -> None:
        with sharing_fits(SharedFits()):
            fitted(X, y)
            fitted(X, y)

    assert fits(twice) == 2


def test_a_shared_fit_answers_warns_and_lasts_as_its_own() -> None:
    X, y, text = vectors()
    shared = SharedFits()
    with sharing_fits(shared):
        with pytest.warns(UserWarning, match="few images"):
            first = fitted(X, y, text)
        assert shared.peak(100) == 100
        before = clock()
        with pytest.warns(UserWarning, match="few images"):
            second = fitted(torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(text)[:, None])
        assert shared.saved > 0
        assert clock() - before >= shared.saved
        assert shared.peak(10) == 100, "the memory of the fit counts in both runs"
        assert shared.peak(10) == 10
    assert np.array_equal(first.predict(X), second.predict(X))
    assert first.diagnosis_ == second.diagnosis_
    second.diagnosis_["fits"] = -1
    assert first.diagnosis_["fits"] > 0


def test_a_comparison_with_shared_fits_has_the_outcome_of_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, text = vectors(64)
    names = tuple("abcd")
    source, of_text = Features(X, labels=y, class_names=names), ClassText(text, names)
    counted: Counter[str] = Counter()
    for name in ("gda", "tip_adapter", "anchored_gaussian"):
        cls = method_class(name)

        def counting(self, problem, name=name, own=cls._fit):
            counted[name] += 1
            return own(self, problem)

        monkeypatch.setattr(cls, "_fit", counting)

    def run():
        counted.clear()
        members = ["gda", "tip_adapter", "anchored_gaussian"]
        given = {"auto": {"candidates": members}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compare(
                source, text=of_text, methods=["auto", *members], shots=[0, 4], seeds=2, hyperparameters=given,
                ablations=False,
            )  # fmt: skip

    together, fits_together = run(), dict(counted)
    monkeypatch.setattr(ExperimentGrid, "run", lambda self, cells: list(map(self._run, cells)))
    alone, fits_alone = run(), dict(counted)
    assert fits_alone["tip_adapter"] - fits_together["tip_adapter"] == 2, "one for each draw with labels"
    assert fits_together["gda"] < fits_alone["gda"]
    assert [run.method for run in together.runs] == [run.method for run in alone.runs], "in the order asked for"
    for one, other in zip(together.runs, alone.runs, strict=True):
        assert one.key == other.key
        assert np.array_equal(one.correct, other.correct)
        assert one.diagnosis == other.diagnosis
        assert one.fit_seconds > 0
