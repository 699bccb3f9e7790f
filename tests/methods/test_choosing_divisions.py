"""Divisions of labeled images: no image on both sides, no class lost, and classes without images judged as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalign.methods.auto.auto_trials import Trials, trials
from modalign.methods.contract.divisions import ENOUGH, copies, selection_splits
from modalign.methods.contract.vectors import Problem

EMPTY = Trials((), 0, 1.0)


def problem(y, *, n_classes=6, validation=0, ids=None, seed=0) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    y = torch.as_tensor(y)
    held = (torch.randn(validation, 3, generator=generator), torch.arange(validation) % n_classes)
    return Problem(
        torch.randn(len(y), 3, generator=generator), y, n_classes, None, None, held if validation else None, ids=ids
    )


@given(y=st.lists(st.integers(-1, 5), min_size=1, max_size=80), seed=st.integers(0, 5))
def test_every_division_teaches_what_it_does_not_judge_and_loses_no_class(y, seed):
    given_ = problem(y, seed=seed)
    X, labels = given_.labeled()
    divided = selection_splits(given_, seed)
    sizes = torch.bincount(labels, minlength=6)
    absent = bool((sizes == 0).any())
    regular = divided.parts[:-1] if absent and len(divided.parts) > 1 else divided.parts
    position = {tuple(row): i for i, row in enumerate(X.tolist())}
    for part in divided.parts:
        held = [position[tuple(row)] for row in part.X.tolist()]
        assert not set(held) & set(part.rows.tolist())
        assert labels[held].tolist() == part.y.tolist()
    for part in regular:
        if not absent:
            assert (torch.bincount(labels[part.rows], minlength=6) > 0).equal(sizes > 0)
    judged = [position[tuple(row)] for part in regular for row in part.X.tolist()]
    assert len(judged) == len(set(judged))
    assert (divided.source == "nothing") == (not divided.parts)
    if not absent and len(labels):
        assert sorted(judged) == [i for i, label in enumerate(labels.tolist()) if sizes[label] > 1]


@given(y=st.lists(st.integers(-1, 5), min_size=1, max_size=80), new=st.permutations(range(6)), seed=st.integers(0, 5))
def test_divisions_do_not_depend_on_the_numbers_of_the_classes(y, new, seed):
    y = torch.tensor(y)
    renamed = torch.where(y < 0, y, torch.tensor(new)[y])
    known, other = (selection_splits(problem(labels), seed).parts for labels in (y, renamed))
    for part, again in zip(known, other, strict=True):
        assert part.rows.equal(again.rows)
        assert part.X.equal(again.X)
        assert torch.tensor(new)[part.y].equal(again.y)
    tried = [(trials(problem(labels), None, seed) or EMPTY).parts for labels in (y, renamed)]
    for part, again in zip(*tried, strict=True):
        assert all(own.equal(theirs) for own, theirs in zip(part, again, strict=True))


def test_validation_images_come_first_and_enough_of_them_are_enough():
    y = torch.arange(6).repeat(4)
    few, many = selection_splits(problem(y, validation=12), 0), selection_splits(problem(y, validation=ENOUGH), 0)
    assert few.source == "validation and cross-validation"
    assert few.parts[0].whole
    assert not any(part.whole for part in few.parts[1:])
    assert len(few.y) == 12 + 24
    assert (many.source, len(many.parts)) == ("validation", 1)
    assert selection_splits(problem(y, validation=12), 0, cross_validate=False).source == "validation"
    assert selection_splits(problem(y), 0, cross_validate=False).parts == ()


def test_no_more_folds_are_used_than_it_takes():
    divided = selection_splits(problem(torch.arange(6).repeat(200)), 0)
    assert [len(part.y) for part in divided.parts] == [240, 240]


@pytest.mark.parametrize(("shots", "folds"), [(2, 2), (3, 3), (9, 5)])
def test_as_many_folds_as_a_class_has_images(shots, folds):
    divided = selection_splits(problem(torch.arange(6).repeat(shots)), 0)
    assert len(divided.parts) == folds


def test_one_image_a_class_leaves_nothing_to_choose_on():
    assert selection_splits(problem(torch.arange(6)), 0).source == "nothing"
    assert selection_splits(problem([0, 1, 2, 3, 4, 5, 5]), 0).y.tolist() == [5, 5]


def test_a_share_of_the_classes_is_held_out_where_classes_have_no_image():
    divided = selection_splits(problem(torch.arange(6).repeat(8), n_classes=9), 0)
    *regular, last = divided.parts
    assert len(last.y.unique()) == 2  # a third of six
    taught = torch.arange(6).repeat(8)[last.rows]
    assert not torch.isin(taught, last.y).any()
    assert len(last.y) == pytest.approx(sum(len(part.y) for part in regular) / 2, abs=8)


def test_views_of_one_image_stay_together_and_the_first_is_judged():
    y = torch.arange(6).repeat(3)
    ids = tuple(f"{i}.jpg" for i in range(18))
    divided = selection_splits(problem(torch.cat([y, y]), ids=ids + ids), 0)
    for part in divided.parts:
        taught = {ids[i % 18] for i in part.rows.tolist()}
        assert len(taught) == len(part.rows) / 2
    assert len(divided.y) == 18


def test_copies_are_rows_of_one_label_with_one_vector_or_one_name():
    X = torch.tensor([[1.0], [1.0], [2.0], [3.0], [1.0]])
    y = torch.tensor([0, 0, 0, 0, 1])
    groups = copies(X, y, ["a", "b", "b", "c", "a"])
    assert len(set(groups[:3].tolist())) == 1
    assert len(set(groups.tolist())) == 3
    assert len(set(copies(X, y).tolist())) == 4
    np.testing.assert_array_equal(copies(X, y)[0], copies(X, y)[1])
