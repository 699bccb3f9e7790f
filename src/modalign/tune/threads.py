"""Number of CPU threads of a computation."""

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
    """Return 1 for towers below 20 million parameters on the CPU, None (no change) for others.

    Synchronization of two threads at every operation of a small tower takes up to twelve times the processor time of
    one thread on a busy machine. The rule depends on the encoder and not on measured times, because the last bits of a
    result depend on the number of threads.
    """
    return 1 if encoder.device.type == "cpu" and encoder.n_parameters < SMALL else None


def threads_for_vectors(X: Any) -> int | None:
    """Return 1 for fewer numbers than in 16,384 vectors of width 512, None (no change) for more.

    With two threads on a busy machine, some methods took five times as long on 10,000 vectors. 1 for objects without
    ``shape``, such as lists.
    """
    shape = () if getattr(X, "is_nested", False) else getattr(X, "shape", ())  # that of a nested tensor raises
    return 1 if math.prod(shape) < FEW_NUMBERS else None


def threads_for_steps(parameters: int) -> int | None:
    """Return 1 for training up to a million parameters in small batches, None (no change) for more.

    The synchronization of threads takes longer than a step: on a busy machine, two threads were up to ten times slower
    than one.
    """
    return 1 if parameters < FEW_PARAMETERS else None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Context manager that sets the number of threads of torch and of the BLAS libraries of NumPy.

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
    """Return the loaded BLAS libraries; searched again, which takes 2 ms, if modules were imported since."""
    return ThreadpoolController()
