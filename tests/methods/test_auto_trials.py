"""What the automatic choice is judged on: nothing that was learned from, and classes without labels in proportion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import few_shot

from modalign.methods.auto.auto import Auto
from modalign.methods.auto.auto_trials import images_per_class, trials
from modalign.methods.contract.vectors import Problem


def problem(labels: list[int], n_classes: int) -> Problem:
    X = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(0))
    text = torch.randn(n_classes, 1, 8, generator=torch.Generator().manual_seed(1))
    return Problem(X, torch.tensor(labels), n_classes, text, None, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 9), min_size=4, max_size=60), st.integers(0, 3))
def test_no_image_is_judged_by_what_learned_from_it(labels: list[int], seed: int) -> None:
    given = problem(labels, 10)
    division = trials(given, None, seed)
    present = images_per_class(given, None) > 0
    if division is None:
        sizes = images_per_class(given, None)[present]
        assert len(sizes) < 3 or int(sizes.median()) < 2
        return
    y, folded = given.y, 0
    for number, (learned, held) in enumerate(division.parts):
        assert not learned[held].any()
        assert (y[held] >= 0).all()
        assert learned[y < 0].all()  # unlabeled images teach everywhere
        known = set(y[learned & (y >= 0)].tolist())
        if folded < division.folded:
            folded += len(held)
            assert set(y[held].tolist()) <= known
        else:  # a trial that leaves classes out leaves them out altogether
            assert number > 1
            assert not set(y[held].tolist()) & known
            assert len(known) >= 2
    assert folded == division.folded == len(division.rows[: division.folded].unique())
    assert division.growth >= 1


@pytest.mark.parametrize("absent", [0, 2, 5])
def test_classes_are_left_out_in_proportion_to_those_without_labels(absent: int) -> None:
    labels = [c for c in range(20 - absent) for _ in range(4)]
    division = trials(problem(labels, 20), None, 0)
    left_out = 4 * round(absent / 20 * (20 - absent))
    assert division.folded == len(labels)
    assert [len(held) for _, held in division.parts[5:]] == ([left_out] * 2 if absent else [])


@pytest.mark.parametrize("absent", [1, 4])
def test_classes_without_labels_are_answered_about_as_well_as_by_zero_shot(absent: int) -> None:
    """A candidate that never names such a class, the linear probe, gets no weight that would spoil them."""
    data = few_shot(shots=12, classes=12, d=32, noise=1.2, text_noise=1.0)
    shown, text = data.y < 12 - absent, data.text - data.text.mean(axis=0)
    names = ("linear_probe", "gda")
    model = Auto(candidates=names, random_state=0).fit(data.X[shown], data.y[shown], text=text)
    assert model.scores(data.Xt).shape == (len(data.Xt), 12)
    zero_shot = (data.Xt @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T).argmax(axis=1)
    assert model.score(data.Xt, data.yt) >= np.mean(zero_shot == data.yt) - 0.01
    hidden = data.yt >= 12 - absent
    assert np.mean(model.predict(data.Xt)[hidden] == data.yt[hidden]) > 0.5
    assert len(model.out_of_fold()[0]) == shown.sum()


def test_with_validation_images_only_classes_are_left_out() -> None:
    """Validation images of the labeled classes are no evidence about the others."""
    labels = [c for c in range(16) for _ in range(4)]
    own = replace(problem(labels, 20), validation=(torch.randn(5, 8), torch.arange(5)))
    division = trials(own, None, 0)
    assert division.folded == 0
    assert division.growth == 1.0
    assert len(division.parts) == 2
    assert all(not set(own.y[learned].tolist()) & set(own.y[held].tolist()) for learned, held in division.parts)
    assert len(trials(replace(own, n_classes=16), None, 0).rows) == 0


def test_classes_without_labels_are_safe_with_validation_images_too() -> None:
    data = few_shot(shots=12, classes=12, d=32, noise=1.2, text_noise=1.0)
    shown, valid, text = data.y < 8, data.yv < 8, data.text - data.text.mean(axis=0)
    model = Auto(candidates=("linear_probe", "gda"), random_state=0)
    model.fit(data.X[shown], data.y[shown], text=text, validation=(data.Xv[valid], data.yv[valid]))
    zero_shot = (data.Xt @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T).argmax(axis=1)
    assert model.diagnosis_["chosen_on"] == "validation"
    assert model.score(data.Xt, data.yt) >= np.mean(zero_shot == data.yt) - 0.01
