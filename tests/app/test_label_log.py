"""Labels survive: a killed process, an incomplete line, a file that moved, a second studio."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from modalign.app.studio.exam import exam_key, exam_limit
from modalign.app.studio.image_list import listed_images
from modalign.app.studio.label_log import LabelLog
from modalign.app.studio.label_state import NONE, LabelState
from modalign.app.studio.labeling import NO_CLASS, Labeling
from modalign.core.errors import FullDiskError, InputError

IDS = tuple(f"{i}.png" for i in range(40))
CONTENTS = [f"{i:016x}" for i in range(40)]
LIMIT = exam_limit(CONTENTS, 0)


def opened(folder: Path, ids: tuple[str, ...] = IDS, contents: list[str] = CONTENTS) -> Labeling:
    labeling = Labeling(ids, contents, LabelLog(folder), 0, LIMIT)
    for name in ("cat", "dog", "cow"):
        if name not in labeling.state.ever:
            labeling.add_class(name, by="start")
    return labeling


def reopened(labeling: Labeling, **changes: object) -> Labeling:
    labeling.log.close()
    return opened(labeling.log.folder, **changes)  # type: ignore[arg-type]


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.label([0, 1, 2], 0)
    first.label([1], 1)
    first.label([2], NONE)
    first.label([3], 2)
    first.label([3], None)
    new = first.add_class("<img src=x>")
    first.rename_class(0, "black cat")
    first.label([4], new)
    first.merge_classes(new, 1)
    labels = first.labels.copy()
    assert labels[:5].tolist() == [0, 1, NO_CLASS, -1, 1]
    again = reopened(first)
    assert (again.labels == labels).all()
    assert again.state.names == {0: "black cat", 1: "dog", 2: "cow"}
    assert again.add_class("bird") == new + 1  # numbers are not used again
    again.log.close()


def test_undo_takes_back_the_latest_change_also_after_a_restart(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    states = [(labeling.labels.copy(), dict(labeling.state.names))]
    for change in (
        lambda: labeling.label([0, 1, 2], 0),
        lambda: labeling.label([1], 2),
        lambda: labeling.add_class("bird"),
        lambda: labeling.rename_class(2, "ox"),
        lambda: labeling.merge_classes(0, 1),
        lambda: labeling.label([1], None),
    ):
        change()
        states.append((labeling.labels.copy(), dict(labeling.state.names)))
    labeling = reopened(labeling)
    for labels, names in reversed(states[:-1]):
        assert labeling.undo() is not None
        assert (labeling.labels == labels).all()
        assert labeling.state.names == names
    assert labeling.undo() is None  # the classes of the start stay
    labeling.log.close()


def test_the_state_does_not_depend_on_how_events_were_applied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labeling = opened(tmp_path)
    for step in range(120):
        rows = rng.choice(40, size=rng.integers(1, 4), replace=False).tolist()
        of = [0, 1, 2, NONE, None][rng.integers(5)]
        if step % 7 == 6:
            labeling.undo()
        else:
            labeling.label(rows, of if of in labeling.state.names or not isinstance(of, int) else None)
    fresh = LabelState.replay(labeling.log.events)
    assert fresh.labels == labeling.state.labels
    assert (reopened(labeling).labels == labeling.labels).all()


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_an_incomplete_last_line_is_left_out_and_replaced(tmp_path: Path, cut: int) -> None:
    labeling = opened(tmp_path)
    labeling.label([0], 1)
    labeling.label([1], 1)
    labeling.log.close()
    data = labeling.log.path.read_bytes()
    labeling.log.path.write_bytes(data[:-cut])
    again = opened(tmp_path)
    assert again.labels[0] == 1
    assert (again.labels[1] == 1) == (cut == 1)  # only the line break is missing
    assert again.log.dropped == (cut > 1)
    again.label([2], 2)
    third = reopened(again)
    assert third.labels[[0, 2]].tolist() == [1, 2]
    assert not third.log.dropped
    numbers = [json.loads(line)["n"] for line in third.log.path.read_bytes().splitlines()]
    assert numbers == list(range(len(numbers)))
    third.log.close()


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.label([0], 1)
    before = labeling.log.path.read_bytes()
    with pytest.raises(InputError, match="half of a surrogate pair"):
        labeling.add_class("half \ud800")
    for kind, entries in (("add", {"class": 9, "name": "\ud800"}), ("label", {"class": 1.5, "images": []})):
        with pytest.raises(InputError, match="nothing has changed"):
            labeling.log.append(kind, **entries)
    assert labeling.log.path.read_bytes() == before
    assert reopened(labeling).labels[0] == 1


def test_a_damaged_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.label([0], 1)
    labeling.log.close()
    lines = labeling.log.path.read_bytes().splitlines(keepends=True)
    labeling.log.path.write_bytes(b"".join([*lines[:1], b"garbage\n", *lines[1:]]))
    with pytest.raises(InputError, match="line 2 of"):
        LabelLog(tmp_path)
    labeling.log.path.write_bytes(b"".join(lines))
    LabelLog(tmp_path).close()  # the refusal released the lock


@pytest.mark.parametrize(
    "entries",
    [
        {"kind": "label", "images": []},
        {"kind": "label", "class": 0, "images": 5},
        {"kind": "label", "class": 0, "images": [["a"]]},
        {"kind": "label", "class": "zzz", "images": []},
        {"kind": "add", "class": "x", "name": "q"},
        {"kind": "add", "class": -1, "name": "q"},
        {"kind": "add", "class": 2**63, "name": "q"},
        {"kind": "add", "class": 9, "name": 3},
        {"kind": "merge", "class": 0},
        {"kind": "undo"},
        {"kind": "undo", "of": [1]},
        {"kind": "later", "n": 0},
    ],
)
def test_an_event_without_what_its_kind_has_is_refused(entries: dict[str, object], tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.log.close()
    line = json.dumps({"v": 1, "n": 50, "time": "", "by": "user"} | entries)
    with open(labeling.log.path, "a") as file:
        file.write(line + "\n")
    before = labeling.log.path.read_bytes()
    with pytest.raises(InputError, match="Expected an event in line"):
        opened(tmp_path)
    assert labeling.log.path.read_bytes() == before


def test_merges_in_a_circle_leave_a_class(tmp_path: Path) -> None:
    events = [{"n": k, "kind": "add", "class": k, "name": f"c{k}"} for k in range(2)]
    merges = [{"n": 2, "kind": "merge", "class": 0, "into": 1}, {"n": 3, "kind": "merge", "class": 1, "into": 0}]
    label = {"n": 4, "kind": "label", "class": 1, "images": [["a", "hash", 0]]}
    state = LabelState.replay([*events, *merges, label])
    assert state.names == {1: "c1"}
    assert state.resolve(0) == 1
    assert {found.of for found in state.labels.values()} <= state.names.keys()


def test_a_class_that_is_undone_leaves_no_label_on_a_changed_file(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.label([0], labeling.add_class("new"))
    changed = ["other bytes", *CONTENTS[1:]]
    labeling.log.close()
    labeling = opened(tmp_path, contents=changed)
    while labeling.undo() != "add":
        pass
    assert "new" not in labeling.state.names.values()
    assert set(labeling.labels.tolist()) <= {-1, *labeling.state.names}
    labeling.log.close()


def test_a_second_studio_is_refused(tmp_path: Path) -> None:
    first = LabelLog(tmp_path)
    with pytest.raises(InputError, match=r"used by a running studio.*state="):
        LabelLog(tmp_path)
    first.close()
    LabelLog(tmp_path).close()


def test_labels_belong_to_bytes(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.label([5], 1)
    labeling.label([6], 2)
    contents = [CONTENTS[5], CONTENTS[5], "f" * 16]
    moved = reopened(labeling, ids=("elsewhere/5.png", "copy.png", "6.png"), contents=contents)
    assert moved.labels.tolist() == [1, 1, 2]  # a moved file, its copy, and a file that was edited
    assert moved.elsewhere == 1  # the former bytes of 6.png
    moved.label([2], None)
    assert reopened(moved, ids=("6.png",), contents=["f" * 16]).labels.tolist() == [-1]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeling = opened(tmp_path)
    labeling.label([0], 1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
    with pytest.raises(FullDiskError, match="disk is full"):
        labeling.label([1], 1)
    monkeypatch.undo()
    assert labeling.labels[:2].tolist() == [1, -1]
    labeling.label([2], 0)
    assert reopened(labeling).labels[:3].tolist() == [1, -1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, which this system has not")
def test_a_label_survives_the_kill_of_its_process(tmp_path: Path) -> None:
    for number in range(5):
        child = os.fork()
        if not child:
            try:
                labeling = opened(tmp_path)
                labeling.label([number], number % 3)
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        again = opened(tmp_path)
        assert again.labels[: number + 1].tolist() == [k % 3 for k in range(number + 1)]
        again.log.close()


@pytest.mark.parametrize("name", ["", "   ", "Cat", "x" * 201, "cat\n"])
def test_class_names_are_new(tmp_path: Path, name: str) -> None:
    labeling = opened(tmp_path)
    before = len(labeling.log.events)
    with pytest.raises(InputError, match="class name"):
        labeling.add_class(name)
    with pytest.raises(InputError, match="class name"):
        labeling.rename_class(1, name)
    for rows, of in (([40], 0), ([-1], 0), ([], 0), ([0], 3), ([0], "other")):
        with pytest.raises(InputError, match="Expected"):
            labeling.label(rows, of)
    assert len(labeling.log.events) == before
    labeling.log.close()


def test_what_another_page_labeled_is_counted(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    seen = labeling.stamp
    assert labeling.label([0, 1], 1, since=seen) == 0
    assert labeling.label([1, 2], 2, since=seen) == 1
    labeling.log.close()


def test_the_exam_set_is_random_and_follows_from_the_bytes() -> None:
    contents = [f"{i:016x}" for i in range(2000)]
    limit = exam_limit(contents, 7)
    chosen = {c for c in contents if exam_key(c, 7) < limit}
    assert len(chosen) == 200
    assert chosen == {c for c in reversed(contents) if exam_key(c, 7) < limit}
    few = exam_limit(contents[:50], 7)
    assert exam_limit(contents[:50] * 2, 7) == few  # copies count once
    assert sum(exam_key(c, 7) < few for c in contents[:50]) == 10
    other_limit = exam_limit(contents, 8)
    other = {c for c in contents if exam_key(c, 8) < other_limit}
    assert 5 <= len(chosen & other) <= 40  # about 20 by chance
    place = np.array([i for i, c in enumerate(contents) if c in chosen])
    halves = np.histogram(place, bins=10, range=(0, 2000))[0]
    assert ((halves - 20) ** 2 / 20).sum() < 27.9  # χ² with 9 degrees of freedom, p = 0.001
    assert exam_limit(["a"], 0) == exam_limit([], 0) == 0


def test_exam_labels_are_never_taught(tmp_path: Path) -> None:
    labeling = opened(tmp_path)
    labeling.label(range(40), 1)
    exam = {i for i, c in enumerate(CONTENTS) if exam_key(c, 0) < LIMIT}
    assert len(exam) == 8
    assert set(np.flatnonzero(labeling.examined)) == exam
    assert set(np.flatnonzero(labeling.taught)) == set(range(40)) - exam
    assert set(labeling.exam_truth()) == {CONTENTS[i] for i in exam}
    first = int(labeling.exam_order[0])
    labeling.label([first], NONE)
    assert labeling.exam_nones() == 1
    assert not labeling.taught[first]
    assert CONTENTS[first] not in labeling.exam_truth()
    labeling.log.close()


@pytest.mark.parametrize(
    "entries", [{"hits": [{"id": 5}]}, {"findings": [{"ids": 5}]}, {"findings": [{"ids": "0.png"}]}, {"hits": 3}, []]
)
def test_a_list_of_another_form_is_refused(entries: object, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="got something else"):
        listed_images(tmp_path / "list.json", IDS)
