"""What a classifier answers: names and probabilities for images, and how well it does on labelled ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modalign.features import Quarantined

if TYPE_CHECKING:
    from modalign.evaluate.metrics import Accuracy, ClassAccuracy

NONE_OF_THESE = "none of these"


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes
    ----------
    id : the image.
    name : the most probable class, or "none of these" if the image was refused.
    probability : of the most probable class.
    top : up to five classes with their probabilities, most probable first.
    rejected : whether the image was refused.
    """

    id: str
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    rejected: bool = False


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """The answers for many images, in the order they were given.

    Attributes
    ----------
    ids : the n images.
    class_names : C names.
    probabilities : (n, C), rows sum to 1.
    quarantined : images that cannot be decoded, with reasons.
    rejected : (n,) which images show none of the classes; None if that was not asked.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    quarantined: tuple[Quarantined, ...] = ()
    rejected: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Prediction:  # type: ignore[override]
        row = self.probabilities[i]
        order = np.argsort(-row, kind="stable")[:5]
        top = tuple((self.class_names[k], float(row[k])) for k in order)
        rejected = self.rejected is not None and bool(self.rejected[i])
        return Prediction(self.ids[i], NONE_OF_THESE if rejected else top[0][0], top[0][1], top, rejected)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    @property
    def names(self) -> tuple[str, ...]:
        """The answer for every image: its most probable class, or "none of these"."""
        refused = np.zeros(len(self), dtype=bool) if self.rejected is None else self.rejected
        best = self.probabilities.argmax(axis=1)
        return tuple(NONE_OF_THESE if no else self.class_names[k] for k, no in zip(best, refused, strict=True))


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on labelled images that it was not fitted on."""

    accuracy: Accuracy
    per_class: tuple[ClassAccuracy, ...]
    confusion: np.ndarray  # (C, C) counts, rows = true class
    calibration_error: float
    ids: tuple[str, ...]  # the n images tested on
    labels: np.ndarray  # (n,)
    probabilities: np.ndarray  # (n, C)
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]  # ids of images that the model was fitted on
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...] = ()  # what a person should know about the images and about what was tested on
