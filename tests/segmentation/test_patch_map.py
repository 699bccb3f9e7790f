"""The selection of patches against a full sort, and the map against GPUA on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from modalign import GPUA
from modalign.core.errors import InputError
from modalign.linalg.similarity import unit
from modalign.segmentation.patch_map import DEFAULTS, AllPatches, TopPatches, fit_patch_map, joined

K, TOP, D, WIDTH = 5, 7, 6, 4
NAMES = tuple("abcde")


def patches(n: int = 120, seed: int = 0, ties: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, D, generator=generator)
    if ties:
        X = X[torch.randint(n // 6, (n,), generator=generator)]
    return unit(X), unit(torch.randn(n, WIDTH, generator=generator))


def categories() -> Tensor:
    return unit(torch.randn(K, D, generator=torch.Generator().manual_seed(9)))


def streamed(X: Tensor, Z: Tensor, sizes: tuple[int, ...]) -> TopPatches:
    selection = TopPatches(categories(), TOP, WIDTH + D)
    for some_X, some_Z in zip(X.split(sizes), Z.split(sizes), strict=True):
        selection.add(some_X, torch.cat([some_Z, some_X], dim=1))
    return selection


@pytest.mark.parametrize("sizes", [(120,), (1,) * 120, (3, 50, 60, 7)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_stream_keeps_what_a_full_sort_would(sizes: tuple[int, ...], ties: bool) -> None:
    X, Z = patches(ties=ties)
    ids, rows, places = streamed(X, Z, sizes).collected()
    order = (X @ categories().T).T.argsort(dim=1, descending=True, stable=True)[:, :TOP]
    for own, expected in zip(places, order, strict=True):
        assert sorted(ids[own].tolist()) == sorted(expected.tolist())
    assert torch.equal(ids, order.unique())
    torch.testing.assert_close(rows, torch.cat([Z, X], dim=1)[ids].half())


def test_order_of_patches_does_not_matter_without_ties() -> None:
    X, Z = patches()
    order = torch.randperm(120, generator=torch.Generator().manual_seed(3))
    first, second = streamed(X, Z, (60, 60)), streamed(X[order], Z[order], (100, 20))
    assert set(first.collected()[0].tolist()) == set(order[second.collected()[0]].tolist())


def test_memory_is_that_of_the_selection() -> None:
    selection = TopPatches(categories(), TOP, WIDTH + D)
    before = sum(value.nbytes for value in vars(selection).values() if isinstance(value, Tensor))
    for seed in range(5):
        X, Z = patches(seed=seed)
        selection.add(X, torch.cat([Z, X], dim=1))
    assert before == sum(value.nbytes for value in vars(selection).values() if isinstance(value, Tensor))
    assert selection.n_rows == 600


def test_few_patches_leave_places_empty() -> None:
    X, Z = patches(4)
    ids, _, places = streamed(X, Z, (4,)).collected()
    assert ids.tolist() == [0, 1, 2, 3]
    assert ((places >= 0).sum(dim=1) == 4).all()
    with pytest.raises(InputError, match=r"at least as many patches as categories \(5\).*got 4"):
        fit_patch_map(streamed(X, Z, (4,)), (WIDTH, D), "vfm+clip", NAMES)


@pytest.mark.parametrize("kind", ["vfm+clip", "vfm", "clip"])
def test_the_map_is_that_of_gpua_on_the_same_rows(kind: str) -> None:
    X, Z = patches(60)
    selection = streamed(X, Z, (60,))
    found = fit_patch_map(selection, (WIDTH, D), kind, NAMES)
    _, rows, _ = selection.collected()
    Z, X = rows.float().split([WIDTH, D], dim=1)
    visual = {"vfm+clip": torch.cat([Z, X], dim=1), "vfm": Z, "clip": X}[kind]
    spaces = {"vfm+clip": [WIDTH, D], "vfm": [WIDTH], "clip": [D]}[kind]
    gpua = GPUA(**DEFAULTS, spaces=spaces, random_state=0)
    gpua.fit(visual.numpy(), text=categories().numpy(), clip_features=None if kind == "clip" else X.numpy())
    torch.testing.assert_close(found.weight, gpua.weight_.half().float())
    assert found.record["gpua"]["class_prior"] == "uniform"
    features = found(X, Z)
    torch.testing.assert_close(features, unit(joined(X, Z, kind) @ found.weight))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(X)))


def test_all_patches_are_a_selection_without_limit() -> None:
    X, Z = patches(30)
    everything = AllPatches(categories())
    for some_X, some_Z in zip(X.split(11), Z.split(11), strict=True):
        everything.add(some_X, torch.cat([some_Z, some_X], dim=1))
    ids, rows, places = everything.collected()
    assert ids.tolist() == list(range(30))
    torch.testing.assert_close(rows, torch.cat([Z, X], dim=1).half())
    assert places.shape == (K, 30)
    assert fit_patch_map(everything, (WIDTH, D), "vfm", NAMES).record["duplicates"] == pytest.approx(0.8)


def test_the_record_lists_doubtful_categories() -> None:
    """Patches that are all like the first category: those chosen for the others prefer it."""
    text = torch.eye(3, 4)
    generator = torch.Generator().manual_seed(0)
    X = unit(text[0] + 0.05 * torch.randn(40, 4, generator=generator))
    selection = TopPatches(text, 10, 8)
    selection.add(X, torch.cat([X, X], dim=1))
    record = fit_patch_map(selection, (4, 4), "vfm+clip", ("a", "b", "c"), steps=0).record
    assert record["doubtful"] == ["b", "c"]
    assert record["rows"] == {"a": 10, "b": 10, "c": 10}
    assert record["prefer_another"]["a"] == 0
    assert record["gpua"]["steps"] == 0
    np.testing.assert_allclose(record["duplicates"], 1 - record["patches"] / 30, atol=1e-4)
