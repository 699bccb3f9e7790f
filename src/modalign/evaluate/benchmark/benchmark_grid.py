"""Execution of a cell of the grid: runs from the record, else one fit that is tested on every part."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import options_of_method
from modalign.data.splits.protocols import relabel
from modalign.data.splits.split import PARTS
from modalign.data.text.sentence_files import SentenceFiles
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark_learners import TaskLearner, task_learner
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun, append_benchmark_run, read_benchmark_runs
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import BenchmarkTask, TaskKey, TestPart, draw_task
from modalign.evaluate.comparison.findings import LeftOut
from modalign.evaluate.measuring import fingerprint_of, fingerprint_of_test, measured
from modalign.evaluate.runs import run_key
from modalign.evaluate.sealed import SealedLabels
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod


@dataclass(frozen=True)
class BenchmarkPlan:
    """Settings of a benchmark, passed to every process.

    Attributes
    ----------
    source : str
        Path of the data.
    datasets : tuple of str
        Names; protocols with one source data set train on the first.
    encoder, clip_encoder : str, optional
        Name or folder; None for vectors, whose class names are embedded by the encoder that made them. And the encoder
        of the class text where that of the images has none.
    device : str
        Device of the encoder.
    templates : tuple of str, optional
        Prompt templates in place of the published ones.
    descriptions : str, optional
        Sentences of a language model: a file, or a folder with one per data set.
    settings : str
        ``"default"`` or ``"paper"``.
    hyperparameters : mapping
        Method → name → value, which override the settings.
    record : str, optional
        Results file.
    """

    source: str
    datasets: tuple[str, ...]
    encoder: str | None = None
    clip_encoder: str | None = None
    device: str = "auto"
    templates: tuple[str, ...] | None = None
    descriptions: str | None = None
    settings: str = "default"
    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    record: str | None = None

    def open(self) -> BenchmarkSource:
        """The data sets, with the encoder loaded."""
        encoder = None if self.encoder is None else load_encoder(self.encoder, device=self.device)
        return BenchmarkSource(
            self.source, self.datasets or None, encoder, self.templates, self.device, self.descriptions,
            None if self.clip_encoder is None else load_encoder(self.clip_encoder, device=self.device),
        )  # fmt: skip


@dataclass(frozen=True)
class BenchmarkCell:
    """A method on a task."""

    method: str
    task: TaskKey


class BenchmarkGrid:
    """Makes the runs of cells.

    Parameters
    ----------
    plan : BenchmarkPlan
        Data and settings.
    source : BenchmarkSource, optional
        The opened data. Default: opened from the plan.
    """

    def __init__(self, plan: BenchmarkPlan, source: BenchmarkSource | None = None) -> None:
        self.plan, self.source = plan, plan.open() if source is None else source
        self._prints: dict[tuple[str, bool], str] = {}

    @cached_property
    def done(self) -> dict[tuple[object, ...], BenchmarkRun]:
        """The runs of the record by key."""
        if self.plan.record is None or not Path(self.plan.record).exists():
            return {}
        return {run.key: run for run in read_benchmark_runs(self.plan.record)}

    def run(self, cell: BenchmarkCell) -> list[BenchmarkRun | LeftOut]:
        """Return a run for each part of the task, or the reason for none. A failing method does not end the grid."""
        with options_of_method(cell.method):
            return self._run(cell)

    def _run(self, cell: BenchmarkCell) -> list[BenchmarkRun | LeftOut]:
        try:
            task = draw_task(cell.task, self.source)
            learner = task_learner(self._method(cell, task.data.sentence_files), task)
            task = learner.task
        except ValueError as error:
            return [self._left_out(cell, error)]
        known = [self._known(cell, learner, part) for part in task.parts]
        found: list[BenchmarkRun | LeftOut] = [run for run in known if run is not None]
        if len(found) == len(known):
            return found
        return self._made(cell, learner, task)

    def _method(self, cell: BenchmarkCell, files: SentenceFiles | None = None) -> Any:
        """Unfitted, with the seed, the structures of the classes and the settings."""
        method = method_class(cell.method)()
        values: dict[str, Any] = {"random_state": cell.task.seed}
        if files is not None and files.structures is not None:
            values["structures"] = str(files.structures)
        if self.plan.settings == "paper":
            from modalign.evaluate.publications.paper_settings import paper_settings

            shots = cell.task.shots if isinstance(cell.task.shots, int) else None
            values |= paper_settings(
                cell.method, cell.task.dataset, protocol=cell.task.protocol, shots=shots
            ).parameters
        values |= self.plan.hyperparameters.get(cell.method, {})
        known = method.get_params(deep=False)
        return method.set_params(**{name: value for name, value in values.items() if name in known})

    def _made(
        self, cell: BenchmarkCell, learner: TaskLearner[Any], task: BenchmarkTask
    ) -> list[BenchmarkRun | LeftOut]:
        found: list[BenchmarkRun | LeftOut] = []
        fitted = False
        seconds = 0.0
        checkpoint = self._checkpoint(cell, learner, task)

        def learn() -> None:
            nonlocal fitted, seconds
            started = time.process_time()
            learner.fit(checkpoint)
            fitted, seconds = True, time.process_time() - started

        for part in task.parts:
            try:
                run = measured(
                    cell.method,
                    learner.method,
                    (lambda: None) if fitted else learn,
                    lambda part=part: learner.answer(part),  # type: ignore[misc]  # mypy infers no lambda with a default
                    replace(task.split, test=part.rows),
                    SealedLabels(relabel(part.data.labels[part.rows], part.classes)),
                    seed=cell.task.seed,
                    shots=cell.task.shots,
                    n_train=0,  # not known before the fit
                    n_validation=0,
                    protocol=task.split.description,
                    features=self._print(task, part),
                )
            except (ValueError, RuntimeError, ArithmeticError) as error:  # a refusal of its own, or no solution
                found.append(self._left_out(cell, error, part.name))
                if not fitted:
                    return found
                continue
            first = next((one for one in found if isinstance(one, BenchmarkRun)), None)
            run = replace(
                run,
                n_train=learner.n_train,
                n_validation=learner.n_validation,
                n_unlabeled=learner.n_unlabeled,
                fit_seconds=first.run.fit_seconds if first else run.fit_seconds,
            )
            made = self._described(cell, learner, part, round(seconds, 4), run)
            if self.plan.record is not None and made.key not in self.done:
                append_benchmark_run(self.plan.record, made)
            found.append(made)
        if checkpoint is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)
            with suppress(OSError):  # others are at work
                checkpoint.parent.rmdir()
        return found

    def _checkpoint(self, cell: BenchmarkCell, learner: TaskLearner[Any], task: BenchmarkTask) -> Path | None:
        """Folder beside the record in which a training inside an encoder keeps its state until its run is recorded."""
        if self.plan.record is None or isinstance(learner.method, VectorMethod):
            return None
        card = (cell, self._print(task, task.parts[0]), sorted(learner.method.get_params(deep=False).items()))
        name = hashlib.sha256(repr(card).encode()).hexdigest()[:16]
        return Path(f"{self.plan.record}.states") / name

    def _described(
        self, cell: BenchmarkCell, learner: TaskLearner[Any], part: TestPart, seconds: float, run: Any
    ) -> BenchmarkRun:
        return BenchmarkRun(
            protocol=cell.task.protocol,
            dataset=cell.task.dataset,
            part=part.name,
            encoder=part.data.encoder_name,
            settings=self.plan.settings,
            imbalance=cell.task.imbalance,
            per_class=cell.task.per_class,
            transductive=learner.transductive,
            cpu_seconds=seconds,
            run=run,
            sentences=part.data.sentences_from,
            clip_encoder="" if part.data.clip_encoder is None else part.data.clip_encoder.name,
            templates=self.plan.templates or (),
        )

    def _known(self, cell: BenchmarkCell, learner: TaskLearner[Any], part: TestPart) -> BenchmarkRun | None:
        """Return the recorded run with the key of this one, if any."""
        if not self.done:
            return None
        task, key = learner.task, cell.task
        test = fingerprint_of_test(replace(task.split, test=part.rows))
        run = run_key(
            cell.method, key.shots, key.seed, self._print(task, part), test, task.split.description,
            learner.method.get_params(deep=False),
        )  # fmt: skip
        wanted = (key.protocol, key.dataset, part.name, self.plan.settings, key.imbalance, key.per_class, *run)
        return self.done.get(wanted)

    def _print(self, task: BenchmarkTask, part: TestPart) -> str:
        """Return 16 hexadecimal digits over the inputs of a run: data, encoder, text and drawn images."""
        digest = hashlib.sha256((self._of_set(task.data) + self._of_set(part.data)).encode())
        rows: Sequence[np.ndarray] = [getattr(task.split, name) for name in PARTS if name != "test"]
        for index in (*rows, task.classes, part.classes):
            digest.update(b"|" + np.ascontiguousarray(index, dtype=np.int64).tobytes())
        return digest.hexdigest()[:16]

    def _of_set(self, data: BenchmarkSet) -> str:
        """Hash a data set: its vectors, or without them the names of its images; its labels and its text."""
        key = data.name, data is data.text_alone
        if key not in self._prints:
            if data.given is not None:
                self._prints[key] = fingerprint_of(data.given, data.class_text, data.given_clip)
            else:
                assert data.items is not None
                assert data.encoder is not None
                inputs = (data.encoder.spec.fingerprint, data.items.ids, data.labels.tolist(), data.class_names)
                text: tuple[Any, ...] = () if data.class_text is None else data.class_text.sentences
                if data.clip_encoder is not None:
                    text = (*text, data.clip_encoder.spec.fingerprint)
                self._prints[key] = hashlib.sha256(repr((inputs, text)).encode()).hexdigest()[:16]
        return self._prints[key]

    def _left_out(self, cell: BenchmarkCell, error: Exception, part: str = "") -> LeftOut:
        place = f" on {part}" if part not in ("", "test") else ""
        own = f"{method_class(cell.method).__name__} "  # of equal reasons, that of all methods is one
        reason = " ".join(str(error).split())
        reason = f"it {reason.removeprefix(own)}" if reason.startswith(own) else reason
        return LeftOut(f"{cell.method} ({cell.task.dataset}{place})", cell.task.shots, reason)
