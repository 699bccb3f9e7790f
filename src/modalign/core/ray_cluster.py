"""Calls as tasks of a Ray cluster. Ray transfers arguments and small results only; each task writes its own files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from modalign.core.child_processes import THREAD_VARIABLES
from modalign.core.errors import InputError, ModalignError, argument, require

AUTO, LOCAL = "auto", "local"
"""In place of an address: the cluster that this machine belongs to; start Ray on this machine."""
_PATIENCE = 3.0  # seconds until a cluster has to answer; Ray itself tries for minutes
_OBJECTS = 2**28  # bytes of Ray's object store on this machine; only names and reports go through it
_RETRIES = 3  # of a task whose process or machine is lost; what it commits, it commits once


def ray_results(
    address: str,
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    *,
    count: int,
    threads: int = 1,
    option: str = "workers",
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the call, result) of ``function(*call)`` for each call, in the order in which they end.

    Needs ``modalign[ray]`` on all machines of the cluster. A task whose process is lost is retried.

    Parameters
    ----------
    address : str
        Of the cluster, ``"auto"`` for the one that this machine belongs to, or ``"local"`` to start one here.
    function : callable
        A function of a module. A sentence (str) that it returns is raised as a ModalignError.
    calls : iterable of tuple
        Arguments, which are sent to the machine that computes.
    count : int
        Number of parallel tasks.
    threads : int, default=1
        Processors of each task.
    option : str, default="workers"
        Name of the option for the number of tasks, for messages.

    Raises
    ------
    InputError
        The cluster cannot be reached, or has fewer processors than the tasks request, so that they would wait
        forever.
    ModalignError
        A task was lost or failed.
    """
    with _connected(address) as ray:
        _require_cpus(ray, count, threads, option)
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        remote = ray.remote(num_cpus=threads, max_retries=_RETRIES, runtime_env={"env_vars": variables})(_numbered)
        waiting = enumerate(calls)
        running = [remote.remote(function, *job) for _, job in zip(range(count), waiting, strict=False)]
        while running:
            done, running = ray.wait(running, num_returns=1)
            try:
                number, found = ray.get(done[0])
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())[:200]
                raise ModalignError(f"A task of Ray was lost: {reason}; run the same command again.") from None
            if isinstance(found, str):
                raise ModalignError(found)
            yield number, found
            if (job := next(waiting, None)) is not None:
                running.append(remote.remote(function, *job))


def _numbered(function: Callable[..., Any], number: int, call: tuple[Any, ...]) -> tuple[int, Any]:
    return number, function(*call)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "ray")
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    here = address == LOCAL
    if not here:
        _require_answer(os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address)
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


def _require_answer(address: str) -> None:
    """Raise unless something listens at ``host:port`` or ``ray://host:port``; "auto" is left to Ray."""
    if address == AUTO:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(
            f"Expected the address of a Ray cluster as host:port or ray://host:port, or {AUTO}, or {LOCAL} to start "
            f"one here, got '{address}'."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise InputError(
            f"Expected a Ray cluster at '{address}', it cannot be reached: {error.strerror or error}; give the address "
            f"that 'ray start --head' prints, or {LOCAL} to start one here."
        ) from None


def _require_cpus(ray: Any, count: int, threads: int, option: str) -> None:
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    if count < 1 or threads < 1 or count * threads > sum(nodes) or threads > max(nodes, default=0):
        raise InputError(
            f"Expected at most {int(sum(nodes))} processors, as many as the Ray cluster has (the largest machine has "
            f"{int(max(nodes, default=0))}), got {count} workers × {threads}; they would wait forever. Give "
            f"{argument(option, str(int(sum(nodes) // max(1, threads))))}."
        )
