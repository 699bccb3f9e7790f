"""Sharded computation: plan, compute missing parts, write the manifest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument, require
from modalign.core.part_files import CARD_FILE
from modalign.core.progress import track
from modalign.shards.part_store import PartStore, part_store
from modalign.shards.shard_jobs import AnsweringJob, Compute, EmbeddingJob, Job, settings_text
from modalign.shards.shard_parts import (
    PartReport,
    agree_on_card,
    close_set,
    known_hashes,
    part_file,
    read_report,
    settings_of,
    sound_report,
    write_part,
)
from modalign.shards.shard_plan import Plan, plan_shards
from modalign.shards.shard_sources import Shard, key_of

_READERS = 16  # threads that read footers and hashes of parts, perhaps from a slow disk


@dataclass(frozen=True)
class Task:
    """A shard whose part is missing, and the name of the part."""

    shard: Shard
    file: str


@dataclass(frozen=True)
class ShardedRun:
    """Report of a run.

    Attributes
    ----------
    shards, computed, skipped : int
        Shards of the source, those computed here, and those whose part was there.
    rows, unreadable : int
        Of the finished set, or of the parts computed here if it is not finished.
    finished : bool
        Whether all parts are there and the manifest names them.
    notes : tuple of str
        Messages about the source.
    """

    shards: int
    computed: int
    skipped: int
    rows: int
    unreadable: int
    finished: bool
    notes: tuple[str, ...] = ()


Scheduler = Callable[[Job, Sequence[Task], PartStore], Iterator[PartReport]]
"""Computes tasks in any order and yields a report of each; see :func:`in_this_process`."""


class ShardWorker:
    """Turns tasks into parts; loads the encoder or model once."""

    def __init__(self, job: Job, store: PartStore, started: tuple[Compute, dict[str, Any]] | None = None) -> None:
        self._store = store
        self._compute, self._settings = job.start() if started is None else started
        if json.loads(json.dumps(self._settings)) != settings_of(store):
            raise InputError(
                f"Expected the encoder and the settings that '{CARD_FILE}' in '{store}' names, this machine has "
                "others; install the same versions and weights everywhere."
            )

    def run(self, task: Task) -> PartReport:
        """Compute the part of one shard, unless it exists by now."""
        if self._store.exists(task.file):
            return read_report(self._store, task.file, task.shard.name)
        with task.shard.open() as items:
            rows = self._compute(items)
        return write_part(self._store, task.file, task.shard.name, self._settings, rows)


def embed_shards(
    source: Any,
    out: str | Path,
    job: EmbeddingJob | None = None,
    *,
    shards: int | None = None,
    only: tuple[int, int] | None = None,
    scheduler: Scheduler | None = None,
    addresses: bool = False,
    verify: bool = False,
) -> ShardedRun:
    """Vectors of all images of a source as a folder of parts, which :meth:`modalign.Features.open` reads.

    A part is named by a hash of its shard, the encoder and the settings, appears by rename, and is not computed if it
    exists. The same call therefore resumes after it was killed, and several calls may run at once, on one machine or on
    several that share the folder. Batches do not cross shards: on the same machine with the same threads per process,
    the bytes of the parts do not depend on the division of the work.

    Parameters
    ----------
    source : object
        See :func:`~modalign.shards.shard_plan.plan_shards`.
    out : str or Path
        The folder or an address such as ``s3://bucket/features``, made if it is not there.
    job : EmbeddingJob or None, default=None
        The encoder and the types; by default the embedded one.
    shards : int or None, default=None
        Number of shards of a list of images; by default of 4,096 images each.
    only : tuple of (int, int) or None, default=None
        (i, n): of all shards those with the numbers i, i + n, i + 2 n, …; for n independent calls.
    scheduler : callable or None, default=None
        Executes the tasks; by default this process. See :func:`~modalign.shards.workers.in_processes` and
        :func:`~modalign.shards.ray_tasks.on_ray`.
    addresses : bool, default=False
        As for :func:`~modalign.load_items`.
    verify : bool, default=False
        Read the rows of all existing parts, and compute those again that are damaged. Without it, this is done for
        parts whose hash differs from the one in the manifest.

    Raises
    ------
    InputError
        The folder holds something else, or parts with other settings or of another source.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> from modalign.shards import embed_shards
    >>> embed_shards(load_digits().select(range(30)), "vectors", shards=3).computed
    3
    >>> ma.Features.open("vectors").vectors.shape
    (30, 128)
    """
    store = part_store(out)
    return _run(plan_shards(source, shards, addresses=addresses), store, job or EmbeddingJob(), only, scheduler, verify)


def predict_shards(
    model: str | Path,
    source: Any,
    out: str | Path,
    *,
    encoder: str | None = None,
    reject: float | None = None,
    shards: int | None = None,
    only: tuple[int, int] | None = None,
    scheduler: Scheduler | None = None,
    addresses: bool = False,
    verify: bool = False,
) -> ShardedRun:
    """Write predictions of a saved model for all images of a source as a folder of parts; see :func:`embed_shards`.

    A part has the columns ``id``, ``sha256``, ``name``, ``probability``, ``rejected`` if rejection was requested,
    ``probabilities`` in the order of the model's classes, which are in the metadata, and ``reason``.

    Parameters
    ----------
    model : str or Path
        Folder of the model.
    source, out, shards, only, scheduler, addresses, verify : object
        As for :func:`embed_shards`.
    encoder, reject : str or None, float or None
        As for :func:`modalign.load` and :meth:`modalign.Classifier.predict`.
    """
    job, store = AnsweringJob(os.path.abspath(model), encoder, reject), part_store(out)
    return _run(plan_shards(source, shards, addresses=addresses), store, job, only, scheduler, verify)


def in_this_process(job: Job, tasks: Sequence[Task], store: PartStore, started: Any = None) -> Iterator[PartReport]:
    """One shard after the other, here."""
    worker = ShardWorker(job, store, started)
    yield from map(worker.run, tasks)


def _run(
    plan: Plan, store: PartStore, job: Job, only: tuple[int, int] | None, scheduler: Scheduler | None, verify: bool
) -> ShardedRun:
    require("pyarrow.parquet", "parquet")
    if only is not None and not 0 <= only[0] < only[1]:
        raise InputError(f"Expected {argument('shard')} as i/n with i from 0 to n − 1, got {only[0]}/{only[1]}.")
    store.prepare()
    started = job.like(settings_of(store)).start()
    settings = started[1]
    job = job.like(settings)
    agree_on_card(store, job.kind, plan.source, settings)
    text = settings_text(job.kind, settings)
    tasks = [Task(shard, part_file(key_of(shard, text))) for shard in plan.shards]
    mine = tasks if only is None else tasks[only[0] :: only[1]]
    kept = _sound_parts(store, mine, verify)
    there = store.names()
    missing = [task for task in mine if task.file not in there]
    found: dict[str, PartReport] = {}
    if missing:
        reports = in_this_process(job, missing, store, started) if scheduler is None else scheduler(job, missing, store)
        for report in track(reports, "Shards", total=len(missing), unit="shards"):
            found[report.file] = report
    computed = list(found.values())
    there = store.names()
    finished = all(task.file in there for task in tasks)
    if finished:
        others = [task for task in tasks if task.file not in kept | found]
        found |= kept | _reports_of_others(store, others)
        computed = [found[task.file] for task in tasks]
        close_set(store, job.kind, settings, computed, plan.class_names)
        store.finish()
    rows, unreadable = sum(r.rows for r in computed), sum(r.unreadable for r in computed)
    return ShardedRun(len(tasks), len(missing), len(mine) - len(missing), rows, unreadable, finished, plan.notes)


def _sound_parts(store: PartStore, tasks: Sequence[Task], verify: bool) -> dict[str, PartReport]:
    """Reports of existing parts; removes those that are damaged.

    Without ``verify`` these are the parts that the manifest names, whose hashes the new manifest needs in any case.
    """
    there, known = store.names(), known_hashes(store)
    checked = [task for task in tasks if task.file in there and (verify or task.file in known)]

    def report_of(task: Task) -> PartReport | None:
        return sound_report(store, task.file, task.shard.name, known.get(task.file), pages=verify)

    found: dict[str, PartReport] = {}
    with ThreadPoolExecutor(1 if verify else _READERS) as pool:  # one table of rows in memory
        for task, report in zip(checked, pool.map(report_of, checked), strict=True):
            if report is None:
                store.remove(task.file)
            else:
                found[task.file] = report
    return found


def _reports_of_others(store: PartStore, tasks: Sequence[Task]) -> dict[str, PartReport]:
    """Reports of parts that other processes wrote, by name.

    A part that the manifest names keeps its hash there, so that damage to it is found by the run that it belongs to.
    """
    known = known_hashes(store)
    with ThreadPoolExecutor(_READERS) as pool:
        reports = list(pool.map(lambda task: read_report(store, task.file, task.shard.name), tasks))
    return {r.file: replace(r, sha256=known.get(r.file, r.sha256)) for r in reports}
