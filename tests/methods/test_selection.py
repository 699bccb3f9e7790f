"""Choosing on held-out images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from modalign.core.errors import InputError
from modalign.methods.contract.selection import (
    SCALES,
    ScaledLikelihood,
    choosing_parts,
    classes_in_order_of_rows,
    folds,
    held_out,
    log_likelihood,
    share_correct,
)


def scores(seed: int, strength: float, n: int = 60, C: int = 7):
    rng = np.random.default_rng(seed)
    y = rng.integers(C, size=n)
    s = 0.1 * rng.normal(size=(n, C))
    s[np.arange(n), y] += strength
    return torch.from_numpy(s), torch.from_numpy(y)


def test_climbing_finds_the_best_temperature():
    """That of a bounded search over all of them, to a share of what the grid alone can be behind it."""
    likelihood = ScaledLikelihood()  # one object: each climb starts where the last ended
    bounds = tuple(np.log([SCALES[0], SCALES[-1]]))
    for seed, strength in [(0, 0.05), (1, 0.3), (2, 0.0), (3, 0.9), (4, 0.1), (5, -0.5), (6, 0.2)]:
        s, y = scores(seed, strength)
        behind = (s - s.gather(1, y[:, None])).numpy()

        def loss(log_scale, behind=behind):
            return logsumexp(np.exp(log_scale) * behind, axis=1).mean()

        best = -minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).fun
        assert likelihood(s, y) == pytest.approx(best, abs=2e-4)


@given(factor=st.floats(1, 2), seed=st.integers(0, 5))
def test_where_the_best_temperature_lies_on_the_grid_does_not_matter(factor, seed):
    s, y = scores(seed, 0.2)
    assert ScaledLikelihood()(factor * s, y) == pytest.approx(ScaledLikelihood()(s, y), abs=5e-4)


def test_likelihood_does_not_care_for_the_scale_or_an_offset_of_the_scores():
    s, y = scores(0, 0.1)
    likelihood = ScaledLikelihood()
    assert likelihood(s, y) == pytest.approx(likelihood(2 * s + 5, y), abs=1e-9)


def test_accuracy_and_log_likelihood():
    logits = torch.tensor([[0.0, np.log(3.0)], [0.0, np.log(3.0)]])
    assert share_correct(logits, torch.tensor([1, 0])) == 0.5
    assert log_likelihood(logits, torch.tensor([1, 0])) == pytest.approx((np.log(0.75) + np.log(0.25)) / 2)


def test_only_labeled_rows_are_held_out():
    X = torch.arange(6.0).view(3, 2)
    assert held_out(None) is None
    assert held_out((X, torch.tensor([-1, -1, -1]))) is None
    rows, labels = held_out((X, torch.tensor([4, -1, 0])))
    assert rows.tolist() == [[0, 1], [4, 5]]
    assert labels.tolist() == [4, 0]


@given(y=st.lists(st.integers(-1, 4), min_size=2, max_size=60), count=st.integers(2, 7), seed=st.integers(0, 9))
def test_folds_divide_every_class_evenly_and_no_unlabeled_image_is_held_out(y, count, seed):
    y = torch.tensor(y)
    known = y >= 0
    if known.sum() < 2:
        with pytest.raises(InputError, match="2 labeled images"):
            folds(y, count)
        return
    found = folds(y, count, random_state=seed)
    assert torch.equal(found >= 0, known)
    used = min(count, int(known.sum()))
    for rows in (known, *(y == c for c in y[known].unique())):
        sizes = torch.bincount(found[rows], minlength=used)
        assert len(sizes) == used
        assert sizes.max() - sizes.min() <= 1
    torch.testing.assert_close(found, folds(y, count, random_state=seed))


@given(y=st.lists(st.integers(-1, 4), min_size=2, max_size=60), new=st.permutations(range(5)), seed=st.integers(0, 9))
def test_folds_do_not_depend_on_the_numbers_of_the_classes(y, new, seed):
    y = torch.tensor(y)
    renamed = torch.where(y < 0, y, torch.tensor(new)[y])
    if (y >= 0).sum() >= 2:
        assert torch.equal(folds(renamed, 4, random_state=seed), folds(y, 4, random_state=seed))
    assert torch.tensor(new)[classes_in_order_of_rows(y)].equal(classes_in_order_of_rows(renamed))


@given(groups=st.lists(st.integers(0, 12), min_size=4, max_size=40), seed=st.integers(0, 9))
def test_copies_share_a_fold_and_count_once(groups, seed):
    groups = torch.tensor(groups)
    if len(groups.unique()) < 2:
        return
    found = folds(groups % 3, 4, groups=groups, random_state=seed)
    first = [int((groups == g).nonzero()[0]) for g in groups.unique()]
    for g in groups.unique():
        assert len(found[groups == g].unique()) == 1
    sizes = torch.bincount(found[first])
    assert sizes.max() - sizes.min() <= 1


def test_other_seeds_hold_out_other_images():
    y = torch.arange(5).repeat(8)
    assert not torch.equal(folds(y, random_state=0), folds(y, random_state=1))
    assert folds(y, random_state=0).unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("pairs", "lone", "parts"), [(2, 6, False), (3, 6, True), (3, 7, False)])
def test_nothing_is_chosen_where_most_images_are_the_only_ones_of_their_class(pairs, lone, parts):
    y = torch.cat([torch.arange(pairs).repeat(2), pairs + torch.arange(lone)])
    found = choosing_parts(torch.eye(len(y)), y, None, 0)
    assert bool(found) is parts
    if parts:
        assert sum(len(part[3]) for part in found) == 2 * pairs
