"""A short, seeded run of ``bench.fuzz``, and that it detects what it counts."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from bench import fuzz
from bench.fuzz_guard import Guard
from bench.fuzz_mutations import damaged, damaged_json

NAMES = [name for name, weight in fuzz._WEIGHTS.items() for _ in range(weight)]


def test_damaged_files_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "cache"))
    counts: Counter[tuple[str, str]] = Counter()
    for name, key, answer, detail in fuzz.trials(0, tmp_path, NAMES, range(40)):
        assert answer in ("begin", *fuzz.ANSWERS), f"{answer}: --seed 0 --only {name} {key}\n{detail}"
        counts[name, answer] += 1
    for name in fuzz._WEIGHTS:
        assert counts[name, "begin"] == counts[name, "accepted"] + counts[name, "refused"] == 40 * fuzz._WEIGHTS[name]
        assert counts[name, "refused"], name
    assert counts["images", "accepted"]


def test_the_guard_detects_what_must_not_happen(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with Guard([inside]) as guard:
        (inside / "a").write_text("x")
        (inside / "a").rename(inside / "b")
        (outside / "absent").exists()
    assert guard.outside == guard.network == []
    acts = {
        "write": lambda: (outside / "a").write_text("x"),
        "through a link": lambda: (inside / "link" / "b").write_text("x"),
        "descriptor": lambda: os.close(os.open(outside / "c", os.O_CREAT | os.O_WRONLY)),
        "rename": lambda: (inside / "b").rename(outside / "d"),
        "folder": lambda: (outside / "e").mkdir(),
        "program": lambda: subprocess.run([sys.executable, "--version"], capture_output=True),
    }
    for name, act in acts.items():
        with Guard([inside]) as guard:
            act()
        assert guard.outside, name
    for ask in (lambda: socket.getaddrinfo("localhost", 1), lambda: socket.create_connection(("127.0.0.1", 1), 1)):
        with Guard([inside]) as guard, suppress(OSError):
            ask()
        assert guard.network
    (outside / "unwatched").touch()
    assert len(guard.network) <= 2


def test_damage_is_decided_by_the_seed_and_changes_something() -> None:
    data = bytes(range(256)) * 8
    text = json.dumps({"a": [1, 2, {"b": "c"}], "d": None})
    for make, whole in ((damaged, data), (damaged_json, text)):
        results = [make(whole, random.Random(k)) for k in range(200)]
        assert results == [make(whole, random.Random(k)) for k in range(200)]
        assert len(set(results)) > 100


def test_what_is_found_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.fuzz_targets as targets

    class Faulty:
        name = "images"
        answers = iter(["refused", KeyError("x"), "vanished", ("127.0.0.1", 1), "accepted"])

        def setup(self, folder: Path) -> None: ...

        def trial(self, dice: random.Random, folder: Path) -> str:
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, tuple):
                with suppress(OSError):
                    socket.create_connection(answer, 1)
                return "accepted"
            return answer

    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path))
    monkeypatch.setattr(targets, "TARGETS", (Faulty,))
    answers = [report[2] for report in fuzz.trials(0, tmp_path, ["images"], range(5))]
    assert answers[1::2] == ["refused", "traceback", "vanished", "network", "accepted"]
    table = fuzz.table(Counter(("images", answer) for answer in answers[1::2]), ["images"])
    assert [line.split()[1] for line in table.splitlines()] == ["trials", "5", "5"]
