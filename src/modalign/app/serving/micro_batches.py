"""Batching of concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class QueueFullError(Exception):
    """The queue is full."""


class MicroBatcher(Generic[A, B]):
    """A queue of jobs, and one thread that computes as many of them at a time as wait.

    While a batch is computed, the next one is collected. A job on an idle server is therefore computed alone and at
    once, and batches grow with the load. A job of a cancelled request is not computed.

    Parameters
    ----------
    compute : callable
        Jobs → a result or an exception per job, in their order; called in the thread.
    max_batch : int
        Jobs per call.
    max_queue : int
        Maximum number of waiting jobs.
    max_wait : float, default=0.0
        Seconds that an incomplete batch waits for further jobs.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[A]], Sequence[B | Exception]],
        *,
        max_batch: int,
        max_queue: int,
        max_wait: float = 0.0,
    ) -> None:
        self.compute, self.max_batch, self.max_queue, self.max_wait = compute, max_batch, max_queue, max_wait
        self._queue: asyncio.Queue[tuple[A, asyncio.Future[B]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modalign-model")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to compute; in a running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Compute nothing more; jobs that still wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()
        self._thread.shutdown(wait=True)

    def submit(self, jobs: Sequence[A]) -> list[asyncio.Future[B]]:
        """Put jobs into the queue, all or none; a future per job.

        Raises
        ------
        QueueFullError
            There is no room for all of them.
        """
        if self.waiting + len(jobs) > self.max_queue:
            raise QueueFullError(f"{self.waiting} jobs are waiting, {self.max_queue} may")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[B]] = [loop.create_future() for _ in jobs]
        for job, future in zip(jobs, futures, strict=True):
            self._queue.put_nowait((job, future))
        return futures

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [(job, future) for job, future in await self._gather() if not future.done()]
            if not batch:
                continue
            try:
                results = await loop.run_in_executor(self._thread, self.compute, [job for job, _ in batch])
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # its request was cancelled meanwhile
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _gather(self) -> list[tuple[A, asyncio.Future[B]]]:
        """The next batch: the first job, and what comes until the batch is full or has waited long enough."""
        batch = [await self._queue.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self.max_wait):
                while len(batch) < self.max_batch and self.max_wait > 0:
                    batch.append(await self._queue.get())
        while len(batch) < self.max_batch and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch
