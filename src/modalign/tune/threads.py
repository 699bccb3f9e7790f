"""How many threads a computation on the CPU uses: the one place where that is decided and changed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

SMALL = 20_000_000
FEW_NUMBERS = 16_384 * 512
FEW_PARAMETERS = 2**20  # 4 MB stay in the cache of one core


def threads_for(encoder: Encoder) -> int | None:
    """1 for towers below 20 million parameters on the CPU, whose operations are over before a second thread has begun.

    On a busy machine two threads that wait for each other at every operation of the tiny pair cost twelve times the
    processor time of one. None, as torch is set, for all others. The rule looks at the encoder and not at the clock,
    because the last bits of a result depend on the number of threads.
    """
    return 1 if encoder.device.type == "cpu" and encoder.n_parameters < SMALL else None


def threads_for_vectors(X: Any) -> int | None:
    """1 for methods on fewer numbers than 16,384 vectors of width 512 have; None, as it is set, for more.

    A second thread mostly waits there: with two on a busy machine 10,000 vectors took some methods five times as long.
    For what has no ``shape``, such as lists, one thread is enough.
    """
    return 1 if math.prod(getattr(X, "shape", ())) < FEW_NUMBERS else None


def threads_for_steps(parameters: int) -> int | None:
    """1 for training by small batches of up to a million parameters, however many the vectors; None for more.

    Handing out work takes longer than a step of it: on a busy machine two threads that wait for each other thousands of
    times were up to ten times slower than one.
    """
    return 1 if parameters < FEW_PARAMETERS else None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside, in torch and in the libraries below NumPy, and as before afterwards.

    None changes nothing.
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    with _libraries(len(sys.modules)).limit(limits=count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """What is loaded below NumPy: looked for again, which takes 2 ms, where modules have come since."""
    return ThreadpoolController()
