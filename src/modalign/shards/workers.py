"""Shards in several processes of this machine: a pipe per process, one shard at a time, one sentence on failure."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from modalign.core.child_processes import THREAD_VARIABLES, environment, follow_parent, usable_cpus, without_main
from modalign.core.errors import InputError, ModalignError, argument, current_options, options
from modalign.encoders.features.ahead import share_cpus
from modalign.shards.part_store import PartStore
from modalign.shards.shard_jobs import Job
from modalign.shards.shard_parts import PartReport
from modalign.shards.sharded import Scheduler, ShardWorker, Task

_PATIENCE = 10.0  # seconds that a process is given to end


def in_processes(count: int, threads: int | None = None) -> Scheduler:
    """A scheduler that computes in ``count`` processes of this machine.

    Each process loads the encoder and takes the next shard when it has finished one. On a machine with several GPUs,
    the processes are distributed among them. If one of them fails or is killed, the others are ended; finished parts
    are kept.

    Parameters
    ----------
    count : int
        Number of processes.
    threads : int or None, default=None
        Of each process, for computing and for reading; by default the processors divided by the processes.

    Raises
    ------
    InputError
        More processes and threads than processors, which would slow each other down.
    """
    cpus = usable_cpus()
    each = max(1, cpus // count) if threads is None else threads
    if count < 1 or each < 1 or count * each > cpus:
        raise InputError(
            f"Expected at most {cpus} processes × threads, as many as there are processors, got {count} × {each}; "
            f"give {argument('workers', str(max(1, cpus // each)))}."
        )

    def schedule(job: Job, tasks: Sequence[Task], store: PartStore) -> Iterator[PartReport]:
        with _Team(job, store, min(count, len(tasks)), each) as team:
            yield from team.run(tasks)

    return schedule


class _Failure(NamedTuple):
    """Failure of a process, sent in place of a report."""

    message: str
    code: int


class _Team:
    """Processes that are ended together."""

    def __init__(self, job: Job, store: PartStore, count: int, threads: int) -> None:
        context = get_context("spawn")
        self._members: dict[Connection, BaseProcess] = {}
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, job, store, threads, current_options())
            process = context.Process(target=_serve, args=arguments, name=f"modalign-shards-{number}")
            variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | gpu_of(number)
            with environment(variables), without_main():
                process.start()
            theirs.close()
            self._members[ours] = process

    def __enter__(self) -> _Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._members.values():
            if kind is not None:
                process.terminate()
        for connection, process in self._members.items():
            connection.close()
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def run(self, tasks: Sequence[Task]) -> Iterator[PartReport]:
        """Hand out the tasks, one at a time to each process."""
        waiting = iter(tasks)
        busy = {connection for connection in self._members if self._hand(connection, next(waiting, None))}
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                try:
                    found = connection.recv()
                except (EOFError, OSError):
                    raise ModalignError(_why(self._members[connection])) from None
                if isinstance(found, _Failure):
                    error = InputError(found.message) if found.code == 2 else ModalignError(found.message)
                    raise error
                yield found
                if not self._hand(connection, next(waiting, None)):
                    busy.discard(connection)

    def _hand(self, connection: Connection, task: Task | None) -> bool:
        """Give a process its next task; False if there is none."""
        try:
            connection.send(task)
        except OSError:
            raise ModalignError(_why(self._members[connection])) from None
        return task is not None


def gpu_of(number: int) -> dict[str, str]:
    """The variable that shows a process one of several GPUs; {} where there are not several."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = chosen.split(",") if chosen else list(map(str, range(torch.cuda.device_count())))
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]} if len(names) > 1 else {}


def _why(process: BaseProcess) -> str:
    process.join(_PATIENCE)
    code = process.exitcode
    how = f"was ended from outside (signal {-code})" if code is not None and code < 0 else f"ended with code {code}"
    return (
        f"A worker process {how}, often because memory is full; finished parts are kept: run the same command again, "
        f"with fewer workers if it happens again ({argument('workers', '1')})."
    )


def _serve(connection: Connection, job: Job, store: PartStore, threads: int, names: Mapping[str, str] | None) -> None:
    """What a process does: load, then a task after the other until there is none."""
    follow_parent()
    torch.set_num_threads(threads)
    share_cpus(threads)
    try:
        with options(names):
            worker = ShardWorker(job, store)
            while (task := connection.recv()) is not None:
                connection.send(worker.run(task))
    except EOFError:  # the one that hands out tasks is gone
        return
    except ModalignError as error:
        failure = _Failure(str(error), error.exit_code)
    except Exception as error:  # anything else is an error of this package; its place is worth more than a traceback
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:200]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        failure = _Failure(f"A worker process failed: {type(error).__name__} ({text}) in {where}.", 1)
    else:
        return
    with suppress(OSError):
        connection.send(failure)
