"""Read untrusted files: with size limits, without blocking, and with a clear message for damaged files."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from modalign.core.errors import InputError

TEXT_LIMIT = 2**28
"""Bytes of the largest text or JSON file that is read."""
DEPTH_LIMIT = 100
"""Lists and objects of JSON may be nested this deep."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+([^/].*)", re.DOTALL)
_INTEGERS = range(-(2**63), 2**64)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotRegularError(OSError):
    """A device, a pipe or a kernel file such as ``/proc/kmsg``; reading it could block or never end."""


@contextmanager
def open_regular(path: str | os.PathLike[str], what: str) -> Iterator[BinaryIO]:
    """Open a regular file for reading in binary mode. Devices, pipes and kernel files are refused.

    Parameters
    ----------
    path : str or Path
        The file. Links are followed.
    what : str
        Expected kind of file, for messages: "a split file".

    Yields
    ------
    file : BinaryIO
        Open for reading in binary mode.

    Raises
    ------
    InputError
        The file does not exist (the message suggests the nearest name), is not a regular file, or is not readable.
    """
    path = local_path(path)
    try:
        with open_file(path) as file:
            yield file
    except FileNotFoundError:
        require_path(path, what)
        raise InputError(f"Expected {what}, '{path}' does not exist.{_nearest(path)}") from None
    except OSError as error:
        raise InputError(f"Expected {what}, '{path}' {read_error_reason(error)}.") from None


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Like :func:`open_regular`, but raises OSError; :func:`read_error_reason` gives the message."""
    try:
        _require_regular(os.stat(path))
        # The file may have been replaced: a pipe would block without O_NONBLOCK, which files ignore.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a null byte
        raise OSError(errno.EINVAL, f"cannot be the name of a file: {error}") from None
    try:
        _require_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_error_reason(error: OSError) -> str:
    """Return the reason of an OSError as the end of a sentence about a file."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, NotRegularError):
        return "is not a regular file"
    if isinstance(error, PermissionError):
        return "cannot be read: no permission"
    return f"cannot be read: {error.strerror or error}"


def require_path(path: str | os.PathLike[str], what: str) -> None:
    """Raise an InputError if ``path`` is a URL (``https://…``, ``s3://…``), also in the spelling of :class:`Path`."""
    if reason := path_error(path):
        raise InputError(f"Expected {what} on this machine, got {reason}.")


def address_of(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Scheme and address (``s3://bucket/a.jpg``) of an address, also as :class:`Path` spells it; None for a path."""
    found = _ADDRESS.match(os.fspath(path))
    if not found or os.path.lexists(f"{found[1]}:"):
        return None
    scheme = found[1].lower()
    return scheme, f"{found[1]}://{'/' if scheme == 'file' else ''}{found[2]}"


def plain_path(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The path that a ``file://`` address names, with ``%20`` as a space, or that of :func:`local_path`."""
    local = local_path(path)
    found = address_of(path)
    if found is None or found[0] != "file":
        return path if found is not None or local == Path(path) else local
    plain = unquote(found[1].partition("://")[2])
    return plain[1:] if re.match(r"/[A-Za-z]:", plain) and os.name == "nt" else plain


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with ``~`` as the home folder, as a shell does, unless there is a file of that name.

    Raises
    ------
    InputError
        It is not a path, or empty text, which would be the current folder.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise InputError(f"Expected a path as text or as a Path, got {type(path).__name__} {path!r:.60}.")
    if not os.fspath(path):
        raise InputError("Expected a path, got empty text; '.' is the current folder.")
    home = os.fspath(path).startswith("~") and not os.path.lexists(path)
    return Path(os.path.expanduser(path)) if home else Path(path)


def path_error(path: str | os.PathLike[str]) -> str | None:
    """What an address is and what to do, or None for a path."""
    if (found := address_of(path)) is None:
        return None
    scheme, address = found
    advice = "download it first and give its path"
    if scheme == "file":
        advice = f"give the path '{address.removeprefix('file://').removeprefix('FILE://')}'"
    return f"the address '{address}', and addresses are not read; {advice}"


def is_regular(status: os.stat_result) -> bool:
    """Return whether it is a file on a disk, not a device, a pipe or a kernel file."""
    return stat.S_ISREG(status.st_mode) and status.st_dev not in _kernel_devices()


def _require_regular(status: os.stat_result) -> None:
    """Raise an OSError for folders, devices, pipes and kernel files, which could block or never end."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not is_regular(status):
        raise NotRegularError(errno.EINVAL, "not a regular file")


def read_bytes(path: str | os.PathLike[str], what: str, limit: int = TEXT_LIMIT) -> bytes:
    """Read a regular file of at most ``limit`` bytes; see :func:`open_regular`."""
    with open_regular(path, what) as file:
        data = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)  # all of that is allocated at once
    if len(data) > limit:
        raise InputError(f"Expected {what} of at most {limit / 2**20:g} MiB, '{path}' is larger.")
    return data


def read_text(path: str | os.PathLike[str], what: str, limit: int = TEXT_LIMIT) -> str:
    r"""Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; see :func:`read_bytes`.

    Line ends are converted to ``\n``.
    """
    data = read_bytes(path, what, limit)
    encoding = json.detect_encoding(data) if data[:2] in (b"\xff\xfe", b"\xfe\xff", b"\0\0") else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"Expected {what} in UTF-8, '{path}' is not (byte {error.start}); save it as UTF-8.") from None


def read_json(path: str | os.PathLike[str], what: str, limit: int = TEXT_LIMIT) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : str or os.PathLike
        The file to read.
    what : str
        Expected kind of file, for messages: "a split file".
    limit : int, default=TEXT_LIMIT
        Largest size in bytes. Parsing takes up to about 20 times as much memory.

    Returns
    -------
    content : dict, list, str, int, float, bool or None
        At most :data:`DEPTH_LIMIT` levels deep; integers fit into 64 bits; numbers are finite; keys of an object are
        unique; strings can be encoded as UTF-8.

    Raises
    ------
    InputError
        The file cannot be read or violates one of these limits.
    """
    return parse_json(read_text(path, what, limit), f"'{path}'", what)


def parse_json(text: str, origin: str, what: str = "JSON") -> Any:
    """Parse JSON with the guarantees of :func:`read_json`; ``origin`` names the source in messages."""
    try:
        content = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
        if _deeper_than(content, DEPTH_LIMIT):
            raise RecursionError
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeEncodeError:
        reason = "a string holds half of a surrogate pair"
    except RecursionError:
        reason = f"it is nested deeper than {DEPTH_LIMIT} levels"
    except ValueError as error:
        reason = str(error)
    else:
        return content
    raise InputError(f"Expected {what}, {origin} is not valid JSON: {reason}; correct it or write it again.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice[:80]}' appears twice in one object")
    return content


def _integer(digits: str) -> int:
    if len(digits) > 20 or (value := int(digits)) not in _INTEGERS:
        raise ValueError(f"the integer {digits[:20]}… does not fit into 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is not finite")
    return value


def _deeper_than(content: Any, limit: int) -> bool:
    level = [content]
    for _ in range(limit + 1):
        containers = [value for value in level if isinstance(value, (dict, list))]
        if not containers:
            return False
        level = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]
    return True


@cache
def _kernel_devices() -> frozenset[int]:
    """Device numbers of kernel file systems, whose "regular" files may block or never end."""
    found = set()
    for root in ("/proc", "/sys"):
        with suppress(OSError):
            found.add(os.stat(root).st_dev)
    with suppress(OSError):
        found.discard(os.stat("/").st_dev)  # no such file system is mounted there
    return frozenset(found)


def _nearest(path: Path) -> str:
    """Return `` Did you mean 'x'?`` with the nearest existing name in the same folder, or ""."""
    try:
        names = [entry.name for entry in os.scandir(path.absolute().parent)]
    except OSError:
        return ""
    alike = [name for name in names if get_close_matches(path.stem, [Path(name).stem], cutoff=0.6)]
    close = get_close_matches(path.name, alike, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
