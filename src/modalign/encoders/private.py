"""Cache files and folders that only their owner can read, regardless of the umask."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from modalign.core.errors import InputError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700; existing folders are not changed."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises if it is a file


def private_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file, created with mode 0600 if it does not exist, and return its descriptor.

    Raises
    ------
    InputError
        The file is a link.
    """
    flags |= os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if path.is_symlink():  # also where O_NOFOLLOW does not exist
        raise InputError(f"Expected a file of the cache at '{path}', got a link; delete it.")
    return os.open(path, flags, 0o600)


def tighten(path: Path) -> None:
    """Restrict an existing file or folder to its owner; no effect if it belongs to another user."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode) and os.name != "nt":
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
