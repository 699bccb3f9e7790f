"""Options of sharded work, which ``embed`` and ``predict`` share, and their output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modalign.cli.terminal import print_json, print_lines
from modalign.core.errors import InputError

if TYPE_CHECKING:
    from modalign.shards.sharded import Scheduler, ShardedRun

Shards = Annotated[
    int | None,
    typer.Option(min=1, help="Write a folder of parts: this number for images, one per archive for archives."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes, or tasks of Ray, that compute parts.")]
OneShard = Annotated[
    str | None, typer.Option("--shard", help="i/n: every n-th part from the i-th on; for arrays of jobs.")
]
Ray = Annotated[str | None, typer.Option(help="Address of a Ray cluster, auto, or local, that computes the parts.")]
Addresses = Annotated[bool, typer.Option("--addresses", help="Accept lists of addresses (https://, s3://) too.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read existing parts and compute damaged ones again.")]


def is_sharded(shards: int | None, workers: int | None, shard: str | None, ray: str | None) -> bool:
    """Return whether an option of sharded work was given."""
    return any(option is not None for option in (shards, workers, shard, ray))


def run_sharded(
    run: Callable[..., ShardedRun],
    source: Path,
    out: Path,
    *,
    shards: int | None,
    workers: int | None,
    shard: str | None,
    ray: str | None,
    addresses: bool,
    as_json: bool,
) -> None:
    """Run ``run(source, out, …)`` with the given options, and print a summary."""
    from modalign.core.files import address_of
    from modalign.shards.part_store import part_store

    place = str(part_store(out))
    if (address_of(out) or ("",))[0] == "memory":
        raise InputError(f"Expected --out that outlasts this command, got '{place}'; give a folder.")
    if out.suffix:
        raise InputError(f"Expected --out as the name of a folder for parts, got '{out}'.")
    if shard is not None and (workers is not None or ray is not None):
        raise InputError("Expected --shard i/n, which computes in this process, or --workers or --ray, got both.")
    found = run(source, out, shards=shards, only=_only(shard), scheduler=_scheduler(workers, ray), addresses=addresses)
    if as_json:
        print_json({"out": place, **asdict(found)})
        return
    parts = f"{found.computed} of {found.shards} parts computed, {found.skipped} were there"
    print_lines(f"{parts}; {found.rows} images, {found.unreadable} could not be used, in {place}", err=False)
    if not found.finished:
        print_lines("the set is not finished: other parts are missing; the run that finds all parts completes it")
    for note in found.notes:
        print_lines(f"note: {note}")


def _only(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match:
        raise InputError(f"Expected --shard as i/n, such as 0/8, got '{shard}'.")
    return int(match[1]), int(match[2])


def _scheduler(workers: int | None, ray: str | None) -> Scheduler | None:
    options: dict[str, Any] = {"count": workers or 1}
    if ray is not None:
        from modalign.shards.ray_tasks import on_ray

        return on_ray(ray, **options)
    if workers is None:
        return None
    from modalign.shards.workers import in_processes

    return in_processes(**options)
