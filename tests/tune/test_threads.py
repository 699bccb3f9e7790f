"""Threads are set by the size of the problem, in torch and below NumPy, and given back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from modalign.core.features import Features
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.calibrating import without_calibration
from modalign.tune.threads import FEW_NUMBERS, threads_for_vectors, using_threads


def threads() -> list[int]:
    """Of torch, then of every library of OpenMP or linear algebra that is loaded."""
    return [torch.get_num_threads(), *(library["num_threads"] for library in ThreadpoolController().info())]


@pytest.fixture
def two_threads():
    """Two threads everywhere, for any environment variables."""
    before = torch.get_num_threads()
    with ThreadpoolController().limit(limits=2):
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(before)


def test_threads_are_limited_inside_and_given_back_also_after_an_error(two_threads):
    before = threads()
    assert before[0] == 2

    @using_threads(1)
    def fail() -> None:
        assert set(threads()) == {1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert threads() == before
    with using_threads(None):
        assert threads() == before


@pytest.mark.parametrize("kind", [np.array, torch.from_numpy, lambda X: Features(X, labels=[0, 1])])
def test_reading_and_predicting_a_small_problem_also_take_one_thread(two_threads, monkeypatch, kind):
    seen = []
    for name in ("_read_vectors", "_scores"):
        function = getattr(ZeroShot, name)
        monkeypatch.setattr(
            ZeroShot, name, lambda *a, f=function, **k: seen.append(torch.get_num_threads()) or f(*a, **k)
        )
    X = kind(np.eye(2, dtype=np.float32))
    ZeroShot().fit(X, [0, 1]).predict(X)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


def test_small_problems_are_fitted_on_one_thread_and_large_ones_as_it_is_set(two_threads, monkeypatch):
    seen = []
    fit = ZeroShot._fit
    monkeypatch.setattr(ZeroShot, "_fit", lambda self, problem: seen.append(threads()[0]) or fit(self, problem))
    for n in (8, FEW_NUMBERS // 64):
        with without_calibration():  # whose refits are fits of other sizes
            ZeroShot().fit(np.ones((n, 64), dtype=np.float32) + np.eye(n, 64, dtype=np.float32), np.arange(n) % 2)
    assert seen == [1, 2]
    assert threads()[0] == 2
    few, many = (np.broadcast_to(np.float32(0), (n, 512)) for n in (160, 100_000))
    assert (threads_for_vectors(few), threads_for_vectors(many)) == (1, None)
    assert threads_for_vectors([[0.0, 1.0]]) == 1
