"""How many threads a training on the CPU shall use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

SMALL = 20_000_000


def threads_for(encoder: Encoder) -> int | None:
    """1 for towers below 20 million parameters on the CPU, whose operations are over before a second thread has begun.

    On a busy machine two threads that wait for each other at every operation of the tiny pair cost twelve times the
    processor time of one. None, as torch is set, for all others. The rule looks at the encoder and not at the clock,
    because the last bits of a result depend on the number of threads.
    """
    return 1 if encoder.device.type == "cpu" and encoder.n_parameters < SMALL else None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside, and as before afterwards; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
