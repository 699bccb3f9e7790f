"""How many threads a computation on the CPU uses: the one place where that is decided and changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

SMALL = 20_000_000
FEW_NUMBERS = 4096 * 512


def threads_for(encoder: Encoder) -> int | None:
    """1 for towers below 20 million parameters on the CPU, whose operations are over before a second thread has begun.

    On a busy machine two threads that wait for each other at every operation of the tiny pair cost twelve times the
    processor time of one. None, as torch is set, for all others. The rule looks at the encoder and not at the clock,
    because the last bits of a result depend on the number of threads.
    """
    return 1 if encoder.device.type == "cpu" and encoder.n_parameters < SMALL else None


def threads_for_vectors(n: int, d: int) -> int | None:
    """1 for methods on fewer than 4,096 vectors of width 512, or as many numbers; None, as it is set, for more.

    What such a method multiplies fits the cache of one core, and a second thread mostly waits.
    """
    return 1 if n * d < FEW_NUMBERS else None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside, in torch and in the libraries below NumPy, and as before afterwards.

    None changes nothing. Finding the libraries takes 2 ms.
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
