"""Methods inside the encoder beside the automatic choice: judged alike, within the time, saved like all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import modalign as ma
from modalign.core.scored import Scored
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import class_sentences
from modalign.encoders import load_encoder
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.prompts.maple import MaPLe
from modalign.model.adaptation import pipeline, tower_choice
from modalign.model.adaptation.fitting import FitTask, Fitted
from modalign.model.adaptation.holdout import Holdout
from modalign.model.adaptation.tower_choice import TowerChoice

FAST = {"candidates": ("anchored_gaussian",), "templates": DIGIT_TEMPLATES}


@pytest.fixture(scope="module")
def digits():
    """Four images of each digit."""
    items = load_digits()
    order = np.random.default_rng(0).permutation(len(items))
    return items.select(np.sort(np.concatenate([order[items.labels[order] == c][:4] for c in range(10)])))


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("tiny", dtype="float32")


def task_of(items) -> FitTask:
    rows = np.arange(len(items))
    holdout = Holdout(rows, rows[:0], True, len(items))
    return FitTask(items, holdout, class_sentences(items.class_names, DIGIT_TEMPLATES, None))


def vectors_of(items, encoder, logits) -> Fitted:
    scored = Scored(items.ids, items.labels, logits)
    return Fitted(encoder, len(items), scored, None, np.zeros_like(logits), (), how="cross-fitting over 5 folds")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(tower_choice, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def stub(clock: list[float], seconds_per_step: float, right: float, fits: list[int]) -> type[TowerMethod]:
    """A method inside the encoder that takes its time and is right about a share of the images."""

    @dataclass(kw_only=True, eq=False, repr=False)
    class Stub(TowerMethod):
        title: ClassVar[str] = "Stub"
        epochs: int = 10
        batch_size: int = 8
        learning_rate: float = 0.1
        augmentation: str = "none"
        training: dict | None = None
        random_state: int | None = None

        def _learner(self, towers, generator):
            raise NotImplementedError

        def fit(self, items, labels=None, **given):
            recipe = self._recipe(items.labels)
            clock[0] += seconds_per_step * recipe.epochs * recipe.steps_per_epoch(len(items))
            fits.append(len(items))
            self.diagnosis_ = {"left_out": 0}
            return self

        def score_images(self, items, encoder, *, batch_size=None):
            rng = np.random.default_rng(0)
            found = np.where(rng.random(len(items)) < right, items.labels, rng.integers(10, size=len(items)))
            return Scored(items.ids, items.labels, 5.0 * np.eye(10)[found])

    return Stub


@pytest.mark.parametrize("seconds_per_step", [0.1, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("budget", [300.0, 1000.0])
def test_time_is_kept_with_the_last_fit_included(monkeypatch, digits, encoder, clock, seconds_per_step, budget):
    """Fits to 32 and 40 images are 40 and 50 steps; without the time for two of them, none but the timing is begun."""
    fits: list[int] = []
    method = stub(clock, seconds_per_step, 1.0, fits)
    monkeypatch.setattr(tower_choice, "CANDIDATES", {"coop": {}})
    monkeypatch.setattr(tower_choice, "method_class", lambda name: method)
    noise = np.random.default_rng(0).normal(size=(len(digits), 10))
    choice = TowerChoice(task_of(digits), encoder, vectors_of(digits, encoder, noise), budget)
    found = choice.run()
    assert clock[0] <= budget
    enough = seconds_per_step * (1 + 5 + 1.1 * (50 + 50)) <= budget
    assert (found is not None) == enough
    assert [size for size in fits if size > 8].count(40) == (1 if enough else 0)  # one fit to all images at the end
    if not enough:
        assert "was not tried inside the encoder: it needs" in choice.notes[0]
        assert choice.table[0]["accuracy"] is None


@pytest.mark.parametrize(("tower", "vectors", "wins"), [(1.0, 0.5, True), (0.5, 1.0, False), (0.9, 0.9, False)])
def test_the_ensemble_stays_unless_a_candidate_is_surely_better(
    monkeypatch, digits, encoder, clock, tower, vectors, wins
):
    method = stub(clock, 0.01, tower, [])
    monkeypatch.setattr(tower_choice, "CANDIDATES", {"coop": {}})
    monkeypatch.setattr(tower_choice, "method_class", lambda name: method)
    theirs = stub(clock, 0.01, vectors, [])().score_images(digits, encoder).logits
    choice = TowerChoice(task_of(digits), encoder, vectors_of(digits, encoder, theirs), 1e6)
    found = choice.run()
    assert (found is not None) == wins
    assert choice.table[0]["weight"] == float(wins)
    assert choice.notes[0].endswith("significantly better")
    assert choice.notes[0].endswith("not significantly better") == (not wins)
    if found is not None:
        fitted = found[1]
        assert sorted(fitted.held_out.ids) == sorted(digits.ids)  # every image was judged, by what had not seen it
        assert fitted.how == "cross-fitting over 5 folds"
        assert len(fitted.zero_shot) == len(fitted.held_out.ids)


def test_a_method_inside_the_encoder_is_chosen_reported_saved_and_loaded(monkeypatch, digits, encoder, tmp_path):
    """Where the ensemble on vectors guesses; what MaPLe starts from is nearly zero-shot."""
    fit_vectors = pipeline.fit_vectors

    def guessing(*given):
        fitted = fit_vectors(*given)
        logits = np.random.default_rng(0).normal(size=fitted.held_out.logits.shape)
        return replace(fitted, held_out=replace(fitted.held_out, logits=logits))

    monkeypatch.setattr(pipeline, "fit_vectors", guessing)
    monkeypatch.setattr(tower_choice, "CANDIDATES", {"maple": {"epochs": 2}})
    model = ma.adapt(digits, encoder=encoder, seconds=1e4, **FAST)
    assert isinstance(model.method, MaPLe), model.record["notes"]
    rows = {row["name"]: row["weight"] for row in model.record["candidates"]}
    assert rows == {"zero_shot": 0.0, "anchored_gaussian": 0.0, "maple": 1.0}
    assert any("MaPLe is chosen" in note for note in model.record["notes"])
    before = model.predict(digits)
    model.save(tmp_path / "model")
    again = ma.load(tmp_path / "model").predict(digits)
    assert [p.name for p in again] == [p.name for p in before]
    assert np.mean([p.name == digits.class_names[c] for p, c in zip(before, digits.labels, strict=True)]) > 0.7


@pytest.mark.parametrize("settings", [{}, {"seconds": 200.0}, {"seconds": 1e4, "validation": "none"}])
def test_nothing_inside_the_encoder_is_tried_by_default_or_without_anything_to_judge_by(
    monkeypatch, digits, encoder, settings
):
    monkeypatch.setattr(pipeline, "TowerChoice", None)  # is not called
    assert isinstance(ma.adapt(digits, encoder=encoder, **FAST, **settings).method, ma.Auto)
