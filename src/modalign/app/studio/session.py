"""A labeling session: images, labels, and fitted predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from modalign.app.studio.acquire import acquire, margins
from modalign.app.studio.background import Lane
from modalign.app.studio.curve import Curve, Refit
from modalign.app.studio.exam import EVERY, ExamResult, grade
from modalign.app.studio.gallery import Gallery
from modalign.app.studio.grading import confusion_cells, exam_entries
from modalign.app.studio.label_state import NONE
from modalign.app.studio.labeling import NO_CLASS, Labeling
from modalign.app.studio.refitting import Answers, blend_with_model, refit
from modalign.app.studio.vector_view import VectorView
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.encoders.base import Encoder

T = TypeVar("T")

REST, PAUSE = 0.1, 3.0  # seconds without a change before a refit, and before a thorough one


@dataclass(frozen=True)
class SessionSettings:
    """Settings of a session, which do not change.

    Attributes
    ----------
    title : str
        Name of the source, for the page.
    seed : int, default=0
        Random seed.
    templates : tuple of str or None, default=None
        Sentences with ``{}`` for the class name.
    thorough : bool, default=True
        Whether several methods are tried when there is time.
    notes : tuple of str, default=()
        Messages about the source.
    listed : tuple of int, default=()
        Rows to show first; see :func:`~modalign.app.studio.image_list.listed_images`.
    """

    title: str
    seed: int = 0
    templates: tuple[str, ...] | None = None
    thorough: bool = True
    notes: tuple[str, ...] = ()
    listed: tuple[int, ...] = ()


class Session(VectorView):
    """The state behind the page; every method may be called from any thread.

    Parameters
    ----------
    features : Features
        Vectors of all n images.
    labeling : Labeling
        Labels of the same images.
    gallery : Gallery
        Pictures of the same images.
    encoder : Encoder
        Encoder of the vectors, and of class names if it has a text tower.
    settings : SessionSettings
        Settings of the session.
    base : callable or None, default=None
        ``base(names)`` returns the (n, C) probabilities of a given model, for class names.

    Attributes
    ----------
    answers, first : Answers
        Current probabilities, and those before any label.
    predicted, top, margin : ndarray of shape (n,)
        The likeliest class number of every image, its probability, and the distance to the second.
    label_probability, held_out_class : ndarray of shape (n,)
        Probability of the label of an image, 1 for images without a class, and the likeliest class; held-out values if
        there are any.
    """

    def __init__(
        self,
        features: Features,
        labeling: Labeling,
        gallery: Gallery,
        encoder: Encoder,
        settings: SessionSettings,
        base: Callable[[tuple[str, ...]], np.ndarray] | None = None,
    ) -> None:
        super().__init__(features, labeling, encoder, settings.seed, settings.templates)
        self.gallery, self.settings, self.base = gallery, settings, base
        self.curve = Curve(labeling.log.folder)
        self.first = self._before_labels()
        self._take(self.first)
        self._learned = (0, False)  # stamp of the labels that the answers are of, and whether they are thorough
        self.fast, self.slow = Lane("refit", self._touch), Lane("background", self._touch)
        if labeling.taught.any():  # as it was left
            self.request_refit()

    def change(self, function: Callable[[Labeling], T]) -> T:
        """Change labels or classes by a function of the :class:`Labeling`, and refit soon."""
        with self.lock:
            before = self.labeling.stamp
            found = function(self.labeling)
            if self.labeling.stamp != before:
                self.version += 1
                self._follow_classes()
                self._judge_labels()
                self.request_refit()
            return found

    def request_refit(self) -> None:
        """Refit soon, and thoroughly after a pause."""
        self.fast.request("refit", self.refit_now, REST)
        if self.settings.thorough:
            self.slow.request("thorough refit", partial(self.refit_now, thorough=True), PAUSE)

    def refit_now(self, *, thorough: bool = False) -> Answers:
        """Fit to the current labels, and use the result unless one of newer labels, or a thorough one, is in use.

        A thorough result is used only if no label has changed meanwhile. Both lanes fit at the same time.
        """
        with self.lock:
            stamp, ids, names = self.labeling.stamp, self.labeling.class_ids, self._names()
            labels = self._taught_labels(ids)
        if self.first.class_ids != ids:
            self.first = self._before_labels()
        answers = (
            self._fit(labels, ids, self.class_text(names), thorough) if (labels != UNLABELED).any() else self.first
        )
        with self.lock:
            current = stamp == self.labeling.stamp or not thorough
            if ids == self.labeling.class_ids and current and (stamp, thorough) >= self._learned:
                self._learned = stamp, thorough
                self._take(answers)
                self._keep(answers)
        return answers

    def next_rows(self, by: str, count: int) -> list[int]:
        """Return the images to label next; every fifth requested label is one of the exam."""
        with self.lock:
            labeling, gone = self.labeling, list(self.gallery.missing)
            free = labeling.labels == UNLABELED
            free[gone] = False
            exam = labeling.exam_order[free[labeling.exam_order]].tolist()
            if by == "exam":
                return exam[:count]
            n_labeled = int((labeling.labels != UNLABELED).sum())
            drawn = acquire(
                by,
                count,
                candidates=np.flatnonzero(free & ~labeling.reserved),
                labeled=np.flatnonzero(labeling.taught),
                margin=self.margin,
                vectors=self.features.vectors,
                generator=np.random.default_rng([self.settings.seed, len(labeling.log.events)]),
            )
            queue, tests = iter(drawn.tolist()), iter(exam)
            turns = ((n_labeled + i) % EVERY == EVERY - 1 for i in range(count))
            found = [next(tests, None) if turn else next(queue, None) for turn in turns]
            return [row for row in found if row is not None]

    def exam(self) -> ExamResult:
        """Result of the current predictions on the exam; see :func:`~modalign.app.studio.exam.grade`."""
        with self.lock:
            truth, labeling = self.labeling.exam_truth(), self.labeling
            rows = [labeling.row_of(content) for content in truth]
            first = None
            if self.first.method and self.answers.n_labels and self.first.class_ids == self.answers.class_ids:
                first = np.array(self.first.class_ids)[self.first.probabilities[rows].argmax(axis=1)]
            true = np.array(list(truth.values()), dtype=np.int64)
            return grade(true, self.predicted[rows], first, labeling.exam_nones())

    def graded(self) -> dict[str, Any]:
        """Results on the exam of the present answers and of those of earlier refits."""
        truth, resolve = self.labeling.exam_truth(), self.labeling.state.resolve
        rows = [self.labeling.row_of(content) for content in truth]
        return {
            "multi_label": False,
            "exam": exam_entries(self.exam()),
            "curve": self.curve.points(truth, resolve),
            "recent": self.curve.recent(truth, resolve),
            "cells": confusion_cells(np.array(list(truth.values()), dtype=np.int64), self.predicted[rows]),
        }

    def predicted_set(self, row: int) -> list[int]:
        """The classes that an image is predicted to show, where it may show several."""
        return []

    def label_of(self, row: int) -> int | str | list[int] | None:
        """The label of an image, for a page."""
        label = int(self.labeling.labels[row])
        return None if label == UNLABELED else NONE if label == NO_CLASS else label

    def labeled_as(self, of: int | str) -> np.ndarray:
        """(n,) whether an image is labeled as a class, or as none of them."""
        return self.labeling.labels == (NO_CLASS if of == NONE else of)

    def predicted_as(self, number: int) -> np.ndarray:
        """(n,) whether an image is predicted as a class."""
        return self.predicted == number

    def map_labels(self) -> np.ndarray:
        """(n,) the class that a map shows an image as labeled with."""
        return self.labeling.labels

    def doubted(self) -> np.ndarray:
        """(n,) whether label and answer of an image differ, and the label is improbable."""
        labels = self.labeling.labels
        return (labels >= 0) & (self.label_probability < 0.5) & (self.held_out_class != labels)

    def close(self) -> None:
        """Stop the background work and release the folder."""
        self.fast.close()
        self.slow.close()
        self.labeling.log.close()

    def _names(self) -> tuple[str, ...]:
        return tuple(self.labeling.state.names.values())

    def _fit(self, labels: np.ndarray, ids: tuple[int, ...], text: ClassText | None, thorough: bool) -> Answers:
        """Answers that are fitted to what :meth:`_taught_labels` gives."""
        answers = refit(self.features, labels, ids, text, thorough=thorough)
        if self.base is None:
            return answers
        return blend_with_model(answers, self.first.probabilities, self.features, labels, text)

    def _taught_labels(self, ids: tuple[int, ...]) -> np.ndarray:
        """(n,) column of the class of every image that may be learned from, else −1."""
        columns = np.full(len(self.labeling), UNLABELED, dtype=np.int64)
        known = self.labeling.taught
        place = {number: k for k, number in enumerate(ids)}
        columns[known] = [place[number] for number in self.labeling.labels[known].tolist()]
        return columns

    def _before_labels(self) -> Answers:
        """Zero-shot answers, or those of the model that was given."""
        ids, names = self.labeling.class_ids, self._names()
        unlabeled = np.full(len(self.labeling), UNLABELED, dtype=np.int64)
        if self.base is not None:
            return Answers("the given model", ids, self.base(names), 0)
        return refit(self.features, unlabeled, ids, self.class_text(names))

    def _take(self, answers: Answers) -> None:
        """Show other answers."""
        self.answers = answers
        ids = np.array([*answers.class_ids, UNLABELED])
        best = answers.probabilities.argmax(axis=1)
        self.predicted = ids[best] if answers.method else np.full(len(best), UNLABELED)
        self.top = answers.probabilities[np.arange(len(best)), best]
        self.margin = margins(answers.probabilities)
        self._judge_labels()
        self.version += 1

    def _judge_labels(self) -> None:
        """Probability of each label, and the likeliest class, held out where possible."""
        answers, labels = self.answers, self.labeling.labels
        P = answers.probabilities
        if answers.held_out is not None:
            P = P.copy()
            P[answers.held_out[0]] = answers.held_out[1]
        place = {number: k for k, number in enumerate(answers.class_ids)}
        columns = np.array([place.get(number, 0) for number in labels.tolist()])
        self.label_probability = np.where(labels >= 0, P[np.arange(len(P)), columns], 1.0)
        ids = np.array([*answers.class_ids, UNLABELED])
        self.held_out_class = ids[P.argmax(axis=1)] if answers.method else np.full(len(P), UNLABELED)

    def _keep(self, answers: Answers) -> None:
        """Add the answers for the exam set to the learning curve."""
        if not answers.method:
            return
        exam, contents = self.labeling.exam_order.tolist(), self.labeling.contents
        found = {contents[row]: int(self.predicted[row]) for row in exam}
        self.curve.add(Refit(answers.n_labels, answers.method, answers.thorough, found))

    def _follow_classes(self) -> None:
        """Answers with columns of the present classes: merged ones are added up, and new ones get 0 until the refit."""
        ids, old = self.labeling.class_ids, self.answers
        if ids == old.class_ids:
            return
        place = {number: k for k, number in enumerate(ids)}
        P = np.zeros((len(self.labeling), len(ids)), dtype=np.float32)
        for k, number in enumerate(old.class_ids):
            present = self.labeling.state.resolve(number)
            if present in place:
                P[:, place[present]] += old.probabilities[:, k]
        self._take(replace(old, class_ids=ids, probabilities=P))
