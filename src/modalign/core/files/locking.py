"""One process at a time in a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modalign.core.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def sole_use(lock: str | Path, work: str, what: str = "a folder") -> Iterator[None]:
    """Hold a lock file while the block runs, and remove it afterwards.

    The operating system releases the lock when the process ends in whatever way; the file that is then left is taken
    over by the next one. File systems without locks are used without.

    Parameters
    ----------
    lock : str or Path
        Path of the lock file, in a folder that exists.
    work : str
        What is done in the folder, such as ``"another run writes masks"``.
    what : str, default="a folder"
        What is in use, for the message.

    Raises
    ------
    InputError
        Another process, or another block of this one, holds the lock.
    """
    path = Path(lock)
    descriptor = take_lock(
        path, f"Expected {what} that is not in use, in '{path.parent}' {work}; wait for it or choose another one."
    )
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def take_lock(path: Path, refusal: str) -> int:
    """The descriptor of a lock file that is held until it is closed, at the latest by the end of the process.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    refusal : str
        What to raise where another process, or this one, holds the lock.

    Raises
    ------
    InputError
        With ``refusal``.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise InputError(refusal) from None
        except OSError:  # a file system without locks
            return descriptor
        if sys.platform == "win32" or os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its owner removed it between our opening and locking it
