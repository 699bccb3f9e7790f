"""Atomic writing: a file exists completely or not at all, even if the writing process is killed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modalign.core.errors import FullDiskError, InputError
from modalign.core.files.reading import local_path, require_path

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\.modalign-[0-9a-f]{16}\.tmp")
_SAFE_AGE = 24 * 3600.0  # seconds; only for file systems without locks
_PROBE = bytes(4096)  # written to check for free space
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_LONGEST_NAME = 255  # bytes, if the file system does not report a limit


@contextmanager
def replacing(
    path: str | Path, *, private: bool = False, overwrite: bool = True, durable: bool = True
) -> Iterator[BinaryIO]:
    """Context manager for a stream that becomes the file ``path`` on success; on failure nothing remains.

    The content is written to a temporary file beside ``path``, flushed to disk, and renamed. After a power failure,
    ``path`` is the old file or the new one. The temporary file has a random name, is created exclusively, and follows
    no link. Temporary files of killed writers are removed (see :func:`remove_temporary_files`).

    Parameters
    ----------
    path : str or Path
        The file to write. A link is replaced, not followed.
    private : bool, default=False
        Create the file with mode 0600. Otherwise the umask applies.
    overwrite : bool, default=True
        Whether to replace an existing file. If False, an existing file is kept and the new content is dropped.
    durable : bool, default=True
        Whether to wait for the disk. If False, the file may be empty after a power failure: for caches.

    Yields
    ------
    file : BinaryIO
        Open for writing in binary mode.

    Raises
    ------
    InputError
        The file cannot be written, with the reason of the operating system.
    """
    path = local_path(path)
    temporary = None
    try:
        _require_regular(_mode(path))
        remove_temporary_files(path.parent)
        temporary, descriptor = _create_temporary(path.parent, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
            if sys.platform != "win32":  # while the lock is held, so that no sweep comes in between
                _publish(temporary, path, overwrite)
        if sys.platform == "win32":  # an open file cannot be renamed there
            _publish(temporary, path, overwrite)
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write(
    path: str | Path, content: bytes | str, *, private: bool = False, overwrite: bool = True, durable: bool = True
) -> Path:
    """Write a file atomically, text as UTF-8, and return its path; see :func:`replacing`."""
    with replacing(path, private=private, overwrite=overwrite, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return local_path(path)


def check_writable(path: str | Path, *, folder: bool = False, append: bool = False) -> None:
    """Raise unless ``path`` can be written; to be called before a long computation.

    A small file is written next to ``path`` and removed again, because permissions are not sufficient: a file system
    may be read-only or full, and permission checks always succeed for root.

    Parameters
    ----------
    path : str or Path
        The file or folder that will be written.
    folder : bool, default=False
        Whether ``path`` is a folder that will be created, with its parents, if it does not exist.
    append : bool, default=False
        Whether an existing file will be appended to.

    Raises
    ------
    InputError
        The path cannot be written, for example because the parent is not a folder.
    """
    path = local_path(path)
    require_path(path, "a place to write to")
    try:
        mode = _mode(path)
        if folder:
            if mode is not None and not stat.S_ISDIR(mode):
                raise InputError(f"Expected a folder, '{path}' is a file; choose another name.")
            parent = next((p for p in (path, *path.parents) if os.path.lexists(p)), Path(path.anchor or "."))
            if not parent.exists():
                raise FileNotFoundError(errno.ENOENT, f"'{parent}' is a link to a place that does not exist")
        else:
            _require_regular(mode)
            parent = path.parent
            if append and mode is not None:
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)))
                return
        _require_short_names(path, parent)
        remove_temporary_files(parent)
        temporary, descriptor = _create_temporary(parent, 0o600)
        try:
            os.write(descriptor, _PROBE)
        finally:
            os.close(descriptor)
            temporary.unlink()
    except OSError as error:
        raise unwritable(path, error) from None


def make_folder(folder: str | Path) -> Path:
    """Create a folder with its parents if it does not exist; raise an InputError on failure."""
    folder = local_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def require_own_folder(folder: str | Path, holds: str, card: str, is_own: Callable[[str], bool]) -> None:
    """Raise unless ``folder`` can be written and is empty or contains an earlier result of the same kind.

    Files of a killed writer are accepted, so that the same command can be repeated.

    Parameters
    ----------
    folder : str or Path
        Created later if it does not exist.
    holds : str
        Expected content, for messages: "a model".
    card : str
        File whose presence identifies an earlier result.
    is_own : callable
        Whether a file of this name is accepted without the card.
    """
    folder = local_path(folder)
    check_writable(folder, folder=True)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    foreign = [name for name in names if not _TEMPORARY.fullmatch(name) and not is_own(name)]
    if foreign and card not in names:
        raise InputError(
            f"Expected an empty folder or one with {holds}, '{folder}' holds other files, such as '{foreign[0]}'; "
            "choose another name."
        )


def remove_temporary_files(folder: str | Path) -> int:
    """Remove temporary files of killed writers from ``folder`` and return their number.

    A writer locks its temporary file, and the operating system releases the lock when the process ends. A file without
    a lock is therefore stale. If locks are not available, only files older than a day are removed. Never raises.
    """
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    removed += _remove_abandoned(entry.path)
    return removed


def _create_temporary(folder: Path, mode: int) -> tuple[Path, int]:
    """Create a locked file with a random name; return its path and descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f".modalign-{secrets.token_hex(8)}.tmp"
        descriptor = os.open(path, flags, mode)
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:  # swept before it was locked
                os.close(descriptor)
                continue
        return path, descriptor


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, fails if the file exists
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(temporary, path)


def _remove_abandoned(path: str) -> bool:
    if sys.platform == "win32":
        if time.time() - os.stat(path).st_mtime < _SAFE_AGE:
            return False
        os.unlink(path)
        return True
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if time.time() - os.fstat(descriptor).st_mtime < _SAFE_AGE:
            return False
    else:
        os.unlink(path)
        return True
    finally:
        os.close(descriptor)
    os.unlink(path)
    return True


def _mode(path: Path) -> int | None:
    """Return the mode of ``path``, or None if it does not exist; raise an OSError if it cannot exist."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except ValueError as error:  # a null byte
        raise OSError(errno.EINVAL, str(error)) from None


def _require_regular(mode: int | None) -> None:
    """Raise an OSError if ``path`` exists and is not a regular file."""
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a device or a pipe and not a regular file")


def _require_short_names(path: Path, parent: Path) -> None:
    """Raise an OSError if a part of ``path`` below ``parent`` is longer than the file system allows."""
    try:
        longest = os.pathconf(parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = _LONGEST_NAME
    for part in path.parts[len(parent.parts) :]:
        if len(os.fsencode(part)) > longest:
            raise OSError(errno.ENAMETOOLONG, f"File name too long ({len(os.fsencode(part))} bytes, at most {longest})")


def flush_folder(folder: Path) -> None:
    """Flush a rename to disk, on systems that can flush folders."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def unwritable(path: Path, error: OSError) -> InputError:
    """Return the error for a ``path`` that cannot be written."""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and not os.path.lexists(path.parent):
        reason = f"its folder '{path.parent}' does not exist"
    kind = FullDiskError if error.errno in _FULL else InputError
    return kind(f"Expected '{path}' to be writable, got: {reason}.")
