"""Training in several processes, simulated by threads and a barrier."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

import modalign as ma
from modalign.core.errors import InputError
from modalign.methods.anchored import anchored_gaussian, anchored_stream
from modalign.methods.contract.team import Team, current_team, together
from modalign.tune.threads import using_threads

K, D, A, N = 7, 24, 16, 400
rng = np.random.default_rng(3)
TEXT = rng.normal(size=(K, A)).astype(np.float32)
LABELS = rng.choice(K, size=N, p=np.arange(1, K + 1) / np.arange(1, K + 1).sum())
VIEW = (TEXT[LABELS] + 1.5 * rng.normal(size=(N, A))).astype(np.float32)
VISUAL = (rng.normal(size=(K, D))[LABELS] + 0.8 * rng.normal(size=(N, D))).astype(np.float32)
PARTS = [slice(0, 250), slice(250, 251), slice(251, N)]


class Network:
    """Sums over threads, in the order of their numbers."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self._given: list[Tensor | None] = [None] * count
        self.messages = 0

    def team(self, rank: int) -> Team:
        def reduce(tensor: Tensor) -> Tensor:
            self._given[rank] = tensor
            self._barrier.wait()
            shapes = {tuple(t.shape) for t in self._given if t is not None}
            assert len(shapes) == 1, shapes
            total = torch.stack([t for t in self._given if t is not None]).sum(dim=0)
            self.messages += rank == 0
            self._barrier.wait()
            return total

        return Team(rank, len(self._given), reduce)


def in_parts(fit: Callable[[slice], ma.GPUA]) -> list[ma.GPUA]:
    network = Network(len(PARTS))

    def run(rank: int) -> ma.GPUA:
        with together(network.team(rank)):
            return fit(PARTS[rank])

    with using_threads(1), ThreadPoolExecutor(len(PARTS)) as pool:
        return list(pool.map(run, range(len(PARTS))))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 64, "memory": 1e-9},
        {"preset": "paper", "class_prior": "estimate"},
        {"loss": "csls", "hubs": "share", "batch_size": 100},
    ],
    ids=["default", "batches and streams", "paper", "csls"],
)
@pytest.mark.parametrize("view", ["another space", "part of the vectors", "none"])
def test_three_processes_learn_what_one_learns(view: str, settings: dict) -> None:
    X = {"another space": VISUAL, "part of the vectors": np.hstack([VISUAL, VIEW]), "none": VIEW}[view]
    clip = None if view == "none" else VIEW

    def fit(rows: slice) -> ma.GPUA:
        given = None if clip is None else clip[rows]
        return ma.GPUA(**settings, random_state=5).fit(X[rows], text=TEXT, clip_features=given)

    with using_threads(1):
        whole = fit(slice(None))
    teams = in_parts(fit)
    for member in teams:
        assert (member.weight_ - whole.weight_).abs().max() < 1e-5
        assert torch.equal(member.weight_, teams[0].weight_)
        assert member.spaces_ == whole.spaces_
        assert (member.class_prior_ - whole.class_prior_).abs().max() < 1e-6
        for name, value in whole.diagnosis_.items():
            expected = pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            assert member.diagnosis_[name] == expected, name
    assert (np.concatenate([member.transduction_ for member in teams]) == whole.transduction_).all()


def test_a_seed_that_is_drawn_is_that_of_the_first_process() -> None:
    teams = in_parts(
        lambda rows: ma.GPUA(batch_size=64, steps=3).fit(VISUAL[rows], text=TEXT, clip_features=VIEW[rows])
    )
    assert len({member.random_state_ for member in teams}) == 1
    assert torch.equal(teams[0].weight_, teams[2].weight_)


def test_methods_that_cannot_are_refused_and_one_process_is_the_default() -> None:
    assert current_team() == Team()
    with together(Team(0, 2, lambda tensor: 2 * tensor)):
        with pytest.raises(InputError, match="Expected a method that learns from images in several processes"):
            ma.GDA().fit(VISUAL, LABELS)
        with pytest.raises(InputError, match="one process for preset='official_code'"):
            ma.GPUA(preset="official_code").fit(VIEW, text=TEXT)
    assert current_team() == Team()
    with pytest.raises(InputError, match=r"init_process_group"):
        Team.of_torch()


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**53 + 1, 2**63 - 1])
def test_seeds_travel_whole(seed: int) -> None:
    assert Team().seed(seed) == Team(0, 1, lambda tensor: tensor).seed(seed) == seed
    assert Team(1, 2, lambda tensor: tensor).seed(seed) == 0  # adds nothing of its own


@pytest.mark.parametrize("settings", [{}, {"discriminant_weight": 0.4, "strength": 3.0, "rounds": 3}])
def test_the_anchored_mixture_in_blocks_and_in_processes_is_that_of_all_images(settings: dict, monkeypatch) -> None:
    def fit(rows: slice) -> ma.AnchoredGaussian:
        return ma.AnchoredGaussian(**settings).fit(VIEW[rows], text=TEXT)

    whole = fit(slice(None))
    monkeypatch.setattr(anchored_gaussian, "STREAMED", 10)
    monkeypatch.setattr(anchored_stream, "NUMBERS", 16 * 70)  # blocks of 70 images
    for found, rows in [(fit(slice(None)), slice(None)), *zip(in_parts(fit), PARTS, strict=True)]:
        for name in ("means_", "factor_", "spread_", "class_sizes_"):
            value = getattr(whole, name)
            assert (getattr(found, name) - value).abs().max() < 2e-5 * value.abs().max(), name
        assert (found.transduction_ == whole.transduction_[rows]).all()
        assert np.abs(found.scores(VIEW) - whole.scores(VIEW)).max() < 1e-3
        for name, value in whole.diagnosis_.items():
            assert found.diagnosis_[name] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)
    with (
        together(Team(0, 2, lambda tensor: 2 * tensor)),
        pytest.raises(InputError, match="images without labels"),
    ):
        ma.AnchoredGaussian().fit(VIEW, LABELS, text=TEXT)
