"""Append lines of JSON to a file that several processes write."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from modalign.core.errors import InputError
from modalign.core.files.reading import parse_json
from modalign.core.files.writing import flush_folder, unwritable

if sys.platform != "win32":
    import fcntl

_BLOCK = 2**16


def append_line(path: str | Path, line: bytes, *, durable: bool = False) -> None:
    """Append a line of JSON to a file, which is created if it does not exist.

    Writers lock the file. An incomplete last line of a killed writer is removed; on file systems without locks it is
    terminated instead, so that the new line is readable.

    Parameters
    ----------
    path : str or Path
        The file to append to.
    line : bytes
        Without a line break.
    durable : bool, default=False
        Return only when the line is on the disk, so that it survives a power failure.

    Raises
    ------
    InputError
        The file cannot be written, with the reason; a link is not followed. A :class:`FullDiskError` if there is no
        room.
    """
    new = durable and not os.path.lexists(path)
    try:
        if os.path.islink(path):
            raise OSError(None, "it is a link; give the file that it leads to")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            locked = _lock(descriptor)
            start = _open_line(descriptor)
            if locked and start is not None and not _is_whole(descriptor, start):
                os.ftruncate(descriptor, start)
                start = None
            content = (b"" if start is None else b"\n") + line + b"\n"
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, "the disk is full")
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(Path(path), error) from None
    if new:
        flush_folder(Path(path).parent)


def _lock(descriptor: int) -> bool:
    """Wait for the other writers; return False if the file system has no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing the file releases it
    except OSError:
        return False
    return True


def _is_whole(descriptor: int, start: int) -> bool:
    """Return whether the last line, from ``start``, is complete except for its line break."""
    os.lseek(descriptor, start, os.SEEK_SET)
    content = bytearray()
    while block := os.read(descriptor, _BLOCK):
        content += block
    try:
        parse_json(content.decode(), "the last line")
    except (InputError, UnicodeDecodeError):
        return False
    return True


def _open_line(descriptor: int) -> int | None:
    """Return the start of a last line without line break, or None."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    position = end
    while position:
        size = min(_BLOCK, position)
        position = os.lseek(descriptor, position - size, os.SEEK_SET)
        block = os.read(descriptor, size)
        place = block.rfind(b"\n")
        if place >= 0:
            start = position + place + 1
            return None if start == end else start
    return 0 if end else None
