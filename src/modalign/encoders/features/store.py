"""FeatureStore: vectors kept by what they are vectors of — the bytes of the image and the encoder's fingerprint.

::

    root/
      files.sqlite              which file has which content; which contents are no images
      encoders.sqlite           where encoders lie that were loaded from a folder
      <fingerprint>-<view>/     vectors and their index, see :mod:`~modalign.encoders.features.shelf`

A renamed, moved or copied image is found again; an edited one is not; another encoder, preprocessing or compute type
looks elsewhere. Tokens are not kept: at L·d numbers an image they are a hundred times the size of the vectors, and
whoever needs them usually trains on augmented views that no cache could hold.

Files and folders are private to their owner, since they tell which images somebody has.
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

from modalign.core.errors import InputError
from modalign.data.blobs import Identity
from modalign.data.decoding.decode import DECODER
from modalign.encoders.features.database import Database
from modalign.encoders.features.shelf import Shelf
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
        The user has no home folder, as in some containers.
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
    """Whether a file that was read just now may be recognized by its ``identity`` from now on.

    A file that changes within one tick of its file system's clock keeps its time stamps. So an identity is trusted
    only if its last change lies more than a tick before the reading: 0.1 s where stamps are fine-grained (some
    digits below the millisecond), 2.5 s where they are coarse (two seconds on FAT).

    Parameters
    ----------
    identity : tuple of (str, int, int, int, int) or None
        (path, size, mtime_ns, ctime_ns, inode), taken before the file was read.
    now : int or None, default=None
        Nanoseconds since the epoch when reading began, the present by default.
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
    root : str, Path or None, default=None
        The folder, made on first writing; :func:`default_cache` by default.

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
        """What is known about files, whatever the encoder; a context manager."""
        return FileIndex(self.root / _FILES_FILE)

    def shelf(self, fingerprint: str, view: str, dim: int) -> Shelf:
        """The vectors of one encoder and view; a context manager."""
        view = {"center": "centre"}.get(view, view)  # the name in folders that earlier versions wrote
        return Shelf(self.root / f"{fingerprint[:20]}-{view}", fingerprint, view, dim)

    def remember_encoder(self, fingerprint: str, location: str) -> None:
        """Record where an encoder lies, since a model that is given away only holds its fingerprint."""
        if self.encoder_location(fingerprint) != location:
            with closing(self._encoders()) as database, database.transaction():
                database.write("INSERT OR REPLACE INTO encoders VALUES (?, ?)", [(fingerprint, location)])

    def encoder_location(self, fingerprint: str) -> str | None:
        """What :func:`~modalign.load_encoder` was last given for an encoder in a folder; None if that is not known."""
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
        """Contents known not to be decodable, with the reason. A damaged entry is none: the decoder is asked again."""
        found = self._database.rows_in("SELECT content, decoder, reason FROM refused WHERE content IN ({})", contents)
        return {content: reason for content, decoder, reason in found if decoder == _voucher(content, reason)}

    def refuse(self, reasons: Iterable[tuple[bytes, str]]) -> None:
        """Record why contents cannot be decoded."""
        rows = [(content, _voucher(content, reason), reason) for content, reason in reasons]
        if rows:
            with self._database.transaction():
                self._database.write("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", rows)


def _voucher(content: bytes, reason: object) -> str:
    """What vouches for a refusal: the version of the decoder and a checksum of the entry."""
    return f"{DECODER}, {zlib.crc32(content + repr(reason).encode()):08x}"


def _is_ours(entry: Path) -> bool:
    known = entry.name.startswith((_FILES_FILE, _ENCODERS_FILE)) or entry.name in ("precision", "reports")
    return known or (entry / "index.sqlite").exists()
