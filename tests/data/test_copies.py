"""Equal bytes have one label, and are never on both sides of a drawn division."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data import copies
from modalign.data.copies import content_hash, learnable, one_label_each, same_bytes
from modalign.data.items import Items, load_items
from modalign.data.splits.drawing import few_shot

PARTS = ("train", "validation", "test")
IMAGES = st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), min_size=1, max_size=25)


def images(content: list[tuple[int, int]], parts: list[str] | None = None) -> Items:
    """In memory: (which bytes, which label) of every image."""
    items = load_items([bytes([c]) for c, _ in content], labels=[k for _, k in content], classes=["a", "b", "c"])
    return items if parts is None else replace(items, parts=np.array(parts), division="a list")


def bytes_of(items: Items, indices: np.ndarray | None = None) -> list[bytes]:
    return [items.read(i) for i in (range(len(items)) if indices is None else indices)]


def checked(items: Items) -> Items:
    """``learnable(items)``, or out of the example where it rightly refuses."""
    try:
        return learnable(items)
    except InputError:
        labels = defaultdict(set)
        for data, label in zip(bytes_of(items), items.labels, strict=True):
            labels[data].add(label)
        assert all(len(found - {UNLABELED}) != 1 for found in labels.values())
        assume(False)
        raise


@given(IMAGES)
def test_every_picture_once_and_with_one_label(content: list[tuple[int, int]]) -> None:
    items = images(content)
    kept = checked(items)
    labeled = kept.labels != UNLABELED
    assert len(set(bytes_of(kept, np.flatnonzero(labeled)))) == labeled.sum()
    known = defaultdict(set)
    for data, label in zip(bytes_of(items), items.labels, strict=True):
        known[data].add(int(label))
    for i in np.flatnonzero(labeled):
        assert known[kept.read(i)] - {UNLABELED} == {kept.labels[i]}
    assert {*kept.ids} | {q.id for q in kept.quarantined} == {*items.ids}, "every image ends somewhere"
    assert not {*kept.ids} & {q.id for q in kept.quarantined}
    once = {data for data, labels in known.items() if len(labels - {UNLABELED}) == 1}
    assert {*bytes_of(kept, np.flatnonzero(labeled))} == once, "nothing else is lost"


@given(IMAGES, st.sampled_from([1, 2, "all"]), st.integers(0, 3))
def test_no_draw_puts_a_picture_on_two_sides(content: list[tuple[int, int]], shots: int | str, seed: int) -> None:
    kept = checked(images(content))
    split = few_shot(kept, shots, seed)
    sides = [set(bytes_of(kept, part)) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set().union(*sides))


@given(IMAGES.flatmap(lambda c: st.tuples(st.just(c), st.lists(st.sampled_from(PARTS), min_size=25, max_size=25))))
def test_what_the_source_marks_as_test_stays(given_: tuple[list[tuple[int, int]], list[str]]) -> None:
    content, parts = given_
    items = images(content, parts[: len(content)])
    kept = checked(items)
    assert [i for i, p in zip(kept.ids, kept.parts, strict=True) if p == "test"] == [
        i for i, p in zip(items.ids, items.parts, strict=True) if p == "test"
    ]
    for part, other in (("test", "train"), ("validation", "train"), ("test", "validation")):
        shared = [
            i for i in np.flatnonzero((kept.parts == part) & (kept.labels != UNLABELED))
            if kept.read(i) in bytes_of(kept, np.flatnonzero((kept.parts == other) & (kept.labels != UNLABELED)))
        ]  # fmt: skip
        assert any(f"marked {part} have the bytes of one marked {other}" in note for note in kept.notes) == bool(shared)


@given(st.lists(st.integers(0, 3), max_size=12))
def test_groups_are_those_of_the_bytes(content: list[int]) -> None:
    items = images([(c, 0) for c in content] or [(9, 0)])
    expected = [[i for i, c in enumerate(content) if c == k] for k in dict.fromkeys(content)]
    assert same_bytes(items, range(len(content))) == [group for group in expected if len(group) > 1]


def test_files_are_read_whole_only_where_size_and_beginning_agree(tmp_path: Path, monkeypatch) -> None:
    long = bytes(5000)
    contents = {"a": long + b"1", "b": long + b"2", "c": long + b"1", "d": b"x" + long, "e": b"short"}
    for name, data in contents.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    items = load_items(tmp_path)
    read = []
    monkeypatch.setattr(copies, "content_hash", lambda items, i: read.append(i) or content_hash(items, i))
    assert same_bytes(items, range(5)) == [[0, 2]]
    assert read == [0, 1, 2]


def test_the_reason_and_the_note_name_files_and_classes(tmp_path: Path) -> None:
    for name, data in {"cat/1": b"1", "dog/1": b"1", "dog/2": b"2", "dog/3": b"2", "cat/4": b"4"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(data)
    kept = learnable(load_items(tmp_path))
    assert kept.ids == ("cat/4.png", "dog/2.png")
    assert {q.id: q.reason for q in kept.quarantined} == {
        "cat/1.png": "the same bytes as 'dog/1.png', whose class is 'dog'",
        "dog/1.png": "the same bytes as 'cat/1.png', whose class is 'cat'",
        "dog/3.png": "a copy of 'dog/2.png'",
    }
    assert any("'cat/1.png' (cat) and 'dog/1.png' (dog)" in note for note in kept.notes)
    assert any("1 image is a copy of another, such as 'dog/3.png' of 'dog/2.png'" in note for note in kept.notes)
    tested = one_label_each(load_items(tmp_path))
    assert tested.ids == ("cat/4.png", "dog/2.png", "dog/3.png"), "copies are tested on"


def test_nothing_but_contradictions_is_refused() -> None:
    with pytest.raises(InputError, match=r"one label each, got none: .*'0' \(a\) and '1' \(b\)"):
        learnable(images([(0, 0), (0, 1)]))


def test_unreadable_images_are_no_copies(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"same")
    items = load_items([tmp_path / "a.png", tmp_path / "b.png"], labels=["x", "y"])
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    assert len(learnable(items)) == 2
