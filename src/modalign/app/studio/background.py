"""Background work: one thread per lane, and at most one waiting job per kind."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modalign.core.errors import ModalignError


@dataclass
class LaneJob:
    """One piece of work.

    Attributes
    ----------
    kind : str
        Kind of the job; a second request of the same kind replaces one that has not begun.
    work : callable
        Called without arguments.
    due : float, default=0.0
        Not before this time of ``time.monotonic()``.
    began : float or None, default=None
        When it began.
    """

    kind: str
    work: Callable[[], Any] = field(repr=False)
    due: float = 0.0
    began: float | None = None


class Lane:
    """A thread that does one job after another, the one that is due first.

    Parameters
    ----------
    name : str
        Of the thread.
    changed : callable
        Called without arguments whenever a job begins or ends.
    """

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._wake = threading.Condition()
        self._waiting: dict[str, LaneJob] = {}
        self._running: LaneJob | None = None
        self._closed = False
        self.errors: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def request(self, kind: str, work: Callable[[], Any], delay: float = 0.0) -> None:
        """Do ``work`` after ``delay`` seconds, in place of work of the same kind that has not begun."""
        with self._wake:
            self._waiting[kind] = LaneJob(kind, work, time.monotonic() + delay)
            self._wake.notify_all()

    def state(self) -> dict[str, Any]:
        """Return the running job with its time, and the waiting jobs."""
        with self._wake:
            job = self._running
            seconds = None if job is None or job.began is None else round(time.monotonic() - job.began, 1)
            return {
                "running": None if job is None else job.kind,
                "seconds": seconds,
                "waiting": sorted(self._waiting),
                "errors": dict(self.errors),
            }

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until no job runs or waits; return whether this was reached in time."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._waiting and self._running is None, timeout)

    def close(self) -> None:
        """Begin no further job."""
        with self._wake:
            self._closed = True
            self._waiting.clear()
            self._wake.notify_all()

    def _next(self) -> LaneJob | None:
        with self._wake:
            while not self._closed:
                soonest = min(self._waiting.values(), key=lambda job: job.due, default=None)
                now = time.monotonic()
                if soonest is not None and soonest.due <= now:
                    self._running = self._waiting.pop(soonest.kind)
                    self._running.began = now
                    return self._running
                self._wake.wait(None if soonest is None else soonest.due - now)
        return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._changed()
            self.errors.pop(job.kind, None)
            try:
                job.work()
            except ModalignError as error:
                self.errors[job.kind] = str(error)
            except Exception as error:  # the page stays usable and shows the error
                traceback.print_exception(error)
                self.errors[job.kind] = f"unexpected {type(error).__name__}; see the terminal"
            with self._wake:
                self._running = None
                self._wake.notify_all()
            self._changed()
