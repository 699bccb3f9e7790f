"""Computation of predictions and vectors for the bytes of images."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modalign.core.errors import InputError, UndecodableError
from modalign.core.progress import progress
from modalign.data.items import load_items
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.model.classifier import Classifier
from modalign.model.multi_label import MultiLabelClassifier
from modalign.model.multi_label.multi_label_answers import MultiLabelPredictions
from modalign.model.predictions import Prediction, Predictions
from modalign.model.scoring import embed_images


@dataclass(frozen=True)
class ImageJob:
    """One image and the requested result.

    Attributes
    ----------
    image : bytes
        Bytes of an image file.
    task : {"predict", "embed"}
        Kind of the result.
    reject : float or None, default=None
        Share of known images that may be rejected, see :meth:`Classifier.predict <modalign.Classifier.predict>`.
    """

    image: bytes
    task: str = "predict"
    reject: float | None = None


@dataclass(frozen=True)
class Answer:
    """The answer for one image: a prediction with the probabilities of all classes, and the class names."""

    prediction: Prediction
    probabilities: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class SetAnswer:
    """The answer for one image that may show several classes.

    Attributes
    ----------
    shown : ndarray of shape (C,)
        1 where the probability reaches the threshold of the class.
    probabilities : ndarray of shape (C,)
        Probability that the image shows each class.
    """

    shown: np.ndarray
    probabilities: np.ndarray


Result = Answer | SetAnswer | np.ndarray
"""Result of a job: one class, a set of classes, or a vector."""


class Answerer:
    """Computes jobs, those of one kind together.

    Vectors of uploaded images are not cached.

    Parameters
    ----------
    classifier : Classifier or MultiLabelClassifier
        A single image gets the numbers of its ``predict`` bit for bit.
    """

    def __init__(self, classifier: Classifier | MultiLabelClassifier) -> None:
        self.classifier = replace(classifier, encoder=without_store(classifier.encoder))

    def __call__(self, jobs: Sequence[ImageJob]) -> list[Result | Exception]:
        """Return a result or an exception per job."""
        results: dict[int, Result | Exception] = {}
        kinds: dict[tuple[str, float | None], list[int]] = defaultdict(list)
        for i, job in enumerate(jobs):
            kinds[job.task, job.reject].append(i)
        with progress(False):
            for (task, reject), rows in kinds.items():
                images = [jobs[i].image for i in rows]
                found = self._embed(images) if task == "embed" else self._predict(images, reject)
                results.update(zip(rows, found, strict=True))
        return [results[i] for i in range(len(jobs))]

    def _predict(self, images: list[bytes], reject: float | None) -> Sequence[Answer | SetAnswer | Exception]:
        try:
            found = self._found(images, reject)
        except InputError as error:
            return _faults(images, error)
        answers: dict[str, Answer | SetAnswer] = {name: _answer(found, i) for i, name in enumerate(found.ids)}
        reasons = {entry.id: UndecodableError(entry.reason) for entry in found.quarantined}
        return [answers.get(name) or reasons[name] for name in map(str, range(len(images)))]

    def _found(self, images: list[bytes], reject: float | None) -> Predictions | MultiLabelPredictions:
        if isinstance(self.classifier, MultiLabelClassifier):
            return self.classifier.predict(images)
        return self.classifier.predict(images, reject=False if reject is None else reject)

    def _embed(self, images: list[bytes]) -> Sequence[np.ndarray | Exception]:
        try:
            found = embed_images(self.classifier.encoder, images)
        except InputError as error:
            return _faults(images, error)
        vectors: dict[str, Any] = dict(zip(found.ids, found.vectors, strict=True))
        reasons = {entry.id: UndecodableError(entry.reason) for entry in found.quarantined}
        return [vectors[name] if name in vectors else reasons[name] for name in map(str, range(len(images)))]


def without_store(encoder: Encoder | JoinedEncoder) -> Encoder | JoinedEncoder:
    """The same encoder, which keeps no vectors; shares the network."""
    if isinstance(encoder, JoinedEncoder):
        return JoinedEncoder([_storeless(part) for part in encoder.parts])
    return _storeless(encoder)


def _storeless(encoder: Encoder) -> Encoder:
    other = copy.copy(encoder)
    other.store = None
    return other


def _answer(found: Predictions | MultiLabelPredictions, i: int) -> Answer | SetAnswer:
    if isinstance(found, MultiLabelPredictions):
        return SetAnswer(found.answers[i], found.probabilities[i])
    return Answer(found[i], found.probabilities[i], found.class_names)


def _faults(images: list[bytes], error: InputError) -> list[Exception]:
    """Return the error of each image: the reason of the decoder, or else the common error."""
    items = load_items(images)
    faults: list[Exception] = []
    for i in range(len(items)):
        try:
            items.open(i)
            faults.append(error)
        except UndecodableError as reason:
            faults.append(reason)
    return faults
