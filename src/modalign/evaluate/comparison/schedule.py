"""The runs of a comparison: which images each is given, and how it is made, one after another or side by side."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from modalign.core.errors import ModalignError, argument, current_options, options
from modalign.core.features import ClassText
from modalign.data.splits.drawing import few_shot
from modalign.evaluate.comparison.findings import SEPARATOR, LeftOut
from modalign.evaluate.comparison.given import Given
from modalign.evaluate.measuring import fingerprint_of, fingerprint_of_test
from modalign.evaluate.protocol import run_once
from modalign.evaluate.runs import Run, Shots, append_run, read_runs, run_key
from modalign.methods import OTHER_METHODS, method_class
from modalign.methods.contract.vectors import VectorMethod

RANDOM_TEXT = "random prototypes"
CELLS_A_JOB = 8  # a process more than this needs is not worth its start
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class GridCell:
    """One run to make: a method, or with ``ingredient`` a method without it."""

    method: str
    shots: Shots
    seed: int
    ingredient: str = ""

    @property
    def name(self) -> str:
        """The name of the run."""
        return f"{self.method}{SEPARATOR}{self.ingredient}" if self.ingredient else self.method


class Draws:
    """Which images are drawn at a number of labels and a seed; each draw is made once.

    Parameters
    ----------
    given : the images, and official lists to draw from if there are any.
    test : share of every class to test on otherwise.
    """

    def __init__(self, given: Given, test: float) -> None:
        self.given = given
        share = None if given.official else test
        draw = partial(few_shot, given.features.labels, official=given.official, test=share)
        self.split = cache(lambda shots, seed: draw(shots, seed))


class ExperimentGrid:
    """How a cell becomes a run: from the record if it is there, else by fitting and testing."""

    def __init__(self, given: Given, settings: Settings, draws: Draws, record: str | Path | None) -> None:
        self.given, self.settings, self.draws, self.record = given, settings, draws, record
        self.done = {}
        if record is not None and Path(record).exists():
            self.done = {run.key: run for run in read_runs(record)}
        self.text = cache(self._text)
        self.fingerprint = cache(self._fingerprint)

    def _text(self, seed: int | None) -> ClassText | None:
        """The class text, or random text in its place."""
        text = self.given.text
        return text if seed is None or text is None else random_text(text, seed)

    def run(self, cell: GridCell) -> Run | LeftOut:
        """The run, or why there is none; a method that refuses its data does not end the comparison."""
        given, split = self.given, self.draws.split(cell.shots, cell.seed)
        switched = method_class(cell.method).ablations.get(cell.ingredient, {})
        method = build(cell.method, cell.seed, given, {**self.settings[cell.method], **switched})
        text_seed = cell.seed if cell.ingredient == RANDOM_TEXT else None
        prints, test = self.fingerprint(text_seed), fingerprint_of_test(split)
        key = run_key(cell.name, cell.shots, cell.seed, prints, test, split.description, method.get_params(deep=False))
        if key in self.done:
            return self.done[key]
        try:
            run = run_once(
                cell.name, method, given.features, self.text(text_seed), split, cell.seed,
                shots=cell.shots, anchor=given.anchor, fingerprint=prints,
            )  # fmt: skip
        except (ValueError, RuntimeError, ArithmeticError) as error:  # a refusal of its own, or no solution
            return LeftOut(cell.name, cell.shots, " ".join(str(error).split()))
        if self.record is not None:
            append_run(self.record, run)
        return run

    def _fingerprint(self, text_seed: int | None) -> str:
        """Of vectors, labels, text, anchor, and of the lists to draw from."""
        given = self.given
        prints = fingerprint_of(given.features, self.text(text_seed), given.anchor)
        if given.official is None:
            return prints
        lists = (given.official.train, given.official.validation, given.official.unlabelled)
        drawn_from = b"|".join(np.ascontiguousarray(part).tobytes() for part in lists)
        return hashlib.sha256(prints.encode() + drawn_from).hexdigest()[:16]


def build(name: str, seed: int, given: Given, settings: Mapping[str, Any]) -> VectorMethod:
    """An unfitted method that knows the seed and the encoder's temperature, unless told otherwise."""
    method = method_class(name)()
    known = {
        "random_state": seed,
        "logit_scale": given.logit_scale if given.text is not None else None,
        "spaces": list(given.spaces) or None,
    }
    known = {key: value for key, value in known.items() if value is not None and key in method.get_params()}
    return method.set_params(**{**known, **settings})


def random_text(text: ClassText, seed: int) -> ClassText:
    """Directions that say nothing, one a class, in place of the text."""
    drawn = np.random.default_rng(seed).standard_normal((len(text), text.vectors.shape[-1])).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return ClassText(vectors, text.class_names, spec=text.spec)


def run_all(
    cells: Sequence[GridCell], given: Given, settings: Settings, test: float, record: str | Path | None, jobs: int
) -> Iterator[Run | LeftOut]:
    """What :meth:`ExperimentGrid.run` says to each cell, in their order.

    With ``jobs`` > 1 processes work side by side, each on one thread and with a copy of the data; they share the
    record, and end when this process does, however that ends.
    """
    jobs = min(jobs, max(1, len(cells) // CELLS_A_JOB))
    registered = OTHER_METHODS.registered
    if jobs == 1 or not all(map(_importable, registered.values())):
        yield from map(ExperimentGrid(given, settings, Draws(given, test), record).run, cells)
        return
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(given, settings, test, record, current_options(), registered),
    )
    try:
        with _without_main():
            found = pool.map(_run, cells)  # starts the processes
        yield from found
    except KeyboardInterrupt:  # nobody waits for runs that may take minutes; the finished ones are in the record
        for worker in list(pool._processes.values()):
            worker.terminate()
        raise
    except BrokenProcessPool:
        raise ModalignError(
            "A process of the comparison was ended from outside, often for want of memory; compare with fewer at a "
            f"time ({argument('jobs', '1')}). With {argument('record')} the finished runs are kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _importable(cls: type) -> bool:
    """Whether another process, which does not run the caller's script, can have the class."""
    return cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__


@contextmanager
def _without_main() -> Iterator[None]:
    """Let new processes not run the caller's script again: it need not guard itself with ``__name__``.

    The processes use nothing of it. A script without the guard would start a comparison in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_own: list[tuple[ExperimentGrid, Mapping[str, str] | None]] = []  # of a process that works for another


def _start(
    given: Given,
    settings: Settings,
    test: float,
    record: str | Path | None,
    names: Mapping[str, str] | None,
    registered: Mapping[str, type],
) -> None:
    def end_together() -> None:
        parent_process().join()  # type: ignore[union-attr]  # runs in a child alone
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    threading.Thread(target=end_together, daemon=True).start()
    torch.set_num_threads(1)
    OTHER_METHODS.registered.update(registered)
    _own.append((ExperimentGrid(given, settings, Draws(given, test), record), names))


def _run(cell: GridCell) -> Run | LeftOut:
    plan, names = _own[0]
    with options(names):
        return plan.run(cell)
