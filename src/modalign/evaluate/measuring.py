"""Measurement of a run: time, memory, warnings, and fingerprints of its inputs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modalign.core.features import ClassText, Features
from modalign.core.record import plain, versions
from modalign.data.splits.split import Split
from modalign.evaluate.metrics import proportion
from modalign.evaluate.peak_memory import PeakMemory
from modalign.evaluate.runs import Run
from modalign.evaluate.sealed import SealedLabels
from modalign.methods.contract.sharing import clock, shared_fits


def fingerprint_of(features: Features, text: ClassText | None = None, clip_features: Features | None = None) -> str:
    """Return 16 hexadecimal digits over vectors, labels, encoder and class text."""
    digest = hashlib.sha256()
    for part in (features, text, clip_features):
        if part is not None:
            encoder = part.spec.fingerprint if part.spec else ""
            digest.update(f"{part.vectors.shape} {part.class_names} {encoder}".encode())
            for start in range(0, len(part), 65536):  # a memory map is read in pieces
                digest.update(np.ascontiguousarray(part.vectors[start : start + 65536], dtype=np.float32).tobytes())
    digest.update(np.ascontiguousarray(features.labels, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def fingerprint_of_test(split: Split) -> str:
    """16 hexadecimal digits over the list of test images."""
    return hashlib.sha256(np.ascontiguousarray(split.test).tobytes()).hexdigest()[:16]


def measured(
    name: str,
    method: Any,
    learn: Callable[[], object],
    answer: Callable[[], ArrayLike],
    split: Split,
    sealed: SealedLabels,
    **known: Any,
) -> Run:
    """Fit, predict and score once, with time and memory.

    Parameters
    ----------
    name : str
        Of the method in the comparison.
    method : object
        Method that ``learn`` fits; its parameters and its diagnosis are recorded.
    learn, answer : callable
        Functions that fit and predict; ``answer`` returns a class for every test image of ``split``.
    split, sealed : Split
        The images and the labels of the tested ones.
    known : object
        The other entries of :class:`~modalign.evaluate.runs.Run`.

    Notes
    -----
    A :class:`UserWarning` of the method is stored in the run; other warnings are issued.
    """
    with PeakMemory() as memory, _kept_warnings() as warned:
        started = clock()
        learn()
        fitted = clock()
        predicted = answer()
        done = clock()
    shared = shared_fits()
    correct = sealed.mark(predicted)
    return Run(
        method=name,
        accuracy=proportion(int(correct.sum()), len(correct)),
        fit_seconds=round(fitted - started, 4),
        predict_seconds=round(done - fitted, 4),
        parameters=plain(method.get_params(deep=False)),
        diagnosis=plain(getattr(method, "diagnosis_", {})),
        test=fingerprint_of_test(split),
        asked=sealed.asked,
        versions=versions(),
        notes=split.notes,
        warnings=tuple(dict.fromkeys(warned)),
        peak_bytes=memory.bytes if shared is None else shared.peak(memory.bytes),
        correct=correct,
        **known,
    )


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """The messages of warnings for the user that are given inside."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield messages
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            messages.append(" ".join(str(warning.message).split()))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
