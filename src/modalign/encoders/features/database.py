"""SQLite files that several processes read and write concurrently."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modalign.core.errors import CacheError, FullCacheError, InputError
from modalign.encoders.private import private_file, private_folder, tighten

_APPLICATION = 0x6D616C6E  # "maln": identifies files of this library
_FORMAT = 1
_AT_ONCE = 500  # variables in one query; SQLite allows 999 everywhere
_PATIENCE = 120.0  # seconds to wait for another process; a commit takes milliseconds


class Database:
    """SQLite file with a fixed schema; usable from several threads and processes.

    Writes take place in :meth:`transaction`, which holds the write lock of the file from its first statement, so data
    read inside cannot change before the write. If a process is killed, a transaction is either complete or has no
    effect.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._explained():
            private_folder(path.parent)
            tighten(path)
            if path.is_symlink() or not path.exists():
                os.close(private_file(path))  # SQLite gives its journal the rights of the database
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._recognize(schema)
            except BaseException:
                self._connection.close()
                raise

    def _recognize(self, schema: str) -> None:
        if self._stamp() == (0, 0):
            with self.transaction():
                if self._stamp() == (0, 0):
                    if self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise InputError(
                            f"Expected a feature index at '{self.path}', got a database of something else."
                        )
                    for statement in schema.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
        if self._stamp() != (_APPLICATION, _FORMAT):
            raise InputError(
                f"Expected a feature index of format {_FORMAT} at '{self.path}', got {self._stamp()[1] or 'another'} "
                "database; delete it or choose another cache folder."
            )

    def _stamp(self) -> tuple[int, int]:
        return tuple(
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query."""
        with self._lock, self._explained():
            return self._connection.execute(query, values).fetchall()

    def rows_in(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of ``query`` for many ``values``; it ends in ``IN ({})``."""
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            yield from self.rows(query.format(",".join("?" * len(some))), some)

    def write(self, query: str, values: Sequence[Sequence[Any]]) -> None:
        """One statement for many rows, inside a :meth:`transaction`."""
        self._connection.executemany(query, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Context manager of an atomic transaction with an exclusive write lock."""
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # some failures end it by themselves
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            kind = FullCacheError if error.sqlite_errorcode == sqlite3.SQLITE_FULL else CacheError
            raise kind(
                f"The feature index '{self.path}' cannot be used ({error}); check that the folder is writable and the "
                "disk not full, or choose another with MODALIGN_CACHE."
            ) from error
        except sqlite3.DatabaseError as error:
            raise CacheError(
                f"The feature index '{self.path}' is damaged or no index at all ({error}); delete the folder "
                f"'{self.path.parent}' and the images are embedded again."
            ) from error
        except OSError as error:
            kind = FullCacheError if error.errno in (errno.ENOSPC, errno.EDQUOT) else CacheError
            raise kind(
                f"The cache folder '{self.path.parent}' cannot be used ({error.strerror or error}); choose another "
                "with MODALIGN_CACHE."
            ) from error
