"""Comparison of an exported graph with its classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import UNLABELED
from modalign.data.copies import content_hash
from modalign.model.scoring import score, softmax
from modalign.model.tested_items import labels_among

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.model.classifier import Classifier

TOLERANCE = 1e-4
"""The largest difference of a probability."""
_FIRST = (1, 4, 7)  # sizes of the first batches; the graph must take any
_BATCH = 32


@dataclass(frozen=True)
class Parity:
    """Agreement of the predictions of a graph with those of the classifier, on n images.

    Attributes
    ----------
    images : int
        n.
    max_difference : float
        Largest absolute difference of a probability.
    decisions : int
        Images whose most probable class differs.
    labeled : int
        Labeled images that the classifier was not fitted on or validated with.
    accuracy, accuracy_before : float or None
        Share of right answers on these, of the graph and of the classifier; None without such images.
    """

    images: int
    max_difference: float
    decisions: int
    labeled: int
    accuracy: float | None
    accuracy_before: float | None

    def require(self) -> None:
        """Raise unless no probability differs by more than :data:`TOLERANCE` and no decision at all."""
        if self.max_difference > TOLERANCE or self.decisions or not np.isfinite(self.max_difference):
            raise InputError(
                f"Expected the graph to answer as the classifier, got probabilities that differ by up to "
                f"{self.max_difference:.2g} and {self.decisions} other decisions on {self.images} images; nothing was "
                "exported."
            )


class Reference:
    """The answers of a classifier for some images, to compare graphs with.

    Parameters
    ----------
    classifier : Classifier
        The reference.
    items : Items
        The images.
    """

    def __init__(self, classifier: Classifier, items: Items) -> None:
        self.items = items
        scored = score(classifier.encoder, classifier.method, items)
        self.ids = scored.ids
        self.probabilities = softmax(scored.logits / classifier.temperature)
        self.labels = _held_out_labels(classifier, items, scored.ids)

    def agreement(self, found: np.ndarray) -> Parity:
        """Compare other probabilities (n, C) with the reference."""
        best, before = found.argmax(axis=1), self.probabilities.argmax(axis=1)
        known = self.labels != UNLABELED
        accuracies: list[float | None] = [None, None]
        if known.any():
            accuracies = [float((answers == self.labels)[known].mean()) for answers in (best, before)]
        difference = float(np.abs(found - self.probabilities).max())
        return Parity(len(found), difference, int((best != before).sum()), int(known.sum()), *accuracies)

    def of_graph(self, file: Path, prepare: Callable[[int], dict[str, np.ndarray]]) -> Parity:
        """Compare the graph in ``file`` with the reference; ``prepare`` returns the inputs of the i-th image."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        batches = _batches(len(self.items), prepare)
        found = [session.run(["probabilities"], batch)[0] for batch in batches]
        return self.agreement(np.concatenate(found).astype(np.float64))


def _batches(count: int, prepare: Callable[[int], dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of the images that can be decoded, in batches of different sizes."""
    sizes = chain(_FIRST, repeat(_BATCH))
    rows: list[dict[str, np.ndarray]] = []
    size = next(sizes)
    for i in range(count):
        try:
            rows.append(prepare(i))
        except UndecodableError:  # the classifier left it out too
            continue
        if len(rows) == size:
            yield _stacked(rows)
            rows, size = [], next(sizes)
    if rows:
        yield _stacked(rows)


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _held_out_labels(classifier: Classifier, items: Items, ids: tuple[str, ...]) -> np.ndarray:
    """(n,) labels in the numbering of the classifier, -1 where there is none or the image served to fit it."""
    try:
        labels = labels_among(classifier.class_names, items)
    except InputError:  # photos of other classes can be compared all the same
        return np.full(len(ids), UNLABELED)
    place = {name: i for i, name in enumerate(items.ids)}
    rows = [place[name] for name in ids]
    fitted = np.array([content_hash(items, i) in classifier.fitted_on for i in rows], dtype=bool)
    return np.where(fitted, UNLABELED, labels[rows])
