"""Shards as tasks of Ray. Ray transfers names of shards only; each task writes its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from modalign.core.errors import ModalignError
from modalign.core.ray_cluster import ray_results
from modalign.encoders.features.ahead import share_cpus
from modalign.shards.part_store import PartStore
from modalign.shards.shard_jobs import Job
from modalign.shards.shard_parts import PartReport
from modalign.shards.sharded import Scheduler, ShardWorker, Task


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

    def schedule(job: Job, tasks: Sequence[Task], store: PartStore) -> Iterator[PartReport]:
        calls = ((job, task, store, threads) for task in tasks)
        for _, report in ray_results(address, run_task, calls, count=count, threads=threads):
            yield report

    return schedule


def run_task(job: Job, task: Task, store: PartStore, threads: int) -> PartReport | str:
    """Return the report of a task, or the reason of its failure; called in a process of Ray."""
    try:
        return _worker(job, store, threads).run(task)
    except ModalignError as error:
        return str(error)


@lru_cache(maxsize=1)
def _worker(job: Job, store: PartStore, threads: int) -> ShardWorker:
    torch.set_num_threads(threads)
    share_cpus(threads)
    return ShardWorker(job, store)
