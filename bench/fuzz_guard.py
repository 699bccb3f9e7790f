"""Record the side effects of a call: files written elsewhere, programs started, requests to the network.

Python reports such things to audit hooks, whichever library does them. A hook cannot be removed, so there is one, which
records only while a :class:`Guard` is active."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2,
            "os.truncate": 1, "os.chmod": 1, "os.chown": 1}  # fmt: skip
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile"}
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
_active: Guard | None = None


class Guard:
    """Records what happens inside of a ``with`` block.

    Parameters
    ----------
    allowed : sequence of Path
        Folders in which files may be written.

    Attributes
    ----------
    outside, network : list of str
        Files written elsewhere and programs started; requests.
    """

    def __init__(self, allowed: list[Path]) -> None:
        self.outside: list[str] = []
        self.network: list[str] = []
        self._allowed = tuple(str(folder.resolve()) + os.sep for folder in allowed)

    def __enter__(self) -> Self:
        global _active
        _install()
        _active = self
        return self

    def __exit__(self, *_: object) -> None:
        global _active
        _active = None

    def see(self, event: str, arguments: tuple[object, ...]) -> None:
        """One event of the interpreter."""
        if event in _NETWORK:
            self.network.append(f"{event} {arguments[-1]!r}"[:200])
        elif event in _PROGRAMS:
            self.outside.append(f"{event} {arguments[0]!r}"[:200])
        elif changes_files(event, arguments):
            for path in arguments[: _CHANGES.get(event, 1)]:
                self._written(event, path)

    def _written(self, event: str, path: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path) == os.devnull:
            return  # a descriptor, opened and seen before
        place = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(path)))), "")
        if not place.startswith(self._allowed):
            self.outside.append(f"{event} {os.fsdecode(path)!r}"[:200])


def changes_files(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an event of the interpreter makes, changes, renames or removes a file or folder."""
    if event != "open":
        return event in _CHANGES
    _, mode, flags = arguments
    return bool(isinstance(mode, str) and set(mode) & set("wax+")) or bool(isinstance(flags, int) and flags & _WRITING)


_installed = False


def _install() -> None:
    global _installed
    if not _installed:
        sys.addaudithook(lambda event, arguments: _active.see(event, arguments) if _active is not None else None)
        _installed = True
