"""Jobs that wait together are computed together, each once, in order, and only if somebody still waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from modalign.app.serving.micro_batches import MicroBatcher, QueueFullError

pytestmark = pytest.mark.timeout(60)


class Recorder:
    """Doubles numbers, refuses odd ones, and can be held back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    def __call__(self, jobs: Sequence[int]) -> list[int | Exception]:
        self.begun.set()
        self.open.wait(30)
        self.batches.append(list(jobs))
        return [ValueError(str(job)) if job % 2 else 2 * job for job in jobs]


def run(scenario: Callable[[MicroBatcher[int, int], Recorder], Awaitable[Any]], **options: Any) -> tuple[Any, Recorder]:
    recorder = Recorder()

    async def main() -> Any:
        batcher: MicroBatcher[int, int] = MicroBatcher(recorder, **{"max_batch": 4, "max_queue": 10} | options)
        batcher.start()
        try:
            return await scenario(batcher, recorder)
        finally:
            recorder.open.set()
            await batcher.stop()

    return asyncio.run(main()), recorder


async def held(batcher: MicroBatcher[int, int], recorder: Recorder) -> asyncio.Future[int]:
    """Let one job block the thread, so that others wait."""
    recorder.open.clear()
    (first,) = batcher.submit([0])
    while not recorder.begun.is_set():
        await asyncio.sleep(0.001)
    return first


def test_a_lone_job_is_computed_alone_and_waiting_ones_together() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[int]:
        first = await held(batcher, recorder)
        later = batcher.submit([2, 4, 6]) + batcher.submit([8, 10])
        recorder.open.set()
        return await asyncio.gather(first, *later)

    results, recorder = run(scenario)
    assert results == [0, 4, 8, 12, 16, 20]
    assert recorder.batches == [[0], [2, 4, 6, 8], [10]]


def test_a_fault_is_that_of_its_own_job() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[Any]:
        return await asyncio.gather(*batcher.submit([2, 3, 4]), return_exceptions=True)

    results, _ = run(scenario)
    assert [results[0], results[2]] == [4, 8]
    assert isinstance(results[1], ValueError)


def test_a_fault_of_the_computation_ends_its_batch_and_no_more() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[Any]:
        batcher.compute = lambda jobs: (_ for _ in ()).throw(RuntimeError("broken"))
        broken = await asyncio.gather(*batcher.submit([2, 4]), return_exceptions=True)
        batcher.compute = recorder
        return [*broken, *await asyncio.gather(*batcher.submit([6]))]

    results, _ = run(scenario)
    assert [type(r).__name__ for r in results] == ["RuntimeError", "RuntimeError", "int"]


def test_a_full_queue_takes_all_jobs_of_a_request_or_none() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[int]:
        await held(batcher, recorder)
        batcher.submit([2] * 8)
        with pytest.raises(QueueFullError):
            batcher.submit([4, 4, 4])
        assert batcher.waiting == 8
        kept = batcher.submit([6, 6])
        recorder.open.set()
        return await asyncio.gather(*kept)

    assert run(scenario)[0] == [12, 12]


def test_an_abandoned_job_is_not_computed() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> int:
        await held(batcher, recorder)
        given_up, kept = batcher.submit([2, 4])
        given_up.cancel()
        recorder.open.set()
        return await kept

    result, recorder = run(scenario)
    assert result == 8
    assert recorder.batches == [[0], [4]]


def test_an_incomplete_batch_waits_for_more_but_not_for_ever() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[int]:
        futures = batcher.submit([2])
        await asyncio.sleep(0.01)
        futures += batcher.submit([4])
        return await asyncio.gather(*futures)

    results, recorder = run(scenario, max_wait=0.5)
    assert results == [4, 8]
    assert recorder.batches == [[2, 4]]


def test_stopping_cancels_what_still_waits() -> None:
    async def scenario(batcher: MicroBatcher[int, int], recorder: Recorder) -> list[bool]:
        await held(batcher, recorder)
        waiting = batcher.submit([2, 4])
        recorder.open.set()
        await batcher.stop()
        return [future.done() for future in waiting]

    assert run(scenario)[0] == [True, True]
