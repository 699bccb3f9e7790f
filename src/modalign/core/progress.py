"""Progress bar for long computations: on standard error, in a terminal, if requested."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from modalign.core.child_processes import launched

T = TypeVar("T")

_visible: ContextVar[bool | None] = ContextVar("modalign_progress", default=None)


@contextmanager
def progress(visible: bool) -> Iterator[None]:
    """Show or hide the progress bars inside this context; by default they are shown in a terminal only."""
    token = _visible.set(visible)
    try:
        yield
    finally:
        _visible.reset(token)


def is_visible() -> bool:
    """Whether a bar started now would be shown."""
    wanted = _visible.get()
    if wanted is not None:
        return wanted
    return sys.stderr is not None and sys.stderr.isatty() and launched()[0] == 0


def track(steps: Iterable[T], description: str, total: int | None = None, unit: str = "steps") -> Iterator[T]:
    """Yield ``steps`` and update a progress bar; no overhead if it is hidden."""
    if not is_visible():
        yield from steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = len(steps) if total is None and isinstance(steps, Sized) else total
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, speed="")
        for step in steps:
            yield step
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, speed=f"{speed:.0f} {unit}/s" if speed else "")
