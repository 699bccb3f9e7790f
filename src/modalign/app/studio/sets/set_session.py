"""A labeling session of images that may show several classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from modalign.app.studio.exam import LEAST_SHOWN
from modalign.app.studio.gallery import Gallery
from modalign.app.studio.label_state import NONE
from modalign.app.studio.labeling import NO_CLASS
from modalign.app.studio.refitting import Answers
from modalign.app.studio.session import Session, SessionSettings
from modalign.app.studio.sets.set_curve import SetCurve, SetRefit
from modalign.app.studio.sets.set_labeling import SetLabeling
from modalign.app.studio.sets.set_refitting import SetAnswers, blend_sets, refit_sets
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.core.label_matrix import PRESENT, UNKNOWN
from modalign.encoders.base import Encoder
from modalign.evaluate.multi_label_metrics import MultiLabelScores, multi_label_scores


class SetSession(Session):
    """A :class:`Session` whose labels and answers are sets.

    ``margin`` is the distance of the probability that is nearest to the threshold of its class,
    and ``label_probability`` the lowest probability that the label is right about a class. ``given`` returns the
    answers of a model that was there before the labels, for class numbers and their names.
    """

    labeling: SetLabeling
    answers: SetAnswers
    first: SetAnswers

    def __init__(
        self,
        features: Features,
        labeling: SetLabeling,
        gallery: Gallery,
        encoder: Encoder,
        settings: SessionSettings,
        given: Callable[[tuple[int, ...], tuple[str, ...]], SetAnswers] | None = None,
    ) -> None:
        self.given = given
        self.set_curve = SetCurve(labeling.log.folder)
        self._graded: tuple[tuple[int, SetAnswers], dict[str, Any]] | None = None
        super().__init__(features, labeling, gallery, encoder, settings)

    def graded(self) -> dict[str, Any]:
        """Average precision and F1 on the exam, with intervals; computed once for each state of labels and answers."""
        key = self.labeling.stamp, self.answers
        if self._graded is None or self._graded[0][0] != key[0] or self._graded[0][1] is not key[1]:
            self._graded = key, self._grade()
        return self._graded[1]

    def exam_scores(self, answers: SetAnswers | None = None) -> MultiLabelScores | None:
        """Measures of answers on the exam; None below the number of labels from which they are shown."""
        answers = answers or self.answers
        rows, matrix = self._exam_labels(answers.class_ids)
        if len(rows) < LEAST_SHOWN or not (matrix == PRESENT).any():
            return None
        names = tuple(map(str, answers.class_ids))
        return multi_label_scores(matrix, answers.probabilities[rows], answers.thresholds, class_names=names)

    def label_of(self, row: int) -> list[int] | None:
        """The set of an image as labeled."""
        found = self.labeling.set_of(row)
        return None if found is None else list(found)

    def labeled_as(self, of: int | str) -> np.ndarray:
        """(n,) whether an image is labeled as showing a class, or as showing none."""
        ids = self.labeling.class_ids
        matrix = self.labeling.matrix(ids)
        if of == NONE:
            return (self.labeling.labels != UNLABELED) & ~(matrix == PRESENT).any(axis=1)
        return (matrix == PRESENT)[:, ids.index(of)] if of in ids else np.zeros(len(matrix), dtype=bool)

    def predicted_as(self, number: int) -> np.ndarray:
        """(n,) whether an image is predicted to show a class."""
        ids = self.answers.class_ids
        return self.answers.shown[:, ids.index(number)] if number in ids else np.zeros(len(self.labeling), dtype=bool)

    def predicted_set(self, row: int) -> list[int]:
        """The classes that an image is predicted to show."""
        return [number for number, shown in zip(self.answers.class_ids, self.answers.shown[row], strict=True) if shown]

    def map_labels(self) -> np.ndarray:
        """(n,) the first class of each set."""
        found = np.full(len(self.labeling), UNLABELED)
        for row in np.flatnonzero(self.labeling.labels != UNLABELED).tolist():
            found[row] = next(iter(self.labeling.set_of(row) or ()), NO_CLASS)
        return found

    def doubted(self) -> np.ndarray:
        """(n,) whether label and answer of an image differ, and a part of the label is improbable."""
        matrix = self.labeling.matrix(self.answers.class_ids)
        differs = ((matrix == PRESENT) != self.answers.shown).any(axis=1)
        return (self.labeling.labels != UNLABELED) & differs & (self.label_probability < 0.5)

    def _grade(self) -> dict[str, Any]:
        ids = self.labeling.class_ids
        rows, matrix = self._exam_labels(ids)
        scores = self.exam_scores()
        before = self.exam_scores(self.first) if self.first.method and self.answers.n_labels else None
        truth = {self.labeling.contents[row]: self.labeling.set_of(row) or () for row in rows}
        per_class = [] if scores is None else scores.per_class
        return {
            "multi_label": True,
            "exam": {
                "answered": len(rows),
                "none": int((matrix != PRESENT).all(axis=1).sum()),
                "accuracy": None,
                "gain": None,
                "sets": None if scores is None else _entries(scores),
                "before": None if before is None else _entries(before),
                "classes": [
                    {
                        "id": int(row.name),
                        "n": row.positives,
                        "ap": row.average_precision and vars(row.average_precision),
                        "f1": row.f1 and vars(row.f1),
                    }
                    for row in per_class
                ],
            },
            "curve": self.set_curve.set_points(truth, self.labeling.state.resolve),
            "recent": None,
            "cells": [],
        }

    def _exam_labels(self, ids: tuple[int, ...]) -> tuple[list[int], np.ndarray]:
        """One row for each labeled image of the exam, and its labels."""
        rows = [r for r in np.flatnonzero(self.labeling.examined).tolist()
                if self.labeling.row_of(self.labeling.contents[r]) == r]  # fmt: skip
        return rows, self.labeling.matrix(ids)[rows]

    def _fit(self, labels: np.ndarray, ids: tuple[int, ...], text: ClassText | None, thorough: bool) -> Answers:
        answers = refit_sets(self.features, labels, ids, text, thorough=thorough)
        return answers if self.given is None else blend_sets(answers, self.first, labels)

    def _taught_labels(self, ids: tuple[int, ...]) -> np.ndarray:
        matrix = self.labeling.matrix(ids)
        matrix[~self.labeling.taught] = UNKNOWN
        return matrix

    def _before_labels(self) -> SetAnswers:
        ids = self.labeling.class_ids
        if self.given is not None:
            return self.given(ids, self._names())
        nothing = np.full((len(self.labeling), len(ids)), UNKNOWN, dtype=np.int8)
        return refit_sets(self.features, nothing, ids, self.class_text(self._names()))

    def _take(self, answers: Answers) -> None:
        assert isinstance(answers, SetAnswers)
        super()._take(answers)
        distance = np.abs(answers.probabilities - answers.thresholds)
        self.margin = distance.min(axis=1) if answers.method else np.zeros(len(distance))

    def _judge_labels(self) -> None:
        P, matrix = self.answers.probabilities, self.labeling.matrix(self.answers.class_ids)
        stated = np.where(matrix == PRESENT, P, np.where(matrix == UNKNOWN, 1.0, 1 - P))
        self.label_probability = stated.min(axis=1, initial=1.0)
        self.held_out_class = self.predicted

    def _follow_classes(self) -> None:
        """Answers with columns of the present classes: merged ones have the larger probability, and new ones 0."""
        ids, old = self.labeling.class_ids, self.answers
        if ids == old.class_ids:
            return
        place = {number: k for k, number in enumerate(ids)}
        P, thresholds = np.zeros((len(self.labeling), len(ids)), dtype=np.float32), np.full(len(ids), 0.5)
        for k, number in enumerate(old.class_ids):
            present = place.get(self.labeling.state.resolve(number))
            if present is not None:
                P[:, present] = np.maximum(P[:, present], old.probabilities[:, k])
                thresholds[present] = old.thresholds[k]
        self._take(replace(old, class_ids=ids, probabilities=P, thresholds=thresholds))

    def _keep(self, answers: Answers) -> None:
        if not answers.method:
            return
        exam, contents = self.labeling.exam_order.tolist(), self.labeling.contents
        found = {contents[row]: tuple(self.predicted_set(row)) for row in exam}
        self.set_curve.add_sets(SetRefit(answers.n_labels, answers.method, answers.thorough, found))


def _entries(scores: MultiLabelScores) -> dict[str, Any]:
    return {"n": scores.n, "map": vars(scores.mean_average_precision), "f1": vars(scores.micro_f1),
            "exact": scores.exact and vars(scores.exact)}  # fmt: skip
