"""Prefetching in threads, bounded in the number of jobs and in bytes."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import Any, TypeVar

from modalign.core.child_processes import usable_cpus

A = TypeVar("A")
B = TypeVar("B")

READ_BYTES = 2**26
"""Files that are being read and decoded take at most this together, or one larger file alone."""
RESULT_BYTES = 2**29
"""No new file is begun while pending results hold more than this."""
_AT_ONCE = 16
_AT_ONCE_BYTES = 2**23
_share = sys.maxsize  # processors that this process is to use


def share_cpus(count: int) -> None:
    """Read with at most ``count`` threads from now on, in a process that is one of several on a machine."""
    global _share
    _share = count


def read_ahead(
    function: Callable[[Sequence[A]], list[B]],
    jobs: Sequence[A],
    window: int,
    size: Callable[[A], int] = lambda _: 0,
) -> Generator[B, None, None]:
    """Yield the results of ``function`` in order, computed by threads about ``window`` jobs ahead of the consumer.

    Threads process a few jobs per call, because the overhead of a call is as large as decoding a small image.

    Parameters
    ----------
    function : callable
        Called in threads with a list of jobs; returns one result per job.
    jobs : sequence of A
        Arguments of the calls, in order.
    window : int
        Number of jobs to prefetch.
    size : callable
        Function from a job to the bytes that it reads. Memory: :data:`READ_BYTES`, or one larger job, plus
        :data:`RESULT_BYTES` and one result per thread.
    """
    cores = min(usable_cpus(), _share)
    gate = _Gate()
    waiting: deque[tuple[int, Future[list[B]]]] = deque()

    def take() -> list[B]:
        results = waiting.popleft()[1].result()
        gate.take(_nbytes(results))
        return results

    with ThreadPoolExecutor(min(16, cores), thread_name_prefix="modalign-read") as pool:
        try:
            for number, (some, cost) in enumerate(_portions(jobs, size, min(window // 2, len(jobs) // (4 * cores)))):
                waiting.append((len(some), pool.submit(gate.run, number, cost, function, some)))
                while sum(count for count, _ in waiting) > window:
                    yield from take()
            while waiting:
                yield from take()
        finally:
            gate.close()
            for _, future in waiting:
                future.cancel()


class _Gate:
    """Starts portions in order while memory is left; the portion that the consumer waits for may always start.

    Since portions begin in order, results that hold memory are consumed before those that wait for it, so that no
    deadlock is possible.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._begun = self._taken = 0  # portions
        self._reading = self._held = 0  # bytes
        self._closed = False

    def run(self, number: int, cost: int, function: Callable[[Sequence[A]], list[B]], jobs: Sequence[A]) -> list[B]:
        """``function(jobs)`` when it is the turn of portion ``number``, which reads ``cost`` bytes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._begun == number and self._fits(number, cost)))
            if self._closed:
                return []
            self._begun += 1
            self._reading += cost
            self._changed.notify_all()
        results: list[B] = []
        try:
            results = function(jobs)
        finally:
            with self._changed:
                self._reading -= cost
                self._held += _nbytes(results)
                self._changed.notify_all()
        return results

    def take(self, held: int) -> None:
        """The consumer has taken the results of the oldest portion, of ``held`` bytes."""
        with self._changed:
            self._taken += 1
            self._held -= held
            self._changed.notify_all()

    def close(self) -> None:
        """Called when the consumer has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, number: int, cost: int) -> bool:
        return number == self._taken or (self._reading + cost <= READ_BYTES and self._held <= RESULT_BYTES)


def _portions(jobs: Sequence[A], size: Callable[[A], int], most: int) -> Iterator[tuple[Sequence[A], int]]:
    """The jobs, a few at a time, and the bytes that they read."""
    most = max(1, min(_AT_ONCE, most))
    start, cost = 0, 0
    for i in range(len(jobs)):
        bytes_ = size(jobs[i])
        if i > start and (i - start == most or cost + bytes_ > _AT_ONCE_BYTES):
            yield jobs[start:i], cost
            start, cost = i, 0
        cost += bytes_
    if len(jobs) > start:
        yield jobs[start:], cost


def _nbytes(value: Any) -> int:
    """Bytes of the arrays and tensors in a result."""
    if isinstance(value, (list, tuple)):
        return sum(map(_nbytes, value))
    return getattr(value, "nbytes", 0)
