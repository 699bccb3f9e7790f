"""Peak memory of a computation, as measured by the kernel.

Python's tracer does not include allocations of torch and BLAS, and sampling misses peaks between two samples. Linux
records the highest resident size of a process, which the process can reset. The result is the increase of this value
over the resident size at the start. Free pages of the allocator are returned to the system first. GPU memory is not
measured; torch counts it.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Highest resident memory within a ``with`` block, above that at its start.

    Attributes
    ----------
    bytes : int or None, default=None
        After the block; None where the system keeps no such mark, or does not let it be set back.
    """

    bytes: int | None = None

    def __enter__(self) -> Self:
        self._start = None
        try:
            _hand_back()
            _RESET.write_text("5")  # "reset the peak resident set size", proc(5)
            self._start = _resident("VmRSS")
        except (OSError, AttributeError):
            pass  # another system than Linux, or no permission
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._start is not None:
            self.bytes = max(0, _resident("VmHWM") - self._start)


def _resident(what: str) -> int:
    """Bytes, from a line such as ``VmRSS:  225220 kB``."""
    found = re.search(rf"^{what}:\s+(\d+) kB", _STATUS.read_text(), flags=re.MULTILINE)
    if found is None:
        raise OSError(f"no {what} in {_STATUS}")
    return 1024 * int(found.group(1))


def _hand_back() -> None:
    """Return free heap pages to the system (glibc; elsewhere an AttributeError)."""
    ctypes.CDLL(None).malloc_trim(0)
