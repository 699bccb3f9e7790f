"""Shared fits of a comparison: equal fits are computed once, and their cost counts in each run."""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from modalign.methods.contract.calibrating import refits
from modalign.methods.contract.problem import Problem

if TYPE_CHECKING:
    from modalign.methods.contract.vectors import VectorMethod

MOST_NUMBERS = 2**27
"""Of the vectors of a problem whose fits are shared; others are read in blocks, and not for this."""
MOST_BYTES = 2**28
"""Of what is kept of all fits together."""
_SHARED: ContextVar[SharedFits | None] = ContextVar("shared fits", default=None)


@dataclass
class _Fit:
    """Attributes set by a fit, its duration, warnings and memory."""

    state: dict[str, Any]
    seconds: float
    caught: list[warnings.WarningMessage]
    peak: int = 0


class SharedFits:
    """Cache of fits by method, hyper-parameters, data and seed.

    Attributes
    ----------
    saved : float
        Seconds of fits that were not repeated.
    """

    def __init__(self) -> None:
        self.saved = 0.0
        self._fits: dict[str, _Fit] = {}
        self._room = MOST_BYTES
        self._touched: list[_Fit] = []

    def fit(self, method: VectorMethod, problem: Problem, learn: Callable[[], None]) -> None:
        """Call ``learn``, which sets attributes of ``method``, or set those of an earlier equal call."""
        if problem.X.numel() > MOST_NUMBERS or getattr(method, "random_state", 0) is None:
            learn()
            return
        key = _key(method, problem)
        known = self._fits.get(key)
        if known is None:
            before, started = dict(method.__dict__), clock()
            caught = _warnings_of(learn)
            state = {name: v for name, v in method.__dict__.items() if name not in before or v is not before[name]}
            known = _Fit(_own(state), clock() - started, caught)
            size = _size(state)
            if size <= self._room:
                self._room -= size
                self._fits[key] = known
        else:
            method.__dict__.update(_own(known.state))
            self.saved += known.seconds
        for message in known.caught:
            warnings.warn_explicit(message.message, message.category, message.filename, message.lineno)
        self._touched.append(known)

    def peak(self, measured: int | None) -> int | None:
        """Return the peak memory of the current run: the maximum of ``measured`` and of the shared fits it used."""
        touched, self._touched = self._touched, []
        if measured is None:
            return None
        for fit in touched:
            fit.peak = fit.peak or measured
        return max([measured, *(fit.peak for fit in touched)])


@contextmanager
def sharing_fits(shared: SharedFits) -> Iterator[None]:
    """Context manager in which :meth:`~modalign.methods.contract.vectors.VectorMethod.fit` uses ``shared``."""
    token = _SHARED.set(shared)
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared_fits() -> SharedFits | None:
    """The fits that are shared here, None outside of :func:`sharing_fits`."""
    return _SHARED.get()


def clock() -> float:
    """Wall time plus the time saved by sharing; differences are durations."""
    shared = shared_fits()
    return time.perf_counter() + (0.0 if shared is None else shared.saved)


def _key(method: VectorMethod, problem: Problem) -> str:
    """SHA-256 of all inputs of a fit."""
    digest = hashlib.sha256(repr((type(method), sorted(method.get_params(deep=False).items()))).encode())
    ids = problem.ids
    names = (
        None if ids is None or len(set(ids)) == len(ids) else ids
    )  # distinguish views of one image from other images
    takes_clip = method.takes_clip_features or method.needs_clip_features
    parts = (
        problem.X, problem.y, *(problem.validation or ()), problem.parts, method.classes_,
        problem.text if method.takes_text else None, problem.clip_features if takes_clip else None,
    )  # fmt: skip
    scale = getattr(method, "logit_scale_", problem.logit_scale)
    digest.update(repr((problem.n_classes, scale, problem.X.device, names, refits(method, problem))).encode())
    for part in parts:
        array = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
        digest.update(b"none" if array is None else repr((array.dtype, array.shape)).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data if array.dtype != object else repr(array.tolist()).encode())
    return digest.hexdigest()


def _warnings_of(function: Callable[[], None]) -> list[warnings.WarningMessage]:
    """Return the warnings of a call, which are not shown."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return caught


def _own(state: dict[str, Any]) -> dict[str, Any]:
    """The same values in containers of their own; no fit changes an array of another one."""
    return {name: copy.copy(value) if isinstance(value, (dict, list)) else value for name, value in state.items()}


def _size(value: Any) -> int:
    """Bytes of the arrays in a state, fitted methods included."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return sum(map(_size, vars(value).values())) if hasattr(value, "diagnosis_") else 0


__all__ = ["MOST_BYTES", "SharedFits", "clock", "shared_fits", "sharing_fits"]
