"""Measurements of sharded work: ``python -m bench.scale kill``, ``efficiency``, ``ray`` and ``model``.

``kill`` starts two worker processes, kills one of them with signal 9 at a random time, and finishes the set in one
process: rows must be unique and every part equal to that of an undisturbed process. ``efficiency`` compares one worker
with two, both on one thread each, in turns. ``ray`` computes the parts by tasks of Ray. ``model`` computes what a
billion images on a hundred machines cost and what saturates first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from modalign.core.child_processes import usable_cpus
from modalign.core.errors import ModalignError
from modalign.data.digits import load_digits
from modalign.data.items import Items
from modalign.shards import embed_shards
from modalign.shards.ray_tasks import on_ray
from modalign.shards.shard_jobs import EmbeddingJob
from modalign.shards.workers import in_processes

SHARDS = 24


@dataclass(frozen=True)
class TimedJob(EmbeddingJob):
    """Computes vectors ``repeats`` times; each call appends its wall and processor time to a file of its process."""

    repeats: int = 1
    log: str = ""

    def start(self) -> tuple[Callable[[Items], Any], dict[str, Any]]:
        """As the base class."""
        compute, settings = super().start()

        def timed(items: Items) -> Any:
            began, cpu = time.time(), time.process_time()
            for _ in range(self.repeats):
                rows = compute(items)
            entry = {"began": began, "ended": time.time(), "cpu": time.process_time() - cpu}
            with open(Path(self.log) / f"{os.getpid()}.jsonl", "a") as file:
                file.write(json.dumps(entry) + "\n")
            return rows

        return timed, settings


def parts(folder: Path) -> dict[str, bytes]:
    """Name and bytes of every part."""
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def kill(times: int, seed: int = 0) -> None:
    """Kill a random worker at a random time, again and again."""
    draw, digits = random.Random(seed), load_digits().select(range(600))
    workers = min(2, usable_cpus())
    with tempfile.TemporaryDirectory() as root:
        reference = Path(root) / "reference"
        embed_shards(digits, reference, shards=SHARDS)
        expected = parts(reference)
        began = time.monotonic()
        embed_shards(digits, Path(root) / "timed", shards=SHARDS, scheduler=in_processes(workers, 1))
        whole = time.monotonic() - began
        killed = recomputed = different = repeated = left = 0
        for number in range(times):
            out = Path(root) / f"run{number}"
            with ThreadPoolExecutor(1) as pool:
                run = pool.submit(embed_shards, digits, out, shards=SHARDS, scheduler=in_processes(workers, 1))
                time.sleep(draw.uniform(0, whole))
                victims = active_children()
                if victims:
                    os.kill(draw.choice(victims).pid or 0, signal.SIGKILL)
                failed = run.exception()
                assert failed is None or isinstance(failed, ModalignError), failed
                killed += failed is not None
            run_again = embed_shards(digits, out, shards=SHARDS)
            recomputed += run_again.computed
            rows = [name for path in out.glob("part-*") for name in parquet.read_table(path)["id"].to_pylist()]
            repeated += len(rows) - len(set(rows)) + abs(len(rows) - len(digits))
            different += parts(out) != expected
            left += len(list(out.glob(".modalign-*")))
            print(f"{number + 1}: killed {killed}, different {different}, rows lost or twice {repeated}", flush=True)
        print(
            f"{times} runs of {workers} workers × 1 thread, {SHARDS} shards: {killed} ended by the kill, "
            f"{recomputed} of {times * SHARDS} shards computed by the second run, {different} sets with other bytes, "
            f"{repeated} rows lost or twice, {left} temporary files left"
        )


def efficiency(repeats: int, rounds: int) -> None:
    """One worker against two, one thread each, in turns; shard work alone, without the start of the processes."""
    digits, found = load_digits(), {1: [], 2: []}
    for _ in range(rounds):
        for workers in found:
            with tempfile.TemporaryDirectory() as root:
                log = Path(root) / "log"
                log.mkdir()
                job = TimedJob(repeats=repeats, log=str(log), compute_type="float32")
                embed_shards(digits, Path(root) / "out", job, shards=32 * workers, scheduler=in_processes(workers, 1))
                entries = [json.loads(line) for file in log.iterdir() for line in file.read_text().splitlines()]
            wall = max(e["ended"] for e in entries) - min(e["began"] for e in entries)
            cpu = sum(e["cpu"] for e in entries)
            found[workers].append((wall, cpu))
            print(
                f"{workers} × 1 thread: {wall:.1f} s, {cpu:.1f} CPU s, CPU/wall {cpu / wall / workers:.2f}", flush=True
            )
    one, two = (statistics.median(wall for wall, _ in found[k]) for k in (1, 2))
    cpu_one, cpu_two = (statistics.median(cpu for _, cpu in found[k]) for k in (1, 2))
    busy = min(cpu / wall / k for k, runs in found.items() for wall, cpu in runs)
    print(f"efficiency {one / (2 * two):.2f} by the clock; CPU(2) / CPU(1) = {cpu_two / cpu_one:.3f}; ")
    print(f"smallest CPU/wall per worker {busy:.2f}{'' if busy > 0.95 else ': the machine was not idle'}")


def ray(address: str) -> None:
    """The parts by tasks of Ray, against those of this process, and a configuration that would starve."""
    digits = load_digits().select(range(600))
    with tempfile.TemporaryDirectory() as root:
        embed_shards(digits, Path(root) / "here", shards=SHARDS)
        try:
            embed_shards(digits, Path(root) / "starving", shards=SHARDS, scheduler=on_ray(address, 10_000))
        except ModalignError as error:
            print(f"refused: {error}")
        began = time.monotonic()
        run = embed_shards(digits, Path(root) / "ray", shards=SHARDS, scheduler=on_ray(address, usable_cpus()))
        same = parts(Path(root) / "here") == parts(Path(root) / "ray")
        print(f"{run.computed} parts in {time.monotonic() - began:.0f} s with the start of Ray, equal bytes: {same}")


@dataclass(frozen=True)
class Cluster:
    """Estimated numbers; those of the machine are assumptions, those of the work are measured or counted."""

    images: int = 10**9
    image_bytes: int = 100_000
    per_archive: int = 10_000
    width: int = 512
    machines: int = 100
    cores: int = 64
    decode_seconds: float = 0.0038  # of one core, a JPEG of 512 × 512 pixels
    forward_seconds: float = 0.056  # of one core, ViT-B/32 in bfloat16
    gpu_images: float = 2500.0  # a second and GPU, ViT-B/32, as assumed
    network_bytes: float = 25e9 / 8  # a second and machine
    store_bytes: float = 100e9  # a second, all machines together
    core_price: float = 0.04  # an hour
    gpu_price: float = 2.5  # an hour
    put_price: float = 5e-6
    get_price: float = 4e-7


def model(cluster: Cluster) -> list[tuple[str, str]]:
    """What a billion images cost, and what saturates first, for machines with and without a GPU."""
    c = cluster
    archives = c.images // c.per_archive
    cores = c.cores * c.core_price
    vectors = c.images * (c.width * 2 + 32 + 24)
    rows = [
        ("bytes read", f"{c.images * c.image_bytes / 1e12:,.0f} TB in {archives:,} archives of {c.per_archive:,}"),
        ("bytes written", f"{vectors / 1e12:.2f} TB (float16 vectors, hashes, names)"),
        ("requests", f"{archives:,} GET, {archives:,} PUT, {archives // 1000:,} LIST of 1,000"),
        ("requests without archives", f"{c.images:,} GET: {c.images * c.get_price:,.0f} $ in place of "
                                      f"{archives * (c.get_price + c.put_price):,.2f} $"),
        ("manifest", f"{archives * 130 / 1e6:.0f} MB, {archives:,} ends of files to read if all were there"),
    ]  # fmt: skip
    for name, per_machine, price in (
        ("64 cores", c.cores / (c.decode_seconds + c.forward_seconds), cores),
        ("64 cores and a GPU", min(c.cores / c.decode_seconds, c.gpu_images), cores + c.gpu_price),
        ("64 cores and 8 GPUs", min(c.cores / c.decode_seconds, 8 * c.gpu_images), cores + 8 * c.gpu_price),
    ):
        limits = {
            "computing": per_machine * c.machines,
            "network of a machine": c.network_bytes / c.image_bytes * c.machines,
            "store": c.store_bytes / c.image_bytes,
        }
        first = min(limits, key=lambda key: limits[key])
        hours = c.images / limits[first] / 3600
        cost = hours * c.machines * price / (c.images / 1e6)
        rate = ", ".join(f"{key} {value:,.0f}" for key, value in limits.items())
        rows.append((f"{c.machines} × {name}", f"{hours:.1f} h, {cost:.2f} $ per million images; first: {first} "
                                              f"(images per second: {rate})"))  # fmt: skip
    return rows


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("kill", "efficiency", "ray", "model"))
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--address", default="local")
    given = parser.parse_args()
    if given.what == "kill":
        kill(given.times)
    elif given.what == "efficiency":
        efficiency(given.repeats, given.rounds)
    elif given.what == "ray":
        ray(given.address)
    else:
        print("\n".join(f"| {name} | {value} |" for name, value in model(Cluster())))


if __name__ == "__main__":
    from bench import scale  # other processes find the job there, and not in this script

    scale.main()
