"""The exam set: randomly drawn images whose labels are used for measurement only, not for training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modalign.evaluate.metrics import Accuracy, proportion
from modalign.evaluate.paired import Comparison, compare_pair

EVERY = 5
"""Every fifth requested image is one of the exam."""
MOST, SHARE = 200, 5
LEAST_SHOWN = 10
"""Exam labels below which no accuracy is shown."""


def exam_key(content: str, seed: int) -> int:
    """A number that is uniform in 0…2⁶⁴ − 1 over images and follows from the bytes of the image and the seed alone.

    The images with the smallest keys are a simple random sample, whatever their names and their order, and stay the
    same when files are added or moved.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}:{content}".encode(), digest_size=8).digest(), "big")


def exam_limit(contents: Sequence[str], seed: int) -> int:
    """The key below which an image is of the exam: of n different images the first min(200, n // 5) are."""
    keys = sorted({exam_key(content, seed) for content in contents})
    size = min(MOST, len(keys) // SHARE)
    return keys[size] if size else 0


@dataclass(frozen=True)
class ExamResult:
    """Result of a classifier on the exam.

    Attributes
    ----------
    accuracy : Accuracy or None
        With its Wilson interval, over images of the classes; None below :data:`LEAST_SHOWN` of them.
    gain : Comparison or None
        Difference to the first answers, before any label, on the same images.
    answered : int
        Images with a class.
    none : int
        Images that belong to no class, which are not part of the accuracy.
    """

    accuracy: Accuracy | None
    gain: Comparison | None
    answered: int
    none: int


def grade(truth: np.ndarray, predicted: np.ndarray, first: np.ndarray | None, none: int) -> ExamResult:
    """The result of an exam.

    Parameters
    ----------
    truth, predicted : ndarray of shape (m,)
        Class numbers of the labeled exam images, and the answers of the classifier.
    first : ndarray of shape (m,) or None
        The answers before any label.
    none : int
        Number of exam images that belong to no class.
    """
    n = len(truth)
    if n < LEAST_SHOWN:
        return ExamResult(None, None, n, none)
    right = truth == predicted
    gain = None if first is None else compare_pair(right, truth == first)
    return ExamResult(proportion(int(right.sum()), n), gain, n, none)
