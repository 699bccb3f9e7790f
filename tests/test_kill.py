"""What ``bench.kill`` calls a result, an orphan and an operation, and one killed command of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.kill import orphans, results

ROOT = Path(__file__).parents[1]


def test_timings_are_no_results_and_everything_else_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    card = tmp_path / "model" / "card.json"
    card.write_text('{"record": {"seconds": 1, "seed": 2}, "digest": "a"}')
    (tmp_path / "runs.jsonl").write_text('{"fit_seconds": 1, "seed": 2}\n{"fit_sec')
    (tmp_path / "page.html").write_text("fitted in 3.5 s, accuracy 3.5 %")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "training.json").write_text("{}")
    before = results(tmp_path)
    assert sorted(before) == ["model/card.json", "page.html", "runs.jsonl"]
    card.write_text('{"record": {"seconds": 7, "seed": 2}, "digest": "b"}')
    (tmp_path / "runs.jsonl").write_text('{"fit_seconds": 7, "seed": 2}\n')
    (tmp_path / "page.html").write_text("fitted in 7 s, accuracy 3.5 %")
    assert results(tmp_path) == before
    card.write_text('{"record": {"seconds": 7, "seed": 3}, "digest": "b"}')
    assert results(tmp_path) != before


def test_what_no_card_names_is_an_orphan(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"weights": "weights-a.safetensors"}')
    for name in ("weights-a.safetensors", "weights-b.safetensors", ".modalign-0.tmp", "index.sqlite-journal"):
        (tmp_path / name).touch()
    assert sorted(p.name for p in orphans(tmp_path)) == [
        ".modalign-0.tmp",
        "index.sqlite-journal",
        "weights-b.safetensors",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, which this system has not")
def test_a_killed_command_ends_as_an_undisturbed_one() -> None:
    command = [sys.executable, "-m", "bench.kill", "--rounds", "3", "--only", "save"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    name, rounds, killed, *bad = done.stdout.splitlines()[-1].split()
    assert (name, rounds, bad) == ("save", "3", ["0"] * 3)
    assert int(killed) >= 1
