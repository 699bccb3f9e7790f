"""Commands that are killed at random times and run again: ``python -m bench.kill --rounds 100``.

A round starts a command, kills it (``kill -9``) once or twice, and runs it to its end. Its results must equal those of
an undisturbed run byte for byte (cards, records and pages without their timings), and no temporary file, old weights
or old state may be left. Half of the moments are drawn on the clock, half among the operations on files: a file is
opened to be written, renamed or removed, and the process dies just before.

The commands run in forked processes, after everything is imported once, so that a round takes its own time only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fuzz_guard import changes_files
from bench.fuzz_targets import photos

COLUMNS = ("rounds", "killed", "failed", "different", "orphans")
_TIMINGS = {"seconds", "digest", "fit_seconds", "predict_seconds", "peak_bytes"}
_TEMPORARY = (".modalign-*.tmp", "*-journal", "*-wal")

# Work folder, photos, saved model → the arguments of the command line; None for a call in Python.
COMMANDS: dict[str, Callable[[Path, Path, Path], list[object]] | None] = {
    "embed": lambda work, images, model: ["embed", images, "--out", work / "x.npz"],
    "fit": lambda work, images, model: [
        "fit", images, "--out", work / "model", "--method", "cmm", "--set", "steps=400",
    ],
    "fit towers": lambda work, images, model: [
        "fit", images, "--out", work / "model", "--method", "coop", "--set", "epochs=5", "--checkpoint", work / "state",
    ],
    "compare": lambda work, images, model: [
        "compare", images, "--methods", "zero_shot,linear_probe,tip_adapter", "--shots", "1,2,4", "--no-ablations",
        "--jobs", "1", "--record", work / "runs.jsonl",
    ],
    "save": None,
    "page": lambda work, images, model: [
        "evaluate", model, images, "--include-fitted", "--page", work / "page.html", "--confusion", work / "c.svg",
    ],
}  # fmt: skip


class Bench:
    """The photos, two saved models, and how undisturbed commands end.

    Parameters
    ----------
    root : Path
        An empty folder for everything.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.photos = root, root / "photos"
        photos(self.photos, 60)
        self.models = [root / "models" / method / "model" for method in ("zero_shot", "linear_probe")]
        for folder in self.models:
            folder.parent.mkdir(parents=True)
            command = ["fit", self.photos, "--out", folder, "--method", folder.parent.name]
            assert self._ended(self._start(command, folder.parent)) == 0
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        self.events: dict[str, int] = {}

    def undisturbed(self, name: str) -> None:
        """Run a command to its end; keep its results, its duration, and how many operations on files it makes."""
        work, began = self._work(name, "undisturbed"), time.monotonic()
        assert self._ended(self._start(self._command(name, work), work)) == 0, self._notes(work, "output").read_text()
        self.seconds[name] = time.monotonic() - began
        self.events[name] = int(self._notes(work, "events").read_text())
        self.expected[name] = results(work)

    def round(self, name: str, number: int, dice: random.Random) -> Counter[str]:
        """Kill a command once or twice, run it to its end, and compare."""
        work, counts = self._work(name, str(number)), Counter(rounds=1)
        command = self._command(name, work)
        for _ in range(dice.choice((1, 1, 2))):
            on_clock = dice.random() < 0.5
            child = self._start(command, work, 0 if on_clock else dice.randint(1, self.events[name]))
            if on_clock:
                time.sleep(dice.uniform(0, self.seconds[name]))
                os.kill(child, signal.SIGKILL)
            counts["killed"] += self._ended(child) == -signal.SIGKILL
        if self._ended(self._start(command, work)) != 0:
            counts["failed"] += 1
            print(f"{name} {number}: {self._notes(work, 'output').read_text()[-2000:]}", flush=True)
            return counts
        left = [str(path) for path in (*orphans(work), *orphans(self._notes(work, "cache")), *orphans(self.photos))]
        counts["orphans"] += len(left)
        counts["different"] += results(work) != self.expected[name]
        if left or counts["different"]:
            print(f"{name} {number}: {'different results ' * counts['different']}{left}, see {work}", flush=True)
        else:
            shutil.rmtree(work)
            shutil.rmtree(self._notes(work, "cache"))
        return counts

    def _command(self, name: str, work: Path) -> list[object] | None:
        make = COMMANDS[name]
        return None if make is None else make(work, self.photos, self.models[1])

    def _work(self, name: str, number: str) -> Path:
        work = self.root / "work" / f"{name.replace(' ', '-')}-{number}"
        work.mkdir(parents=True)
        if name == "save":  # over another model
            shutil.copytree(self.models[0], work / "model")
        return work

    def _notes(self, work: Path, what: str) -> Path:
        """What belongs to a run but is not its result: its cache, its output, and its number of operations."""
        folder = self.root / "notes" / work.parent.name / work.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / what

    def _start(self, command: list[object] | None, work: Path, dies_at: int = 0) -> int:
        """The process that runs a command, and kills itself before an operation on files with this number."""
        places = {what: self._notes(work, what) for what in ("cache", "output", "events")}
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ["MODALIGN_CACHE"] = str(places["cache"])
            output = os.open(places["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            counter = _count_operations(dies_at)
            code = _call(command, work, self.models[1])
            count = counter[0]
            places["events"].write_text(str(count))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    @staticmethod
    def _ended(child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _count_operations(dies_at: int) -> list[int]:
    """A counter of operations on files from now on; the process dies before the one with the given number."""
    counter = [0]

    def see(event: str, arguments: tuple[object, ...]) -> None:
        if changes_files(event, arguments):
            counter[0] += 1
            if counter[0] == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    return counter


def _call(command: list[object] | None, work: Path, model: Path) -> int:
    import modalign as ma
    from modalign.cli import run

    if command is not None:
        return run([str(argument) for argument in command])
    ma.load(model).save(work / "model")
    return 0


def results(work: Path) -> dict[str, Any]:
    """What a command has written, by file; without timings, and without the state of a training that is over."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in work.rglob("*") if path.is_file() and path.parent.name != "state"):
        data = path.read_bytes()
        if path.suffix == ".json":
            content: Any = _timeless(json.loads(data))
        elif path.suffix == ".jsonl":
            content = [_timeless(run) for run in map(_parsed, data.splitlines()) if run is not None]
        elif path.suffix == ".html":
            content = re.sub(r"\d+(\.\d+)? s\b|seconds&quot;: [\d.]+", "", data.decode())
        else:
            content = data
        found[path.relative_to(work).as_posix()] = content
    return found


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # cut short by the kill; readers leave it out and say so
        return None


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry) for key, entry in value.items() if key not in _TIMINGS}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def orphans(folder: Path) -> list[Path]:
    """Temporary files, and weights or states that no card names."""
    found = [path for pattern in _TEMPORARY for path in folder.rglob(pattern)]
    for path in (*folder.rglob("weights-*"), *folder.rglob("state-*.safetensors")):
        cards = [card.read_text() for card in path.parent.glob("*.json")]
        found += [] if any(path.name in card for card in cards) else [path]
    return found


def prepare() -> None:
    """Import all that the commands need, so that a forked process has it."""
    import matplotlib.figure
    import torch

    import modalign as ma
    import modalign.evaluate.comparison.compare
    import modalign.model.adaptation
    import modalign.report.evaluation

    assert matplotlib.figure
    torch.set_num_threads(1)  # a child of a process with threads of OpenMP would wait for them for ever
    ma.load_encoder("tiny", cache=False).embed_texts([["a"]])


def main() -> None:
    """Print a row for each command; exit code 1 if anything failed, differed or was left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="For each command.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=COMMANDS, action="append")
    arguments = parser.parse_args()
    prepare()
    root = Path(tempfile.mkdtemp(prefix="modalign-kill-"))
    bench, total = Bench(root), Counter[str]()
    print(f"{'command':12}" + "".join(f"{column:>11}" for column in COLUMNS))
    for name in arguments.only or COMMANDS:
        bench.undisturbed(name)
        dice = random.Random(f"{arguments.seed} {name}")
        counts = sum((bench.round(name, number, dice) for number in range(arguments.rounds)), Counter())
        print(f"{name:12}" + "".join(f"{counts[column]:>11}" for column in COLUMNS), flush=True)
        total += counts
    bad = sum(total[column] for column in COLUMNS[2:])
    if not bad:
        shutil.rmtree(root)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
