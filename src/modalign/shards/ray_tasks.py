"""Shards as tasks of Ray. Ray transfers names of shards only; each task writes its part."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from modalign.core.child_processes import THREAD_VARIABLES
from modalign.core.errors import InputError, ModalignError, argument, require
from modalign.encoders.features.ahead import share_cpus
from modalign.shards.shard_jobs import Job
from modalign.shards.shard_parts import PartReport
from modalign.shards.sharded import Scheduler, ShardWorker, Task

LOCAL = "local"
"""In place of an address: start Ray on this machine."""
_OBJECTS = 2**28  # bytes of Ray's object store on this machine; only names and reports go through it
_RETRIES = 3  # of a task whose process or machine is lost; a part is computed once or more and committed once


def on_ray(address: str, count: int, threads: int = 1) -> Scheduler:
    """A scheduler that hands the shards to a cluster of Ray; needs ``modalign[ray]`` on all its machines.

    Every machine needs the source and the output under the same path, and the same versions and weights. A task whose
    process is lost is retried.

    Parameters
    ----------
    address : str
        Of the cluster, ``"auto"`` for the one that this machine belongs to, or ``"local"`` to start one here.
    count : int
        Number of parallel tasks.
    threads : int, default=1
        Processors of each task.

    Raises
    ------
    InputError
        The cluster has fewer processors than the tasks request, so that they would wait forever.
    """

    def schedule(job: Job, tasks: Sequence[Task], folder: Path) -> Iterator[PartReport]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = require("ray", "ray")
        own = not ray.is_initialized()
        if own:
            _connect(ray, address)
        try:
            _require_cpus(ray, count, threads)
            yield from _results(ray, job, tasks, folder.absolute(), count, threads)
        finally:
            if own:
                ray.shutdown()

    return schedule


def _connect(ray: Any, address: str) -> None:
    here = address == LOCAL
    local = {"include_dashboard": False, "object_store_memory": _OBJECTS} if here else {"address": address}
    for last in (False, True):  # a busy machine may not start Ray within its default timeout
        try:
            ray.init(logging_level="ERROR", log_to_driver=False, **local)
            return
        except Exception as error:  # Ray raises Exception itself where its processes do not start
            ray.shutdown()
            if last or not here:
                reason = " ".join(str(error).split())[:160].rstrip(".")
                raise InputError(f"Expected a Ray cluster at '{address}', it cannot be reached: {reason}.") from None


def _require_cpus(ray: Any, count: int, threads: int) -> None:
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    if count < 1 or threads < 1 or count * threads > sum(nodes) or threads > max(nodes, default=0):
        raise InputError(
            f"Expected at most {int(sum(nodes))} processors, as many as the Ray cluster has (the largest machine has "
            f"{int(max(nodes, default=0))}), got {count} workers × {threads}; they would wait forever. Give "
            f"{argument('workers', str(int(sum(nodes) // max(1, threads))))}."
        )


def _results(ray: Any, job: Job, tasks: Sequence[Task], folder: Path, count: int, threads: int) -> Iterator[PartReport]:
    variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
    remote = ray.remote(num_cpus=threads, max_retries=_RETRIES, runtime_env={"env_vars": variables})(run_task)
    waiting, running = iter(tasks), []
    for task in waiting:
        running.append(remote.remote(job, task, folder, threads))
        if len(running) == count:
            break
    while running:
        done, running = ray.wait(running, num_returns=1)
        try:
            found = ray.get(done[0])
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModalignError(f"A task of Ray was lost: {reason}; run the same command again.") from None
        if isinstance(found, str):
            raise ModalignError(found)
        yield found
        if (following := next(waiting, None)) is not None:
            running.append(remote.remote(job, following, folder, threads))


def run_task(job: Job, task: Task, folder: Path, threads: int) -> PartReport | str:
    """Return the report of a task, or the reason of its failure; called in a process of Ray."""
    try:
        return _worker(job, folder, threads).run(task)
    except ModalignError as error:
        return str(error)


@lru_cache(maxsize=1)
def _worker(job: Job, folder: Path, threads: int) -> ShardWorker:
    torch.set_num_threads(threads)
    share_cpus(threads)
    return ShardWorker(job, folder)
