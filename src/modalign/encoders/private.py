"""Files and folders of the cache that only their owner can read, whatever the umask says."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from modalign.core.errors import InputError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> None:
    """Make a folder and its missing parents with mode 0700; existing folders are left as they are."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises if it is a file


def private_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file, made with mode 0600 if it is missing, and return its descriptor.

    Raises
    ------
    InputError
        The file is a link: what is written here must not end somewhere else.
    """
    flags |= os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if path.is_symlink():  # also where O_NOFOLLOW does not exist
        raise InputError(f"Expected a file of the cache at '{path}', got a link; delete it.")
    return os.open(path, flags, 0o600)


def tighten(path: Path) -> None:
    """Take all rights from everybody but the owner of an existing file or folder; silent where that is not ours."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode) and os.name != "nt":
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
