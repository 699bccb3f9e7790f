"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modalign.core.errors import InputError
from modalign.core.files.reading import local_path
from modalign.core.files.writing import make_folder, unwritable


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to be filled, which is renamed to ``path`` afterwards.

    It is removed if an error is raised.

    Raises
    ------
    InputError
        ``path`` is a folder that holds files, or cannot be written.
    """
    path = local_path(path)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"Expected a new or empty folder, '{path}' holds files; choose another name.")
    make_folder(path.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(path)  # in place of an empty folder too
        except OSError as error:
            raise unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
