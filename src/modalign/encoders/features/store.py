"""Cache of image vectors, keyed by the bytes of the image and the fingerprint of the encoder.

::

    root/
      files.sqlite              hashes of files; contents that are not images
      encoders.sqlite           locations of encoders that were loaded from a folder
      <fingerprint>-<view>/     vectors and their index, see :mod:`~modalign.encoders.features.vector_table`

Renamed, moved and copied images are found in the cache; edited images are not. Every encoder, preprocessing and data
type has its own folder. Tokens are not cached: they are about a hundred times as large as the vectors, and methods that
use them usually train on augmented images.

Files and folders are private to their owner, because they reveal which images a user has.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError
from modalign.data.blobs import Identity
from modalign.data.decoding.decode import DECODER
from modalign.encoders.features.database import Database
from modalign.encoders.features.vector_table import VectorTable
from modalign.encoders.private import tighten

_FILES = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER,
                    content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE refused (content BLOB PRIMARY KEY, decoder TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID
"""
_FILES_FILE, _ENCODERS_FILE = "files.sqlite", "encoders.sqlite"
_ENCODERS = "CREATE TABLE encoders (fingerprint TEXT PRIMARY KEY, location TEXT NOT NULL) WITHOUT ROWID"


def default_cache() -> Path:
    """``$MODALIGN_CACHE``, else ``modalign`` in the user's cache folder of this operating system.

    Raises
    ------
    InputError
        There is no home folder, as in some containers.
    """
    try:
        return _default_cache()
    except RuntimeError as error:
        raise InputError(f"Expected a home folder for the feature cache: {error}") from None


def _default_cache() -> Path:
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
    """Return whether a file that was just read can be recognized by its ``identity`` in the future.

    Two changes within the resolution of the file system clock have equal time stamps. An identity is therefore valid
    only if the last change was earlier than that before reading: 0.1 s for fine time stamps (digits below the
    millisecond), 2.5 s for coarse ones (two seconds on FAT).

    Parameters
    ----------
    identity : tuple of (str, int, int, int, int) or None
        (path, size, mtime_ns, ctime_ns, inode), taken before the file was read.
    now : int or None, default=None
        Start of the reading in nanoseconds since the epoch. Default: now.
    """
    if identity is None:
        return False
    _, _, mtime, ctime, _ = identity
    margin = 100_000_000 if ctime % 1_000_000 else 2_500_000_000
    return (time.time_ns() if now is None else now) - max(mtime, ctime) > margin


class FeatureStore:
    """Cache folder of image vectors, shared by any number of encoders and processes.

    Parameters
    ----------
    root : str, Path or None, default=None
        Folder, created on first writing. Default: :func:`default_cache`.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> encoder = ma.load_encoder("tiny", cache=ma.FeatureStore("cache"))
    >>> first = encoder.embed_images(digits)  # computed
    >>> again = encoder.embed_images(digits)  # read from the folder "cache"
    >>> bool((first.vectors == again.vectors).all())
    True
    """

    @checked_arguments
    def __init__(self, root: str | Path | None = None) -> None:
        self.root = default_cache() if root is None else Path(root).expanduser()
        try:
            if self.root.exists() and not self.root.is_dir():
                raise InputError(f"Expected a folder for the feature cache, got the file '{self.root}'.")
            if self.root.is_dir() and all(map(_is_ours, self.root.iterdir())):
                tighten(self.root)  # made by a version that left it to the umask
        except OSError as error:
            raise InputError(
                f"Expected a folder for the feature cache, '{self.root}' cannot be used: {error.strerror or error}."
            ) from None

    def files(self) -> FileIndex:
        """Context manager of the index of files, shared by all encoders."""
        return FileIndex(self.root / _FILES_FILE)

    def table(self, fingerprint: str, view: str, dim: int) -> VectorTable:
        """Context manager of the vectors of one encoder and view."""
        view = {"center": "centre"}.get(view, view)  # the name in folders that earlier versions wrote
        return VectorTable(self.root / f"{fingerprint[:20]}-{view}", fingerprint, view, dim)

    def record_encoder(self, fingerprint: str, location: str) -> None:
        """Record the location of an encoder, since a saved model contains its fingerprint only."""
        if self.encoder_location(fingerprint) != location:
            with closing(self._encoders()) as database, database.transaction():
                database.write("INSERT OR REPLACE INTO encoders VALUES (?, ?)", [(fingerprint, location)])

    def encoder_location(self, fingerprint: str) -> str | None:
        """Return the last known location of an encoder, or None."""
        if not (self.root / _ENCODERS_FILE).exists():
            return None
        with closing(self._encoders()) as database:
            found = database.rows("SELECT location FROM encoders WHERE fingerprint = ?", [fingerprint])
        return found[0][0] if found else None

    def _encoders(self) -> Database:
        return Database(self.root / _ENCODERS_FILE, _ENCODERS)

    def __repr__(self) -> str:
        return f"FeatureStore('{self.root}')"


class FileIndex:
    """Index of the content hashes of files and of contents that are not images.

    Like the index of git: a file with unchanged path, size, time stamps and inode has unchanged content.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _FILES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def contents(self, identities: Sequence[Identity | None]) -> list[bytes | None]:
        """Return the SHA-256 of each file if it is known, else None."""
        paths = [identity[0] for identity in identities if identity is not None]
        found = {
            row[:5]: row[5]
            for row in self._database.rows_in(
                "SELECT path, size, mtime, ctime, inode, content FROM files WHERE path IN ({})", paths
            )
        }
        return [None if identity is None else found.get(identity) for identity in identities]

    def record(self, pairs: Iterable[tuple[Identity, bytes]]) -> None:
        """Record content hashes, for identities that pass :func:`is_settled`."""
        rows = [(*identity, content) for identity, content in pairs]
        if rows:
            with self._database.transaction():
                self._database.write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    def refusals(self, contents: Sequence[bytes]) -> dict[bytes, str]:
        """Return contents that cannot be decoded, with the reason. Damaged entries are ignored."""
        found = self._database.rows_in("SELECT content, decoder, reason FROM refused WHERE content IN ({})", contents)
        return {content: reason for content, decoder, reason in found if decoder == _voucher(content, reason)}

    def refuse(self, reasons: Iterable[tuple[bytes, str]]) -> None:
        """Record why contents cannot be decoded."""
        rows = [(content, _voucher(content, reason), reason) for content, reason in reasons]
        if rows:
            with self._database.transaction():
                self._database.write("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", rows)


def _voucher(content: bytes, reason: object) -> str:
    """Return the validation of a refusal: the version of the decoder and a checksum of the entry."""
    return f"{DECODER}, {zlib.crc32(content + repr(reason).encode()):08x}"


def _is_ours(entry: Path) -> bool:
    known = entry.name.startswith((_FILES_FILE, _ENCODERS_FILE)) or entry.name in ("precision", "reports")
    return known or (entry / "index.sqlite").exists()
