"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modalign.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A stream that becomes the file ``path`` when the block ends, and leaves no trace where the block fails.

    It stands beside ``path`` under a name of this process, and is on the disk before it is renamed: after a power
    failure there is the old file or the new one.

    Raises
    ------
    InputError : the file cannot be written, with the system's reason.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"Expected '{path}' to be writable, got: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write(path: str | Path, content: bytes | str) -> Path:
    """Write a whole file, text as UTF-8; see :func:`replacing`. Returns its path."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)
