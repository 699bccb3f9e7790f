"""Execution of the runs of a comparison, sequential or parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from modalign.core.errors import InputError
from modalign.core.features import ClassText
from modalign.core.renaming import present_names
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.split import Split
from modalign.evaluate.comparison.comparison_inputs import ComparisonInputs
from modalign.evaluate.comparison.findings import SEPARATOR, LeftOut
from modalign.evaluate.measuring import fingerprint_of, fingerprint_of_test
from modalign.evaluate.parallel_runs import run_in_parallel
from modalign.evaluate.protocol import run_once
from modalign.evaluate.runs import Run, Shots, append_run, read_runs, run_key
from modalign.evaluate.tower_runs import run_in_tower
from modalign.methods import is_known, method_class
from modalign.methods.contract.parameters import former_names
from modalign.methods.contract.sharing import SharedFits, sharing_fits
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.vectors import VectorMethod

if TYPE_CHECKING:
    from modalign.encoders.clip import ClipEncoder

RANDOM_TEXT = "random prototypes"
CELLS_A_JOB = 8  # number of cells below which a further process does not pay
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class GridCell:
    """A run to do: a method, or with ``ingredient`` the method without this component."""

    method: str
    shots: Shots
    seed: int
    ingredient: str = ""

    @property
    def name(self) -> str:
        """The name of the run."""
        return f"{self.method}{SEPARATOR}{self.ingredient}" if self.ingredient else self.method


class Draws:
    """Draws of images per number of labels and seed; each draw is computed once.

    Parameters
    ----------
    given : ComparisonInputs
        The images, and official lists to draw from if there are any.
    test : float
        Share of every class to test on otherwise.
    """

    def __init__(self, given: ComparisonInputs, test: float) -> None:
        self.given = given
        share = None if given.official else test
        names = given.features.class_names
        draw = partial(few_shot, given.features.labels, official=given.official, test=share, class_names=names)
        self.split = cache(lambda shots, seed: draw(shots, seed))


class ExperimentGrid:
    """Executes cells: returns the recorded run if there is one, else fits and tests."""

    def __init__(self, given: ComparisonInputs, settings: Settings, draws: Draws, record: str | Path | None) -> None:
        self.given, self.settings, self.draws, self.record = given, settings, draws, record
        self.done = {}
        if record is not None and Path(record).exists():
            self.done = {run.key: run for run in map(_under_present_names, read_runs(record))}
        self._draw: tuple[Shots, int] | None = None
        self._shared = SharedFits()
        self.text = cache(self._text)
        self.fingerprint = cache(self._fingerprint)

    def _text(self, seed: int | None) -> ClassText | None:
        """The class text, or random text in its place."""
        text = self.given.text
        return text if seed is None or text is None else random_text(text, seed)

    def run(self, cells: Sequence[GridCell]) -> list[Run | LeftOut]:
        """Return runs, or the reasons for missing ones. Equal fits to one draw of images are computed once."""
        found = []
        for cell in cells:
            if self._draw != (cell.shots, cell.seed):
                self._draw, self._shared = (cell.shots, cell.seed), SharedFits()
            with sharing_fits(self._shared):
                found.append(self._run(cell))
        return found

    def _run(self, cell: GridCell) -> Run | LeftOut:
        """Return one run; an error of a method does not end the comparison."""
        given, split = self.given, self.draws.split(cell.shots, cell.seed)
        switched = method_class(cell.method).ablations.get(cell.ingredient, {})
        method = build(cell.method, cell.seed, given, {**self.settings[cell.method], **switched})
        text_seed = cell.seed if cell.ingredient == RANDOM_TEXT else None
        prints, test = self.fingerprint(text_seed), fingerprint_of_test(split)
        key = run_key(cell.name, cell.shots, cell.seed, prints, test, split.description, method.get_params(deep=False))
        if key in self.done:
            return self.done[key]
        try:
            run = self._measured(cell, method, split, self.text(text_seed), prints)
        except (ValueError, RuntimeError, ArithmeticError) as error:  # a refusal of its own, or no solution
            return LeftOut(cell.name, cell.shots, " ".join(str(error).split()))
        if self.record is not None:
            append_run(self.record, run)
        return run

    def _measured(
        self, cell: GridCell, method: VectorMethod | TowerMethod, split: Split, text: ClassText | None, prints: str
    ) -> Run:
        given = self.given
        if isinstance(method, VectorMethod):
            return run_once(
                cell.name, method, given.features, text, split, cell.seed,
                shots=cell.shots, clip_features=given.clip_features, fingerprint=prints,
            )  # fmt: skip
        if text is None or given.items is None:
            raise InputError(f"{type(method).__name__} needs images and class text.")
        encoder = cast("ClipEncoder", given.encoder)  # each method raises for encoders that it does not support
        return run_in_tower(
            cell.name, method, given.items, text, encoder, split, cell.seed, shots=cell.shots, fingerprint=prints
        )

    def _fingerprint(self, text_seed: int | None) -> str:
        """Hash vectors, labels, text, CLIP features and the lists to draw from."""
        given = self.given
        prints = fingerprint_of(given.features, self.text(text_seed), given.clip_features)
        if given.official is None:
            return prints
        lists = (given.official.train, given.official.validation, given.official.unlabeled)
        drawn_from = b"|".join(np.ascontiguousarray(part).tobytes() for part in lists)
        return hashlib.sha256(prints.encode() + drawn_from).hexdigest()[:16]


def _under_present_names(run: Run) -> Run:
    """A run of a record with the parameters of its method by their present names."""
    method = run.method.partition(SEPARATOR)[0]
    if not is_known(method):
        return run
    return replace(run, parameters=present_names(run.parameters, former_names(method_class(method)), format_name=None))


def build(name: str, seed: int, given: ComparisonInputs, settings: Mapping[str, Any]) -> VectorMethod | TowerMethod:
    """Return an unfitted method with the seed and the logit scale of the encoder, unless they are set."""
    method = method_class(name)()
    known = {
        "random_state": seed,
        "logit_scale": given.logit_scale if given.text is not None else None,
        "spaces": list(given.spaces) or None,
    }
    known = {key: value for key, value in known.items() if value is not None and key in method.get_params()}
    return method.set_params(**{**known, **settings})


def random_text(text: ClassText, seed: int) -> ClassText:
    """Return random directions, one per class, in place of the text."""
    drawn = np.random.default_rng(seed).standard_normal((len(text), text.vectors.shape[-1])).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return ClassText(vectors, text.class_names, spec=text.spec)


def run_all(
    cells: Sequence[GridCell],
    given: ComparisonInputs,
    settings: Settings,
    test: float,
    record: str | Path | None,
    jobs: int,
) -> Iterator[tuple[int, Run | LeftOut]]:
    """Yield the numbers of the cells with their runs.

    The cells of one draw of images follow each other, so that their fits are shared. With ``jobs`` > 1, processes with
    one thread each compute one draw at a time on a copy of the data. They share the record and end when this process
    ends.
    """
    jobs = min(jobs, max(1, len(cells) // CELLS_A_JOB))
    draws = _draws(cells)
    if jobs == 1:
        pieces = [[number] for numbers in draws for number in numbers]
    else:
        pieces = sorted(draws, key=len, reverse=True)  # long cells first
    work = [[cells[number] for number in numbers] for numbers in pieces]
    found = run_in_parallel(_grid, (given, settings, test, record), work, jobs)
    for numbers, runs in zip(pieces, found, strict=True):
        yield from zip(numbers, runs, strict=True)


def _draws(cells: Sequence[GridCell]) -> list[list[int]]:
    """Return the numbers of the cells by draw; the automatic choice, which shares fits of the others, comes last."""
    draws: dict[tuple[Shots, int], list[int]] = {}
    for number, cell in enumerate(cells):
        draws.setdefault((cell.shots, cell.seed), []).append(number)
    return [sorted(numbers, key=lambda number: cells[number].method == "auto") for numbers in draws.values()]


def _grid(given: ComparisonInputs, settings: Settings, test: float, record: str | Path | None) -> ExperimentGrid:
    return ExperimentGrid(given, settings, Draws(given, test), record)
