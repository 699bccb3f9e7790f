"""FeatureStore: vectors kept by what they are vectors of — the bytes of the image and the encoder's fingerprint.

::

    root/
      files.sqlite                       which file has which content; which contents are no images
      <fingerprint>-<view>/
        index.sqlite                     SHA-256 of an item's bytes → row
        vectors.f32                      rows of d little-endian float32, read as a memory map

A renamed, moved or copied image is found again; an edited one is not; another encoder, preprocessing or compute type
looks elsewhere. Tokens are not kept: at L·d numbers an image they are a hundred times the size of the vectors, and
whoever needs them usually trains on augmented views that no cache could hold.

How it survives being killed: vectors are appended and flushed to the disk *before* the index commits their rows. A
process that dies in between leaves bytes behind the last committed row, which the next writer overwrites. The index's
write lock is held from finding that row to the commit, so two processes never write to one place.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from PIL import __version__ as _PILLOW

from modalign.data.blobs import Identity
from modalign.encoders.database import Database
from modalign.errors import InputError

_FILES = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER,
                    content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE refused (content BLOB PRIMARY KEY, decoder TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID
"""
_INDEX = """
CREATE TABLE vectors (row INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE);
CREATE TABLE card (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
"""
_FLOAT = np.dtype("<f4")
_DECODER = f"pillow {_PILLOW}"  # another version may decode what this one could not


def default_cache() -> Path:
    """``$MODALIGN_CACHE``, else ``modalign`` in the user's cache folder of this operating system."""
    if chosen := os.environ.get("MODALIGN_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "modalign"


def is_settled(identity: Identity | None, now: int | None = None) -> bool:
    """Whether a file that was read just now may be recognised by its ``identity`` from now on.

    A file that changes within one tick of its file system's clock keeps its time stamps. So an identity is trusted
    only if its last change lies more than a tick before the reading: 0.1 s where stamps are fine-grained (some
    digits below the millisecond), 2.5 s where they are coarse (two seconds on FAT).

    Parameters
    ----------
    identity : (path, size, mtime_ns, ctime_ns, inode), taken before the file was read.
    now : nanoseconds since the epoch when reading began, the present by default.
    """
    if identity is None:
        return False
    _, _, mtime, ctime, _ = identity
    margin = 100_000_000 if ctime % 1_000_000 else 2_500_000_000
    return (time.time_ns() if now is None else now) - max(mtime, ctime) > margin


class FeatureStore:
    """A cache folder of image vectors that any number of encoders and processes may share.

    Parameters
    ----------
    root : the folder, made on first writing; :func:`default_cache` by default.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = default_cache() if root is None else Path(root).expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"Expected a folder for the feature cache, got the file '{self.root}'.")

    def files(self) -> FileIndex:
        """What is known about files, whatever the encoder; a context manager."""
        return FileIndex(self.root / "files.sqlite")

    def shelf(self, fingerprint: str, view: str, dim: int) -> Shelf:
        """The vectors of one encoder and view; a context manager."""
        return Shelf(self.root / f"{fingerprint[:20]}-{view}", fingerprint, view, dim)

    def __repr__(self) -> str:
        return f"FeatureStore('{self.root}')"


class FileIndex:
    """Which file has which content, so that a second run neither reads nor hashes, and what is no image.

    Like git's index: a file whose path, size, times and inode are as remembered has the content as remembered.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _FILES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def contents(self, identities: Sequence[Identity | None]) -> list[bytes | None]:
        """SHA-256 of each file's bytes where it is known, else None."""
        paths = [identity[0] for identity in identities if identity is not None]
        found = {
            row[:5]: row[5]
            for row in self._database.rows_in(
                "SELECT path, size, mtime, ctime, inode, content FROM files WHERE path IN ({})", paths
            )
        }
        return [None if identity is None else found.get(identity) for identity in identities]

    def remember(self, pairs: Iterable[tuple[Identity, bytes]]) -> None:
        """Record contents; only of identities that were settled when the file was read."""
        rows = [(*identity, content) for identity, content in pairs]
        if rows:
            with self._database.transaction():
                self._database.write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    def refusals(self, contents: Sequence[bytes]) -> dict[bytes, str]:
        """Contents known not to be decodable, with the reason."""
        query = f"SELECT content, reason FROM refused WHERE decoder = '{_DECODER}' AND content IN ({{}})"
        return dict(self._database.rows_in(query, contents))

    def refuse(self, reasons: Iterable[tuple[bytes, str]]) -> None:
        """Record why contents cannot be decoded."""
        rows = [(content, _DECODER, reason) for content, reason in reasons]
        if rows:
            with self._database.transaction():
                self._database.write("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", rows)


class Shelf:
    """The vectors of one encoder and view: an index and one growing file of rows.

    Parameters
    ----------
    folder : holds the two files.
    fingerprint, view, dim : what the vectors are; a folder of other vectors is refused.
    """

    def __init__(self, folder: Path, fingerprint: str, view: str, dim: int) -> None:
        self._path = folder / "vectors.f32"
        self._width = dim * _FLOAT.itemsize
        self._dim = dim
        self._index = Database(folder / "index.sqlite", _INDEX)
        mine = {"fingerprint": fingerprint, "view": view, "dim": str(dim)}
        if not self._card():
            with self._index.transaction():
                if not self._card():
                    self._index.write("INSERT INTO card VALUES (?, ?)", list(mine.items()))
        if self._card() != mine:
            raise InputError(f"Expected vectors of encoder {fingerprint[:12]} in '{folder}', got others; delete it.")

    def _card(self) -> dict[str, str]:
        return dict(self._index.rows("SELECT name, value FROM card"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def __len__(self) -> int:
        """Committed rows. They only ever grow, and a committed row never changes."""
        return self._index.rows("SELECT coalesce(max(row) + 1, 0) FROM vectors")[0][0]

    def find(self, contents: Sequence[bytes]) -> dict[bytes, int]:
        """Row of every content that is here."""
        return dict(self._index.rows_in("SELECT content, row FROM vectors WHERE content IN ({})", contents))

    def add(self, contents: Sequence[bytes], vectors: np.ndarray) -> None:
        """Append float32 rows (n, d), one a content; contents that are here already are left as they are."""
        assert vectors.shape == (len(contents), self._dim)
        with self._index.transaction():
            here = self.find(contents)
            fresh = {content: row for row, content in reversed(list(enumerate(contents))) if content not in here}
            rows = sorted(fresh.values())
            if not rows:
                return
            first = len(self)
            self._check_size(first)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            with open(descriptor, "wb", closefd=True) as file:
                file.seek(first * self._width)
                file.write(np.ascontiguousarray(vectors[rows], dtype=_FLOAT).tobytes())
                file.flush()
                os.fsync(file.fileno())  # the index must never know a row that a power failure can undo
            self._index.write(
                "INSERT INTO vectors VALUES (?, ?)", [(first + i, contents[row]) for i, row in enumerate(rows)]
            )

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The given rows (n,) as (n, d) float32, read-only: a memory map if they are consecutive, else a copy."""
        count = len(self)
        self._check_size(count)
        if not len(rows):
            return np.empty((0, self._dim), dtype=np.float32)
        table = np.memmap(self._path, dtype=_FLOAT, mode="r", shape=(count, self._dim))
        if len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all()):
            return table[rows[0] : rows[-1] + 1]
        gathered = np.asarray(table)[rows]
        gathered.flags.writeable = False
        return gathered

    def _check_size(self, rows: int) -> None:
        """A file shorter than its index says was cut by something else."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < rows * self._width:
            raise InputError(
                f"Expected at least {rows * self._width} bytes in '{self._path}', got {size}: it was cut or replaced; "
                f"delete the folder '{self._path.parent}' and the images are embedded again."
            )
