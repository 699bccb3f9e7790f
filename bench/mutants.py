"""Mutation testing of the library: ``python -m bench.mutants``.

A mutant is a copy of the sources with one operator, number, condition or statement changed. It is killed if a test
fails, and survives if all tests that belong to its file pass (:mod:`bench.mutant_tests`). Survivors are listed with a
reason, one of

- *equivalent*: the two give equal results for every input;
- *cost*: the same results with more or less work, such as the size of a block;
- *hole*: a test is missing.

Tests run in forked processes, after their libraries are imported once. Every trial appends a line to a results file; an
interrupted run continues after the last line. ``--retry`` tries the survivors again, for example after tests were
added; the last line of a mutant counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bench.mutant_tests import stages_of
from bench.mutations import Mutation, mutations, parses

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("linalg", "methods")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--timeout", type=float, default=180, help="seconds of one file of tests")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="processor minutes of the whole run")
    parser.add_argument("--only", default="", help="part of a file name")
    parser.add_argument("--retry", action="store_true", help="try the survivors of the results file again")
    parser.add_argument("--report", action="store_true", help="print what the results file holds, and run nothing")
    options = parser.parse_args()
    if not options.report:
        drawn = draw(options.count, options.seed, options.only)
        known = {
            entry["mutant"] for entry in read(options.out) if not (options.retry and entry["outcome"] == "survived")
        }
        run([m for m in drawn if label(*m) not in known], options.out, options.timeout, 60 * options.minutes)
    print(report(read(options.out)))


def draw(count: int, seed: int, only: str = "") -> list[tuple[str, Mutation]]:
    """``count`` mutants, all changes of all files being equally likely; a larger count begins with a smaller one's."""
    files = sorted(path for folder in FOLDERS for path in (ROOT / "src/modalign" / folder).rglob("*.py"))
    names = [str(path.relative_to(ROOT)) for path in files if only in str(path)]
    found = [(name, mutation) for name in names for mutation in mutations((ROOT / name).read_text("utf-8"))]
    random.Random(seed).shuffle(found)
    sound = ((name, m) for name, m in found if parses(m.apply((ROOT / name).read_text("utf-8"))))
    return list(islice(sound, count))


def label(name: str, mutation: Mutation) -> str:
    """Name of a mutant in the results file."""
    return f"{name}:{mutation.line}:{mutation.start} {mutation.kind} {mutation.after}"


def run(drawn: Sequence[tuple[str, Mutation]], out: Path, timeout: float, seconds: float) -> None:
    """Try mutants one after another, in a copy of the tree; ends after so many seconds of the processor."""
    _import_once()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for part in ("src", "tests", "bench", "scripts", "docs", "README.md", "CONTRIBUTING.md", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, tree / part)
        sound: dict[str, bool] = {}
        for number, (name, mutation) in enumerate(drawn, start=1):
            mutant = label(name, mutation)
            if _processor_seconds() > seconds:
                print(f"stopped after {number - 1} mutants: the time is over", file=sys.stderr)
                return
            entry = {"mutant": mutant, "file": name, **vars(mutation)} | _try(tree, name, mutation, timeout, sound)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            print(f"{number}/{len(drawn)} {entry['outcome']:8} {entry['seconds']:6.1f} s  {mutant[:110]}", flush=True)


def _try(tree: Path, name: str, mutation: Mutation, timeout: float, sound: dict[str, bool]) -> dict[str, Any]:
    """The result of one mutant."""
    path, began = tree / name, time.monotonic()
    source = path.read_text("utf-8")
    used = []
    for stage in stages_of(name):
        tests = " ".join(stage)
        if not sound.get(tests, True):
            continue
        used.append(tests)
        for cached in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            cached.unlink()
        path.write_text(mutation.apply(source), encoding="utf-8")
        try:
            code = _pytest(tree, stage, timeout)
        finally:
            path.write_text(source, encoding="utf-8")
        if code != 0 and tests not in sound:
            sound[tests] = _pytest(tree, stage, 3 * timeout) == 0
        if code != 0 and sound[tests]:  # a failure without the mutant is no evidence
            outcome = "timeout" if code is None else "killed"
            return {"outcome": outcome, "by": tests, "tests": used, "seconds": time.monotonic() - began}
    return {"outcome": "survived", "by": "", "tests": used, "seconds": time.monotonic() - began}


def _pytest(tree: Path, arguments: Sequence[str], timeout: float) -> int | None:
    """Exit code of pytest in a forked process on a tree; None if it takes longer than it may."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(tree)
            sys.path[:] = [str(tree / "src"), *(p for p in sys.path if Path(p or ".").resolve() not in _own_paths())]
            os.environ["PYTHONPATH"] = str(tree / "src")
            sys.dont_write_bytecode = True
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            import pytest

            flags = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--no-header"]
            code = int(pytest.main([*flags, "--rootdir", str(tree), "-o", "timeout=0", *arguments]))
        except BaseException:
            code = 98
        finally:
            os._exit(code)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _own_paths() -> set[Path]:
    return {ROOT, ROOT / "src"}


def _import_once() -> None:
    """Import the modules of all tests, so that forked processes share them."""
    import hypothesis
    import pytest
    import scipy.sparse.csgraph
    import scipy.stats
    import sklearn.linear_model
    import sklearn.utils.estimator_checks
    import torch
    import transformers

    torch.set_num_threads(1)
    _ = (hypothesis, pytest, scipy.stats, scipy.sparse.csgraph, sklearn.linear_model, transformers.CLIPModel)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def read(path: Path) -> list[dict[str, Any]]:
    """The last trial of each mutant of a results file."""
    if not path.exists():
        return []
    trials = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return list({trial["mutant"]: trial for trial in trials}.values())


def report(entries: Iterable[dict[str, Any]]) -> str:
    """Counts by kind and the survivors, as Markdown."""
    entries = list(entries)
    lines = ["| kind | mutants | killed | survived |", "|---|---|---|---|"]
    kinds = Counter(entry["kind"] for entry in entries)
    alive = [entry for entry in entries if entry["outcome"] == "survived"]
    for kind, count in sorted(kinds.items()):
        left = sum(entry["kind"] == kind for entry in alive)
        lines.append(f"| {kind} | {count} | {count - left} | {left} |")
    lines.append(f"| all | {len(entries)} | {len(entries) - len(alive)} | {len(alive)} |")
    lines += ["", "| survivor | change |", "|---|---|"]
    for entry in alive:
        where = f"`{entry['file'].removeprefix('src/modalign/')}:{entry['line']}`"
        lines.append(f"| {where} | `{_short(entry['before'])}` → `{_short(entry['after'])}` |")
    return "\n".join(lines)


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= 60 else f"{text[:57]}…"


if __name__ == "__main__":
    main()
