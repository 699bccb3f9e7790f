"""Parallel execution of independent tasks in several single-threaded processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import torch

from modalign.core.child_processes import follow_parent, without_main
from modalign.core.errors import InputError, ModalignError, argument, current_options, options
from modalign.core.ray_cluster import ray_results
from modalign.methods import OTHER_METHODS

C_contra = TypeVar("C_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")
R = TypeVar("R")


class Worker(Protocol[C_contra, R_co]):
    """Interface of an object that executes a cell."""

    def run(self, cell: C_contra) -> R_co: ...


def run_in_parallel(
    make: Callable[..., Worker[C, R]], arguments: tuple[Any, ...], cells: Sequence[C], jobs: int
) -> Iterator[R]:
    """Return the result of ``make(*arguments).run`` for each cell, in the order of the cells.

    Parameters
    ----------
    make : callable
        Creates the worker, in this process or once in each of the others. A function or class of a module.
    arguments : tuple
        Arguments of ``make``; copied to every process.
    cells : sequence
        Cells to execute.
    jobs : int
        Number of parallel processes. 1 uses this process.

    Raises
    ------
    ModalignError
        A process was ended from outside.
    """
    jobs = min(jobs, max(1, len(cells)))
    registered = OTHER_METHODS.registered
    if jobs == 1 or not all(map(_importable, registered.values())):
        yield from map(make(*arguments).run, cells)
        return
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(make, arguments, current_options(), registered),
    )
    try:
        with without_main():
            found = pool.map(_run, cells)  # starts the processes
        yield from found
    except KeyboardInterrupt:  # do not wait for runs that may take minutes; the finished ones are in the record
        for worker in list(pool._processes.values()):
            worker.terminate()
        raise
    except BrokenProcessPool:
        raise ModalignError(
            "A process of the comparison was ended from outside, often because memory is full; compare with fewer at a "
            f"time ({argument('jobs', '1')}). With {argument('record')} the finished runs are kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def run_on_ray(
    make: Callable[..., Worker[C, R]], arguments: tuple[Any, ...], cells: Sequence[C], jobs: int, address: str
) -> Iterator[R]:
    """The same as tasks of a Ray cluster, ``jobs`` at a time; see :func:`~modalign.core.ray_cluster.ray_results`.

    The files that the arguments name must have the same paths on all machines.
    """
    registered = OTHER_METHODS.registered
    for cls in registered.values():
        if not _importable(cls):
            raise InputError(f"Expected methods of a module on Ray, {cls.__qualname__} is of the caller's script.")
    calls = ((make, arguments, cell, current_options(), registered) for cell in cells)
    found: dict[int, R] = {}
    following = 0
    for number, result in ray_results(address, _run_task, calls, count=jobs, option="jobs"):
        found[number] = result[0]
        while following in found:
            yield found.pop(following)
            following += 1


def _importable(cls: type) -> bool:
    """Return whether another process, which does not run the caller's script, can import the class."""
    return cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__


_own: list[tuple[Worker[Any, Any], Mapping[str, str] | None]] = []  # of a process that works for another


def _start(
    make: Callable[..., Worker[Any, Any]],
    arguments: tuple[Any, ...],
    names: Mapping[str, str] | None,
    registered: Mapping[str, type],
) -> None:
    follow_parent()
    torch.set_num_threads(1)
    OTHER_METHODS.registered.update(registered)
    _own.append((make(*arguments), names))


def _run(cell: Any) -> Any:
    worker, names = _own[0]
    with options(names):
        return worker.run(cell)


_kept: list[tuple[str, Worker[Any, Any]]] = []  # of a process of Ray: what its worker was made of, and the worker


def _run_task(
    make: Callable[..., Worker[Any, Any]],
    arguments: tuple[Any, ...],
    cell: Any,
    names: Mapping[str, str] | None,
    registered: Mapping[str, type],
) -> tuple[Any] | str:
    """The result of a cell, or a sentence why there is none; called in a process of Ray."""
    torch.set_num_threads(1)
    OTHER_METHODS.registered.update(registered)
    made_of = repr((make, arguments))
    try:
        with options(names):
            if not _kept or _kept[0][0] != made_of:
                _kept[:] = [(made_of, make(*arguments))]
            return (_kept[0][1].run(cell),)
    except ModalignError as error:
        return str(error)
