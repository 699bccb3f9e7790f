"""Sources of the bytes of an image: a file, bytes in memory, an image in memory (archive members: ``archives``).

Every blob has the methods ``read``, ``identity`` and ``size``, which are thread-safe.
"""

from __future__ import annotations

import os
import stat
import threading
import unicodedata
from io import BytesIO
from pathlib import PurePath
from typing import Protocol

import numpy as np
from PIL import Image

from modalign.core.errors import UndecodableError
from modalign.core.files import NotRegularError, is_regular, open_file, path_error
from modalign.data.decoding.pixels import to_rgb

NOT_FOUND = "file not found"
SIZE_LIMIT = 2**30
"""Files and archive members above 1 GB are no photos; reading them could exhaust the memory."""

Identity = tuple[str, int, int, int, int]


class Blob(Protocol):
    """Source of the bytes of an item."""

    def read(self) -> bytes:
        """Return the bytes; raise :class:`UndecodableError` with a reason if they are not available."""

    def identity(self) -> Identity | None:
        """Return (path, size, mtime_ns, ctime_ns, inode), which changes with the bytes; None without a file."""

    def size(self) -> int:
        """Approximate number of bytes that :meth:`read` returns, without reading them."""


class FileBlob:
    """A file on disk, by its absolute path."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> bytes:
        """The bytes of the file."""
        try:
            with open_file(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > SIZE_LIMIT:
                    raise UndecodableError(too_large(size), lasting=False)
                return file.read(size)
        except OSError as error:
            raise UndecodableError(unreadable_reason(error), lasting=False) from error
        except MemoryError as error:
            raise UndecodableError("not enough memory to read it", lasting=False) from error

    def identity(self) -> Identity | None:
        """Identity from the file system, without reading the file."""
        return file_identity(self.path)

    def size(self) -> int:
        """Bytes of the file, 0 if it is not there."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0


class BytesBlob:
    """Bytes of an image file, in memory."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self) -> bytes:
        """The bytes."""
        return self.data

    def identity(self) -> None:
        """None: there is no file."""

    def size(self) -> int:
        """Bytes."""
        return len(self.data)


class ImageBlob:
    """Image in memory, encoded as PNG, so that equal pixels give equal bytes."""

    __slots__ = ("_lock", "image")

    def __init__(self, image: Image.Image | np.ndarray) -> None:
        self.image = image
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """The pixels as PNG, without loss."""
        file = BytesIO()
        try:
            with self._lock:  # a Pillow image that is not loaded yet must not be loaded from two threads
                image = self.image if isinstance(self.image, Image.Image) else Image.fromarray(self.image)
                to_rgb(image).save(file, "PNG", compress_level=1)
        except UndecodableError:
            raise
        except MemoryError as error:
            raise UndecodableError("not enough memory to read it", lasting=False) from error
        except Exception as error:  # a lazily opened picture may turn out broken in any way
            raise UndecodableError(f"the picture cannot be read: {error}") from error
        return file.getvalue()

    def identity(self) -> None:
        """None: there is no file."""

    def size(self) -> int:
        """Bytes of the pixels, more or less those of the PNG."""
        if isinstance(self.image, np.ndarray):
            return self.image.nbytes
        return 3 * self.image.width * self.image.height


def file_identity(path: str) -> Identity | None:
    """(path, size, mtime_ns, ctime_ns, inode) of a file, None if it is not there.

    The path is used as a key: bytes that are not UTF-8 are escaped, so it can be stored anywhere.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    key = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return key, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def image_path_error(given: str, path: str) -> str | None:
    """Return why a listed path is not a readable file, or None. The file is not opened."""
    if address := path_error(given):
        return address
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return NOT_FOUND
    if stat.S_ISDIR(status.st_mode):
        return "a folder, not an image"
    return None if is_regular(status) else "not a regular file"


def find_image(given: str, path: str) -> tuple[str, str | None]:
    """The path of a listed image, and why it is not a readable file, or None.

    Where there is no such file, one whose folders and name have the same letters in composed or decomposed Unicode
    (NFC, NFD), each in its own form, is meant: file systems and tables of one data set often differ in this.
    """
    reason = image_path_error(given, path)
    if reason == NOT_FOUND and not path.isascii():
        first, *others = PurePath(path).parts
        found = [first]
        for part in others:
            forms = dict.fromkeys((part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))))
            found = [other for start in found for form in forms if os.path.lexists(other := os.path.join(start, form))]
        for other in found:
            if image_path_error(given, other) is None:
                return other, None
    return path, reason


def unreadable_reason(error: OSError) -> str:
    """Return a short reason for an OSError."""
    if isinstance(error, FileNotFoundError):
        return NOT_FOUND
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, NotRegularError):
        return "not a regular file"
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def too_large(size: int) -> str:
    """The reason for a file above :data:`SIZE_LIMIT`."""
    return f"too large: {size / 2**30:.1f} GB, the limit is {SIZE_LIMIT / 2**30:.0f} GB"
