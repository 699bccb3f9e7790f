"""Fitting and testing of methods on vectors and methods inside an encoder on the same task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Features, concatenate
from modalign.data.items import Items
from modalign.data.splits.protocols import relabel
from modalign.data.splits.split import EMPTY
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.benchmark.benchmark_set import BenchmarkSet
from modalign.evaluate.benchmark.benchmark_tasks import BenchmarkTask, TestPart
from modalign.evaluate.protocol import learns_from_unlabeled
from modalign.evaluate.tower_runs import nameless
from modalign.methods.contract.tower import TowerMethod
from modalign.methods.contract.transduction import kept_answers, vector_hashes
from modalign.methods.contract.vectors import VectorMethod

M = TypeVar("M", VectorMethod, TowerMethod[Any])


class TaskLearner(ABC, Generic[M]):
    """A method on a task. It gets no test labels and no file names, which often contain the class.

    Parameters
    ----------
    method : VectorMethod or TowerMethod
        Unfitted.
    task : BenchmarkTask
        Images for fitting and testing.
    """

    def __init__(self, method: M, task: BenchmarkTask) -> None:
        self.method: M = method
        self.task = task
        split = task.split
        self.pool = np.union1d(split.train, split.unlabeled)
        self.transductive = task.key.protocol == "transductive"
        self.n_train = self.n_unlabeled = self.n_validation = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Class text of the training classes."""
        return tuple(self.task.data.class_names[c] for c in self.task.classes)

    @abstractmethod
    def fit(self, checkpoint: Path | None = None) -> None:
        """Learn from the images of the task; a method inside an encoder keeps its state in ``checkpoint`` meanwhile."""

    @abstractmethod
    def answer(self, part: TestPart) -> np.ndarray:
        """(n,) for every tested image an index into the classes of the part; -1 where it cannot be decoded.

        Raises
        ------
        InputError
            The fitted method does not apply to these classes.
        """


class VectorLearner(TaskLearner[VectorMethod]):
    """A method on image vectors, and on those in the space of the class text where it takes both."""

    def __init__(self, method: VectorMethod, task: BenchmarkTask) -> None:
        super().__init__(method, task)
        encoder = task.data.encoder
        if isinstance(encoder, JoinedEncoder) and method.get_params(deep=False).get("spaces", ()) is None:
            method.set_params(spaces=list(encoder.widths))

    def fit(self, checkpoint: Path | None = None) -> None:
        data, method, split = self.task.data, self.method, self.task.split
        text, shots = data.text_of(self.task.classes), self.task.key.shots
        if text is None and not shots:
            advice = f"{argument('clip_encoder')} with a text tower, or {argument('encoder')} as a+b"
            if data.items is None:
                advice = f"{argument('encoder')}, which made the vectors, for the names of their classes"
            raise InputError(f"Without labels and without class text there is nothing to learn from; give {advice}.")
        labeled, blind = (split.train, EMPTY) if shots else (EMPTY, split.test if self.transductive else self.pool)
        if shots and learns_from_unlabeled(method):
            blind = split.unlabeled
        train = self._images(data, labeled)
        self.n_train = len(train)
        unlabeled = self._blind(data, blind, first=self.n_train)
        self.n_unlabeled = len(unlabeled)
        also: dict[str, Any] = {}
        mirrored = train.select(EMPTY)
        if (aligned := data.clip_vectors) is not None:
            of_text = [self._blind(data, labeled, aligned), self._blind(data, blind, aligned, self.n_train)]
            also["clip_features"] = concatenate(of_text)
        elif method.mirrors and data.mirrored is not None:
            mirrored = self._images(data, labeled, data.mirrored)
        if len(split.validation) and shots:
            also["validation"] = self._images(data, split.validation)
            self.n_validation = len(also["validation"])
        method.fit(concatenate([train, mirrored, unlabeled]), text=text, **also)

    def answer(self, part: TestPart) -> np.ndarray:
        images, present = self._blind(part.data, part.rows), part.data.places[part.rows] >= 0
        names = part.names
        place = {name: column for column, name in enumerate(self.names)}
        if all(name in place for name in names):
            every = self._scores(images)
            if every.shape[1] != len(self.names):
                raise InputError(
                    f"Expected a labeled image of every class where there is no class text, got images of "
                    f"{every.shape[1]} of {len(self.names)} classes."
                )
            scores = every[:, [place[name] for name in names]]
        else:
            scores = self._for_other_classes(part).scores(images)
        found = np.full(len(part.rows), UNLABELED, dtype=np.int64)
        found[present] = np.asarray(scores).argmax(axis=1)
        return found

    def _scores(self, images: Features) -> np.ndarray:
        """(n, C) scores; transductive ones for images that were fitted jointly."""
        scores = np.asarray(self.method.scores(images))
        kept = getattr(self.method, "fitted_answers_", None)
        if self.transductive and kept is not None and len(kept["vectors"]):
            known, answers = kept_answers(kept, "vectors", vector_hashes(images.vectors), scores.shape[1])
            scores[known] = answers
        return scores

    def _for_other_classes(self, part: TestPart) -> VectorMethod:
        text = part.data.text_of(part.classes)
        if text is None:
            raise InputError(f"Expected class text of the classes of '{part.data.name}', and there is none.")
        return self.method.for_classes(text)

    def _images(self, data: BenchmarkSet, rows: np.ndarray, of: Features | None = None, first: int = 0) -> Features:
        """Images with labels in the label space of the task, without names; undecodable images are left out.

        They are of ``data.vectors`` or of the same rows of other features, and are numbered from ``first``.
        """
        places = data.places[rows]
        labels = relabel(data.labels[rows], self.task.classes)[places >= 0]
        vectors = (data.vectors if of is None else of).select(places[places >= 0])
        return replace(
            vectors, labels=labels, ids=_numbers(first, len(labels)), class_names=self.names, quarantined=(), parts=()
        )

    def _blind(self, data: BenchmarkSet, rows: np.ndarray, of: Features | None = None, first: int = 0) -> Features:
        found = self._images(data, rows, of, first)
        return replace(found, labels=np.full(len(found), UNLABELED, dtype=np.int64))


class TowerLearner(TaskLearner[TowerMethod[Any]]):
    """A method inside an encoder, which gets pictures."""

    def fit(self, checkpoint: Path | None = None) -> None:
        task = self.task
        if task.key.shots:
            train = self._images(task.data, task.split.train)
            self.n_train = len(train)
        else:
            train = nameless(self._images(task.data, task.split.test if self.transductive else self.pool))
            self.n_unlabeled = len(train)
        text = self._required_text(task.data, task.classes)
        self.method.fit(train, text=text, encoder=task.data.clip, checkpoint=checkpoint)

    def answer(self, part: TestPart) -> np.ndarray:
        method = self.method
        if part.names != self.names:
            files = part.data.sentence_files
            own = {} if files is None or files.structures is None else {"structures": str(files.structures)}
            own = own if "structures" in method.get_params(deep=False) else {}
            method = method.for_classes(self._required_text(part.data, part.classes), part.data.clip, **own)
        images = nameless(part.data.named_items.select(part.rows))
        return method.score_images(images, part.data.clip).answers(images.ids)

    def _images(self, data: BenchmarkSet, rows: np.ndarray) -> Items:
        chosen = data.named_items.select(rows)
        return replace(chosen, labels=relabel(chosen, self.task.classes), class_names=self.names)

    def _required_text(self, data: BenchmarkSet, classes: np.ndarray) -> ClassText:
        text = data.text_of(classes)
        if text is None:
            raise InputError(f"{type(self.method).__name__} needs class text, and there is none.")
        return text


def task_learner(method: VectorMethod | TowerMethod[Any], task: BenchmarkTask) -> TaskLearner[Any]:
    """Return the learner for the method; one that takes images in one space gets that of the class text.

    Raises
    ------
    InputError
        A method inside an encoder is given vectors only.
    """
    if not method.takes_clip_features:
        task = task.text_alone
    if isinstance(method, VectorMethod):
        return VectorLearner(method, task)
    if task.data.items is None:
        raise InputError(f"{type(method).__name__} learns inside an encoder and needs images, these are vectors.")
    return TowerLearner(method, task)


def _numbers(first: int, n: int) -> tuple[str, ...]:
    return tuple(f"{i:06d}" for i in range(first, first + n))
