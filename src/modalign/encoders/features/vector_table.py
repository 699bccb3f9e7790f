"""On-disk storage of the vectors of one encoder and view, with a checksum per row that is verified on reading.

::

    folder/
      index.sqlite       SHA-256 of an item's bytes → row
      vectors.f32        rows of d little-endian float32, read as a memory map
      checksums.u64      one number per row, over the row and the item's SHA-256

Crash safety: vectors and checksums are appended and flushed to disk *before* the index commits their rows. A process
that is killed in between leaves bytes after the last committed row, which the next writer overwrites. The write lock of
the index is held until the commit, so two processes never write the same row. A row with a wrong checksum is removed
from the index, and its item is embedded again.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import numpy as np

from modalign.core.errors import InputError
from modalign.core.renaming import stacklevel_outside
from modalign.encoders.features.database import Database
from modalign.encoders.private import private_file, tighten

P = ParamSpec("P")
R = TypeVar("R")

_INDEX = """
CREATE TABLE vectors (row INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE);
CREATE TABLE card (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
"""
_FLOAT = np.dtype("<f4")
_CHECK = np.dtype("<u8")
_STAMPED_AT_ONCE = 4096
_BLOCK = 256  # rows whose checksums are computed at a time: they stay in the processor's cache


class DamagedRowsError(InputError):
    """Cached vectors did not match their checksums. They have been removed from the index."""


def remaking(function: Callable[P, R]) -> Callable[P, R]:
    """Call ``function`` again, with a warning, if it finds damaged rows, which are then recomputed.

    If the second call finds damaged rows as well, the disk is faulty and an InputError is raised.
    """

    @wraps(function)
    def again(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DamagedRowsError as error:
            warnings.warn(f"{error} They are embedded again.", stacklevel=stacklevel_outside())
        try:
            return function(*args, **kwargs)
        except DamagedRowsError as error:
            raise InputError(f"{error} This happened twice; check the disk or choose another cache folder.") from None

    return again


def checksums(contents: Sequence[bytes], vectors: np.ndarray) -> np.ndarray:
    r"""Return (n,) uint64 checksums of float32 rows (n, d) with keys ``contents``, n times 32 bytes.

    .. math:: h = \sum_j w_j x_j \bmod 2^{64}

    over the 32-bit words :math:`x_j` of key and row, with fixed odd weights :math:`w_j`. A change within one word
    always changes h; any other change is missed with a probability of about :math:`2^{-32}` or less. The cost is one
    pass over the rows, a fifth of that of CRC-32.
    """
    keys = np.frombuffer(b"".join(contents), dtype="<u4").reshape(len(contents), -1)
    weights = _weights(keys.shape[1] + vectors.shape[1])
    found = _products(keys, weights[: keys.shape[1]])
    for start in range(0, len(vectors), _BLOCK):
        words = vectors[start : start + _BLOCK].view("<u4")
        found[start : start + _BLOCK] += _products(words, weights[keys.shape[1] :])
    return found


def _products(words: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("ij,j->i", words, weights)  # unlike @, converts the words to 64 bits in small pieces


@cache
def _weights(count: int) -> np.ndarray:
    """Odd numbers from a bit generator, whose stream is the same in all versions of NumPy."""
    return np.random.Philox(key=0).random_raw(count) | np.uint64(1)


class VectorTable:
    """Vectors of one encoder and view: an index, a file of rows, and a file of checksums.

    Parameters
    ----------
    folder : Path
        Folder of the three files.
    fingerprint, view, dim : str
        Identity of the vectors; a folder with other vectors is refused.
    """

    def __init__(self, folder: Path, fingerprint: str, view: str, dim: int) -> None:
        self._folder = folder
        self._vectors, self._checksums = folder / "vectors.f32", folder / "checksums.u64"
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
        for path in (folder, self._vectors, self._checksums):
            tighten(path)
        if _size(self._checksums) < len(self) * _CHECK.itemsize and os.access(folder, os.W_OK):
            with self._index.transaction():
                self._stamp()

    def _card(self) -> dict[str, str]:
        return dict(self._index.rows("SELECT name, value FROM card"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def __len__(self) -> int:
        """Number of committed rows. It never decreases, and committed rows never change."""
        return self._index.rows("SELECT coalesce(max(row) + 1, 0) FROM vectors")[0][0]

    def find(self, contents: Sequence[bytes]) -> dict[bytes, int]:
        """Return the row of every stored content."""
        return dict(self._index.rows_in("SELECT content, row FROM vectors WHERE content IN ({})", contents))

    def add(self, contents: Sequence[bytes], vectors: np.ndarray) -> None:
        """Append float32 rows (n, d), one per content; contents that are stored already are skipped."""
        assert vectors.shape == (len(contents), self._dim)
        with self._index.transaction():
            here = self.find(contents)
            fresh = {content: row for row, content in reversed(list(enumerate(contents))) if content not in here}
            rows = sorted(fresh.values())
            if not rows:
                return
            self._cut()
            self._stamp()
            first, keys = len(self), [contents[row] for row in rows]
            table = np.ascontiguousarray(vectors[rows], dtype=_FLOAT)
            _append(self._vectors, table, first)
            _append(self._checksums, checksums(keys, table), first)
            self._index.write("INSERT INTO vectors VALUES (?, ?)", [(first + i, key) for i, key in enumerate(keys)])

    def read(self, contents: Sequence[bytes], place: Mapping[bytes, int] | None = None) -> np.ndarray:
        """Return the vectors of ``contents``, (n, d) float32, read-only; a memory map if the rows are consecutive.

        ``place`` is the result of :meth:`find`, if the caller has it already.

        Raises
        ------
        DamagedRowsError
            Rows do not match their checksums or are missing; see :func:`remaking`.
        """
        place = self.find(contents) if place is None else place
        rows = np.array([place.get(content, -1) for content in contents], dtype=np.int64)
        wrong = (rows < 0) | (rows >= self._whole_rows())
        here = np.flatnonzero(~wrong)
        found = self._mapped(rows[here])
        wrong[here] = self._differ([contents[i] for i in here.tolist()], rows[here], found)
        if wrong.any():
            self._strike(contents, rows, wrong)
        return found

    def _mapped(self, rows: np.ndarray) -> np.ndarray:
        if not len(rows):
            return np.empty((0, self._dim), dtype=np.float32)
        table = np.memmap(self._vectors, dtype=_FLOAT, mode="r", shape=(self._whole_rows(), self._dim))
        if len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all()):
            return table[rows[0] : rows[-1] + 1]
        gathered = np.asarray(table)[rows]
        gathered.flags.writeable = False
        return gathered

    def _differ(self, contents: Sequence[bytes], rows: np.ndarray, found: np.ndarray) -> np.ndarray:
        """(n,) which vectors differ from the written ones. In a cache without checksums, vectors must be finite."""
        stamped = _size(self._checksums) // _CHECK.itemsize
        if rows.max(initial=-1) >= stamped:  # read-only, and written by a version without checksums
            return ~np.isfinite(found).all(axis=1)
        if not len(rows):
            return np.zeros(0, dtype=bool)
        stored = np.memmap(self._checksums, dtype=_CHECK, mode="r", shape=(stamped,))
        return checksums(contents, found) != stored[rows]

    def _strike(self, contents: Sequence[bytes], rows: np.ndarray, wrong: np.ndarray) -> None:
        """Take items off the index, so that they are embedded again, and raise.

        Their rows stay taken, because another process may have mapped them.
        """
        lost = [(b"damaged row %d " % rows[i] + contents[i], contents[i]) for i in np.flatnonzero(wrong).tolist()]
        with self._index.transaction():
            self._cut()
            self._index.write("UPDATE vectors SET content = ? WHERE content = ?", lost)
        raise DamagedRowsError(
            f"{len(lost)} of {len(contents)} cached vectors in '{self._folder}' were damaged on the disk."
        )

    def _cut(self) -> None:
        """Inside a transaction: delete rows beyond the end of a truncated file, or with a damaged row number."""
        self._index.write("DELETE FROM vectors WHERE row >= ? OR row < 0", [(self._whole_rows(),)])

    def _stamp(self) -> None:
        """Inside a transaction: checksums for rows of a version that wrote none, as they are found if finite."""
        first, end = _size(self._checksums) // _CHECK.itemsize, min(len(self), self._whole_rows())
        for start in range(first, end, _STAMPED_AT_ONCE):
            stop = min(start + _STAMPED_AT_ONCE, end)
            query = "SELECT row, content FROM vectors WHERE row >= ? AND row < ?"
            owner = dict(self._index.rows(query, [start, stop]))
            table = np.memmap(self._vectors, dtype=_FLOAT, mode="r", shape=(end, self._dim))[start:stop]
            found = checksums([owner.get(row, bytes(32)) for row in range(start, stop)], table)
            found[~np.isfinite(table).all(axis=1)] ^= np.uint64(1)  # never matches, so the item is embedded again
            _append(self._checksums, found, start)

    def _whole_rows(self) -> int:
        return _size(self._vectors) // self._width


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, rows: np.ndarray, first: int) -> None:
    """Write rows from the row ``first`` on, and bring them to the disk."""
    with open(private_file(path, os.O_WRONLY), "wb") as file:
        file.seek(first * rows.strides[0])
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())  # the index must not contain a row that a power failure can undo
