"""Test labels that can be used for scoring only."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.evaluate.metrics import Accuracy, proportion


class SealedLabels:
    """Test labels that can score predictions but cannot be read.

    They are stored in a closure: no attribute, ``vars``, ``repr``, iteration, copy or pickle shows them. Every use is
    counted, so that selection on the test set is visible in the record of the run.
    """

    __slots__ = ("__ask", "__len")

    def __init__(self, labels: ArrayLike) -> None:
        hidden = np.array(labels)
        if hidden.ndim != 1 or not len(hidden) or (hidden == UNLABELED).any():
            raise InputError("Expected a label for every test image, at least one; leave unlabeled images out.")
        asked = 0

        def ask(predicted: ArrayLike | None) -> np.ndarray | int:
            nonlocal asked
            if predicted is None:
                return asked
            answers = np.asarray(predicted)
            if answers.shape != hidden.shape:
                raise InputError(f"Expected {len(hidden)} predictions, one per test image, got shape {answers.shape}.")
            if answers.dtype.hasobject:  # an object's own comparison would be shown the label
                raise InputError("Expected predictions as numbers or strings, got arbitrary objects.")
            asked += 1
            return answers == hidden

        self.__ask = ask
        self.__len = len(hidden)

    def mark(self, predicted: ArrayLike) -> np.ndarray:
        """(n,) whether each answer is right."""
        return np.asarray(self.__ask(predicted))

    def score(self, predicted: ArrayLike) -> Accuracy:
        """Accuracy of the answers with its interval."""
        right = self.mark(predicted)
        return proportion(int(right.sum()), len(right))

    @property
    def asked(self) -> int:
        """Number of uses of the labels."""
        return int(self.__ask(None))

    def __len__(self) -> int:
        return self.__len

    def __repr__(self) -> str:
        return f"SealedLabels(n={len(self)}, asked={self.asked})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Sealed labels cannot be copied or stored; pass them on, or keep the labels they were made of.")
