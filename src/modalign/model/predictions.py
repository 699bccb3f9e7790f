"""Predictions and evaluation results of a classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.display import SHOWN, html_table, shorten_repr, text_table
from modalign.core.errors import InputError, argument, require_choice
from modalign.core.features import Quarantined
from modalign.data.names import natural_key
from modalign.evaluate.metrics import chance_level, percent
from modalign.model import exports

if TYPE_CHECKING:
    import pandas

    from modalign.evaluate.metrics import Accuracy, ClassAccuracy

NONE_OF_THESE = "none of these"
ORDERS = ("given", "uncertain", "certain", "name")


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes
    ----------
    id, name : str
        The image, and its most probable class, or "none of these" if it was rejected.
    probability : float
        Probability of the most probable class.
    top : tuple of tuple of (str, float)
        Up to five classes with their probabilities, most probable first.
    rejected, transductive : bool, default=False
        Whether the image was rejected; whether the answer was computed in fitting, together with the other images.
    """

    id: str
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    rejected: bool = False
    transductive: bool = False

    def __repr__(self) -> str:
        closest = ", ".join(f"{shorten_repr(name)} {value:.3f}" for name, value in self.top[:3])
        return f"Prediction({shorten_repr(self.id)}: {f'{NONE_OF_THESE}, closest ' if self.rejected else ''}{closest})"

    def _repr_html_(self) -> str:
        rows = [[name, f"{100 * value:.1f} %"] for name, value in self.top]
        return html_table(f"{self.id}: {self.name}", ["class", "probability"], rows)


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """Predictions for many images.

    Attributes
    ----------
    ids, class_names : tuple of str
        The n images (see :attr:`Items.ids <modalign.Items>`) and the C classes.
    probabilities : ndarray of shape (n, C)
        Rows sum to 1.
    quarantined : tuple of Quarantined, default=()
        Images that cannot be decoded, with reasons.
    rejected : ndarray of shape (n,) or None, default=None
        Which images were rejected; None if rejection was not requested.
    origin : mapping
        The version, the encoder and the model that the answers come from.
    transductive : ndarray of shape (n,) or None, default=None
        Which images have transductive answers, computed jointly in a fit without labels; None if the model keeps no
        such answers.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    quarantined: tuple[Quarantined, ...] = ()
    rejected: np.ndarray | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    transductive: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Prediction:  # type: ignore[override]  # of a Sequence without slices
        top = self._best(i, 5)
        rejected = self.rejected is not None and bool(self.rejected[i])
        fitted = self.transductive is not None and bool(self.transductive[i])
        return Prediction(self.ids[i], NONE_OF_THESE if rejected else top[0][0], top[0][1], top, rejected, fitted)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    @property
    def names(self) -> tuple[str, ...]:
        """The answer for every image: its most probable class, or "none of these"."""
        refused = np.zeros(len(self), dtype=bool) if self.rejected is None else self.rejected
        best = self.probabilities.argmax(axis=1)
        return tuple(NONE_OF_THESE if no else self.class_names[k] for k, no in zip(best, refused, strict=True))

    def top(self, k: int) -> tuple[tuple[tuple[str, float], ...], ...]:
        """The ``k`` most probable classes of every image with their probabilities, most probable first.

        Raises
        ------
        InputError
            ``k`` is not between 1 and the number of classes.
        """
        check_top(k, self.class_names)
        return tuple(self._best(i, int(k)) for i in range(len(self)))

    def sorted_by(self, order: str) -> Predictions:
        """Return the answers in another order; the sort is stable.

        Parameters
        ----------
        order : {"given", "uncertain", "certain", "name"}
            ``"uncertain"`` begins with the lowest probability of the answer, the images to check first;
            ``"certain"`` with the highest; ``"name"`` groups by the answer, in natural order. ``"given"`` changes
            nothing.
        """
        require_choice("order", order, ORDERS)
        best, names = self.probabilities.max(axis=1), self.names
        keys = {
            "given": lambda i: 0,
            "uncertain": lambda i: best[i],
            "certain": lambda i: -best[i],
            "name": lambda i: natural_key(names[i]),
        }
        rows = sorted(range(len(self)), key=keys[order])
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            probabilities=self.probabilities[rows],
            rejected=None if self.rejected is None else self.rejected[rows],
            transductive=None if self.transductive is None else self.transductive[rows],
        )

    def save(self, path: str | Path) -> Path:
        """Write all answers to a ``.csv``, ``.json`` or ``.parquet`` file, atomically.

        There is a row per image with ``id``, ``name`` (the answer), ``probability``, ``rejected`` if rejection was
        requested, ``transductive`` if the model keeps answers from its fit, ``reason``, and the probability of every
        class; images that could not be decoded come last, with the reason and nothing else. Numbers read back exactly.
        Parquet needs ``pip install 'modalign[parquet]'``.
        """
        return exports.save(self, path)

    def to_csv(self, path: str | Path) -> Path:
        """Write a CSV file with the columns of :meth:`save`, quoted as :func:`modalign.model.exports.to_csv` does."""
        return exports.to_csv(self, path)

    def to_json(self, path: str | Path) -> Path:
        """Write a JSON file with the probabilities of every image by class, and what the answers come from."""
        return exports.to_json(self, path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write a Parquet file with the columns of :meth:`save`; needs pyarrow."""
        return exports.to_parquet(self, path)

    def to_frame(self) -> pandas.DataFrame:
        """A DataFrame with the columns of :meth:`save`; needs pandas."""
        return exports.to_frame(self)

    def __repr__(self) -> str:
        counts = Counter(self.names).most_common(3)
        found = ", ".join(f"{shorten_repr(name)} {count}" for name, count in counts)
        more = len(set(self.names)) - len(counts)
        return (
            f"Predictions({len(self)} images, {len(self.class_names)} classes: {found or 'none'}"
            f"{f' and {more} more' if more else ''}{self._left_out})"
        )

    def __str__(self) -> str:
        header, rows = self._table()
        shown = f"\n… {len(self) - len(rows)} more" if len(self) > len(rows) else ""
        return f"{text_table(header, rows)}{shown}"

    def _repr_html_(self) -> str:
        caption = f"{len(self)} images, {len(self.class_names)} classes{self._left_out}"
        return html_table(caption, *self._table(), total=len(self))

    @property
    def _left_out(self) -> str:
        return f"; {len(self.quarantined)} could not be decoded" if self.quarantined else ""

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [self[i] for i in range(min(len(self), SHOWN))]
        return ["image", "answer", "probability"], [[p.id, p.name, f"{100 * p.probability:.1f} %"] for p in rows]

    def _best(self, i: int, k: int) -> tuple[tuple[str, float], ...]:
        row = self.probabilities[i]
        order = np.argsort(-row, kind="stable")[:k]
        return tuple((self.class_names[j], float(row[j])) for j in order)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluation of a classifier on labeled images.

    Attributes
    ----------
    accuracy : Accuracy
        Share of right answers, with its interval.
    per_class : tuple of ClassAccuracy
        The same for every class.
    confusion : ndarray of shape (C, C)
        Counts, rows = true class.
    calibration_error : float
        Expected calibration error.
    ids : tuple of str
        The n images tested on.
    labels : ndarray of shape (n,)
        True classes.
    probabilities : ndarray of shape (n, C)
        Probabilities of the classes.
    class_names : tuple of str
        C names.
    left_out : tuple of str
        Ids of images that the model was fitted on or validated with, and that were not tested on.
    quarantined : tuple of Quarantined
        Images that cannot be decoded, with reasons.
    notes : tuple of str, default=()
        Messages for the user about the images and the test.
    fitted : tuple of str, default=()
        Those of ``ids`` that the model was fitted on or, where ``validated`` is None, fitted on or validated with.
    validated : tuple of str or None, default=()
        Those of ``ids`` that the model was validated with; None if this is not recorded.
    """

    accuracy: Accuracy
    per_class: tuple[ClassAccuracy, ...]
    confusion: np.ndarray
    calibration_error: float
    ids: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    validated: tuple[str, ...] | None = ()

    @property
    def chance(self) -> float:
        """Accuracy of guessing one of the classes."""
        return chance_level(len(self.class_names))

    def __repr__(self) -> str:
        return (
            f"Evaluation(top-1 {self.accuracy}, {len(self.class_names)} classes, "
            f"calibration error {percent(self.calibration_error)} %)"
        )

    def __str__(self) -> str:
        header, (*rows, _) = self.table
        shown = f"\n… {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        return f"{text_table(header, rows[:SHOWN])}{shown}\n\n{self._outcome}"

    def _repr_html_(self) -> str:
        header, (*rows, _) = self.table
        return html_table(self._outcome, header, rows[:SHOWN], total=len(rows))

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows in words: every class with its images and its accuracy; the last row is chance level."""
        rows = [[c.name, str(c.n), "–" if c.accuracy is None else f"{percent(c.accuracy)} %"] for c in self.per_class]
        return ["class", "images", "accuracy"], [*rows, ["Chance level", "", f"{percent(self.chance)} %"]]

    @property
    def _outcome(self) -> str:
        return f"top-1 accuracy: {self.accuracy}; chance level {percent(self.chance)} %"


def evaluation_notes(unlabeled: int, transductive: np.ndarray | None) -> tuple[str, ...]:
    """Return notes on images that cannot be tested on, and on images that the model was fitted on without labels."""
    notes = []
    if unlabeled:
        some = "1 image has" if unlabeled == 1 else f"{unlabeled} images have"
        notes.append(f"{some} no label and cannot be tested on")
    if transductive is not None and transductive.any():
        count = int(transductive.sum())
        some = "1 image is among those" if count == 1 else f"{count} images are among those"
        notes.append(f"{some} that the model was fitted on without labels, and answered as found there")
    return tuple(notes)


def check_top(k: int, class_names: Sequence[str]) -> None:
    """Raise unless ``k`` is between 1 and the number of classes."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(class_names):
        raise InputError(f"Expected {argument('top')} from 1 to {len(class_names)}, the number of classes, got {k}.")
