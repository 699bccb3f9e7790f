"""Progress bar for long computations: on standard error, in a terminal, if requested."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from modalign.core.child_processes import launched

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_visible: ContextVar[bool | None] = ContextVar("modalign_progress", default=None)
_shown: ContextVar[Progress | None] = ContextVar("modalign_bars", default=None)


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
    """Yield ``steps`` and update a progress bar; no overhead if it is hidden.

    A bar that starts while another one is shown is a line below it, until its own steps end.
    """
    if not is_visible():
        yield from steps
        return
    total = len(steps) if total is None and isinstance(steps, Sized) else total
    outer = _shown.get()
    bars = _new_bars() if outer is None else outer
    with bars if outer is None else nullcontext():
        task = bars.add_task(description, total=total, speed="")
        _shown.set(bars)
        try:
            for step in steps:
                yield step
                speed = bars.tasks[bars.task_ids.index(task)].speed
                bars.update(task, advance=1, speed=f"{speed:.0f} {unit}/s" if speed else "")
        finally:
            _shown.set(outer)
            bars.remove_task(task)


def _new_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
