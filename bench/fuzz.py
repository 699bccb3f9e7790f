"""Fuzzing of the readers with damaged files: ``python -m bench.fuzz --minutes 10 --seed 0``.

Every trial damages one file, reads it, and counts faults: an exception that is not one of this package (a
traceback), no answer within 30 seconds, an item that is missing from the lists, a file written elsewhere or a program
started, a request to the network, a model or a features file that is accepted with other content. A trial is identified
by ``seed target number`` and can be repeated alone with ``--only``.

The trials run in a child process, so that a hang or a crash ends one trial only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from bench.fuzz_guard import Guard

PATIENCE = 30.0  # seconds
ANSWERS = ("accepted", "refused")
FAULTS = ("traceback", "hang", "crash", "vanished", "outside", "network", "changed")
_WEIGHTS = {"images": 10, "archives": 4, "tables": 3, "npz": 3, "json": 4, "models": 2}


def trials(
    seed: int, folder: Path, names: Sequence[str], numbers: range, only: str = ""
) -> Iterator[tuple[str, int, str, str]]:
    """(target, number, answer, detail) of one trial after the other, the targets in turn.

    Parameters
    ----------
    seed : of all damage.
    folder : where files are written.
    names : of targets, as often as they get a turn in a round.
    numbers : of the rounds.
    only : the name of a target, to leave out the others.
    """
    from bench.fuzz_targets import TARGETS, judge

    targets = {cls.name: cls() for cls in TARGETS if cls.name in names}
    for name, target in targets.items():
        (folder / name).mkdir(exist_ok=True)
        target.setup(folder / name)
    for number in numbers:
        for turn, name in enumerate(names):
            if only and name != only:
                continue
            key = number * len(names) + turn
            yield name, key, "begin", ""
            dice = random.Random(f"{seed} {name} {key}")
            with Guard([folder, Path(os.environ["MODALIGN_CACHE"])]) as guard:
                try:
                    answer, detail = judge(targets[name], dice, folder / name), ""
                except Exception:
                    answer, detail = "traceback", traceback.format_exc()
            if guard.network:
                answer, detail = "network", guard.network[0]
            elif guard.outside:
                answer, detail = "outside", guard.outside[0]
            yield name, key, answer, detail


def _work(seed: int, names: Sequence[str], start: int, connection: Connection) -> None:
    """In a process of its own: trials without end, each reported before and after."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODALIGN_CACHE"] = str(Path(folder) / "cache")
        for report in trials(seed, Path(folder), names, range(start, sys.maxsize)):
            connection.send(report)


def run(seed: int, seconds: float, names: Sequence[str]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts of (target, answer), and what was found."""
    counts: Counter[tuple[str, str]] = Counter()
    found: list[str] = []
    end, start = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(seed, names, start, theirs), daemon=True)
        process.start()
        theirs.close()
        current, patience = ("", 0), 300.0  # setting up takes a while
        while time.monotonic() < end:
            try:
                report = ours.recv() if ours.poll(patience) else None
            except EOFError:
                report = (*current, "crash", f"the process ended with code {process.exitcode}")
            if report is None or report[2] == "crash":
                assert current[0], "nothing could be made to damage"
            name, key, answer, detail = report or (*current, "hang", f"no answer within {patience:.0f} s")
            patience = PATIENCE
            if answer == "begin":
                current = (name, key)
                continue
            counts[name, answer] += 1
            if answer in FAULTS:
                found.append(f"{answer}: seed {seed}, {name} {key}\n{detail}")
                print(found[-1], flush=True)
            if answer in ("hang", "crash"):
                break
        start = current[1] // len(names) + 1
        process.kill()
        process.join()
    return counts, found


def table(counts: Counter[tuple[str, str]], names: Sequence[str]) -> str:
    """One row for each target."""
    header = ["file", "trials", *ANSWERS, *FAULTS]
    rows = [[name, sum(counts[name, a] for a in (*ANSWERS, *FAULTS)), *(counts[name, a] for a in (*ANSWERS, *FAULTS))]
            for name in dict.fromkeys(names)]  # fmt: skip
    total = ["all", *(sum(row[k] for row in rows) for k in range(1, len(header)))]
    return "\n".join(f"{row[0]:10}" + "".join(f"{cell!s:>11}" for cell in row[1:]) for row in [header, *rows, total])


def main() -> None:
    """Print the table; exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="TARGET NUMBER", nargs=2, help="Repeat one trial, in this process.")
    arguments = parser.parse_args()
    names = [name for name, weight in _WEIGHTS.items() for _ in range(weight)]
    if arguments.only:
        name, key = arguments.only[0], int(arguments.only[1])
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MODALIGN_CACHE"] = str(Path(folder) / "cache")
            rounds = range(key // len(names), key // len(names) + 1)
            for report in trials(arguments.seed, Path(folder), names, rounds, only=name):
                if report[1] == key:
                    print(*report[2:])
        return
    counts, found = run(arguments.seed, 60 * arguments.minutes, names)
    print(table(counts, names))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
