"""Records are intact after crashes and concurrent writes; summaries have the correct counts."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.core.files import append_line
from modalign.evaluate.metrics import mean_interval, proportion
from modalign.evaluate.result_files import check_record
from modalign.evaluate.runs import Run, append_run, read_runs, run_key, shared_warnings, summarize


def run(method: str = "cmm", shots: int = 4, seed: int = 1, hits: int = 7, n: int = 11, features: str = "f0") -> Run:
    correct = np.arange(n) < hits
    return Run(
        method, shots, seed, proportion(hits, n), 1.5, 0.25, 40, 40, "4 shots per class", {"steps": 100}, {"gap": 0.5},
        features, "t0", 1, {"python": "3.11"}, ("a note",), correct,
    )  # fmt: skip


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_run_comes_back_as_it_was(answers: list[bool]) -> None:
    original = replace(run(hits=sum(answers), n=len(answers)), correct=np.array(answers))
    again = Run.from_json(original.to_json())
    assert again == original
    assert again.correct.tolist() == answers
    assert "\n" not in original.to_json()


def test_records_hold_no_number_that_json_does_not_know() -> None:
    odd = replace(run(), diagnosis={"entropy": float("nan"), "plan": np.ones(2), "kind": object})
    content = json.loads(odd.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert content["diagnosis"]["plan"] == [1.0, 1.0]
    assert content["diagnosis"]["entropy"] == "nan"


def test_a_run_of_before_memory_was_measured_is_still_read() -> None:
    content = json.loads(replace(run(), peak_bytes=5).to_json())
    assert Run.from_json(json.dumps(content)).peak_bytes == 5
    del content["peak_bytes"], content["warnings"]
    assert Run.from_json(json.dumps(content)) == run()


def test_a_run_of_before_unlabeled_images_were_counted_is_still_read_and_continued() -> None:
    counted = replace(run(), n_unlabeled=3)
    content = json.loads(counted.to_json()) | {"format": "modalign-run-1"}
    del content["n_unlabeled"]
    again = Run.from_json(json.dumps(content))
    assert again == run()
    assert again.n_unlabeled is None
    assert again.key == counted.key


def test_runs_of_a_newer_version_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append_run(path, run())
    newer = json.loads(run(seed=2).to_json()) | {"format": "modalign-run-99", "entry": "new"}
    append_line(path, json.dumps(newer).encode())
    expected = r"Line 2 of '.*runs.jsonl' is of format modalign-run-99, .* reads up to \d+; update modalign"
    for read in (read_runs, lambda path: check_record(path, Run.from_json)):
        with pytest.raises(InputError, match=expected):
            read(path)


def test_the_key_is_what_was_done_and_not_what_came_out() -> None:
    first = run()
    later = replace(run(hits=3), fit_seconds=9.0, diagnosis={}, asked=2, protocol="4 shots per class; 7 unlabelled")
    assert first.key == later.key == Run.from_json(later.to_json()).key
    assert first.key == run_key("cmm", 4, 1, "f0", "t0", "4 shots per class", {"steps": np.int64(100)})
    others = [
        replace(first, **change)
        for change in (
            {"method": "lfa"}, {"shots": "all"}, {"seed": 2}, {"features": "f1"}, {"test": "t1"},
            {"parameters": {"steps": 101}}, {"protocol": "4 shots per class from the official lists"},
        )
    ]  # fmt: skip
    assert len({first.key, *(other.key for other in others)}) == 1 + len(others)


def test_lines_are_added_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append_run(path, run(seed=1))
    before = path.read_bytes()
    append_run(path, run(seed=2))
    assert path.read_bytes().startswith(before)
    assert [r.seed for r in read_runs(path)] == [1, 2]


@pytest.mark.parametrize("kept", [1, 0.3, 0.9])
def test_a_line_cut_short_harms_no_other(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "runs.jsonl"
    append_run(path, run(seed=1))
    line = run(seed=2).to_json()
    with path.open("a") as file:
        file.write(line[: int(kept if kept == 1 else kept * len(line))])
    append_run(path, run(seed=3))
    assert [r.seed for r in read_runs(path)] == [1, 3]
    assert path.read_bytes().count(b"\n") == 2, "and leaves nothing behind"


def test_without_locks_a_line_cut_short_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalign.core.files.appending._lock", lambda descriptor: False)
    path = tmp_path / "runs.jsonl"
    append_run(path, run(seed=1))
    path.write_bytes(path.read_bytes() + b'{"format"')
    append_run(path, run(seed=3))
    with pytest.warns(UserWarning, match=r"lines \[2\]"):
        assert [r.seed for r in read_runs(path)] == [1, 3]


def test_a_whole_line_without_its_line_break_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(run(seed=k).to_json() for k in (1, 2)))
    append_run(path, run(seed=3))
    assert [r.seed for r in read_runs(path)] == [1, 2, 3]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_no_line_is_added_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "runs.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="it is a link"):
        append_run(tmp_path / "runs.jsonl", run())
    assert (tmp_path / "victim").read_text() == "precious"


def test_several_writers_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: append_run(path, run(seed=seed, n=500)), range(200)))
    assert sorted(r.seed for r in read_runs(path)) == list(range(200))


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"format": "modalign-run-1"}', '{"format": "other"}'])
def test_what_is_no_run_is_left_out_aloud(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{run(seed=1).to_json()}\n{line}\n")
    with pytest.warns(UserWarning, match=r"lines \[2\] .* left out"):
        assert [r.seed for r in read_runs(path)] == [1]
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="has none; choose another name"):
        read_runs(path)


def test_unreadable_and_unwritable_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_runs(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="writable"):
        append_run(tmp_path, run())


def test_summary_is_the_interval_over_seeds() -> None:
    runs = [run("a", 4, s, hits) for s, hits in ((1, 5), (2, 6), (3, 9))] + [run("b", 0, 1, 3), run("a", 1, 1, 2)]
    rows = summarize(runs)
    assert [(r.method, r.shots) for r in rows] == [("a", 4), ("b", 0), ("a", 1)]
    assert rows[0].accuracy == mean_interval([5 / 11, 6 / 11, 9 / 11], bounds=(0, 1))
    assert rows[1].accuracy.n == 1
    assert rows[0].fit_seconds == 1.5


def test_a_repeated_run_counts_once_and_the_last_one_wins() -> None:
    (row,) = summarize([run(seed=1, hits=2), run(seed=2, hits=4), run(seed=1, hits=6)])
    assert row.accuracy == mean_interval([6 / 11, 4 / 11], bounds=(0, 1))


def test_runs_on_different_features_are_not_averaged() -> None:
    with pytest.raises(InputError, match="same features"):
        summarize([run(seed=1), run(seed=2, features="f1")])


messages = st.sampled_from(
    ["the loss is 3.5", "the loss is 4", "the loss is 4.25, of 10", "no text", "no text, 1 label"]
)


@given(st.lists(st.tuples(st.sampled_from(["cmm", "lfa"]), st.lists(messages, unique=True, max_size=3)), max_size=8))
def test_warnings_are_reported_once_with_all_their_methods(made: list[tuple[str, list[str]]]) -> None:
    runs = [replace(run(method), warnings=tuple(said)) for method, said in made]
    assert [Run.from_json(r.to_json()).warnings for r in runs] == [r.warnings for r in runs]
    found = shared_warnings(runs, str.upper)
    kinds = {"the loss is #": [], "the loss is #, of #": [], "no text": [], "no text, # label": []}
    for method, said in made:
        for message in said:
            kind = {"the loss is 3.5": "the loss is #", "the loss is 4": "the loss is #"}.get(
                message, message.replace("4.25", "#").replace("10", "#").replace("1 label", "# label")
            )
            kinds[kind].append((method.upper(), message))
    assert len(found) == sum(map(bool, kinds.values()))
    for entries in filter(None, kinds.values()):
        methods = [method for method, _ in entries]
        counts = [f"{m} ({methods.count(m)} run{'s' if methods.count(m) > 1 else ''})" for m in dict.fromkeys(methods)]
        numbers = " (The numbers differ between runs.)" if len({message for _, message in entries}) > 1 else ""
        assert f"{', '.join(counts)}: {entries[0][1]}{numbers}" in found
