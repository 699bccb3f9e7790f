"""Settings of child processes: how they start, number of threads, and when they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process
from types import ModuleType

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that linear algebra libraries read when they are loaded."""


def usable_cpus() -> int:
    """Number of processors that this process may use; a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launched() -> tuple[int, int]:
    """Number of this process, and of all that torchrun or accelerate launch started together: (0, 1) without them."""
    count = os.environ.get("WORLD_SIZE", "1")
    rank = os.environ.get("RANK", "0")
    return (int(rank), int(count)) if count.isdecimal() and rank.isdecimal() and int(count) > 1 else (0, 1)


@contextmanager
def without_main() -> Iterator[None]:
    """Start new processes without running the caller's script, which then needs no ``__name__`` guard.

    The processes use nothing of it. A script without the guard would start the same work in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def follow_parent() -> None:
    """Called in a new process: leave Ctrl-C to the process that started it, and end when that one does."""

    def end_together() -> None:
        parent_process().join()  # type: ignore[union-attr]  # runs in a child alone
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one handles it
    threading.Thread(target=end_together, daemon=True).start()
