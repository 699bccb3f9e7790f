"""Images behind an address — ``s3://``, ``gs://``, ``az://``, ``https://`` and others that fsspec supports.

An address is read only if the user passed it: as the source itself, or in a list with ``addresses``. An address inside
a table of unknown origin is refused, like every other path outside of the table's folder.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, MissingExtraError, UndecodableError, require
from modalign.core.files import address_of
from modalign.data.blobs import SIZE_LIMIT, too_large
from modalign.data.folders import assign_classes
from modalign.data.inventory import Listing, has_image_suffix, is_hidden, printable

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https", "memory")
_WITHOUT_FOLDERS = ("http", "https")
WRITABLE = tuple(scheme for scheme in SCHEMES if scheme not in _WITHOUT_FOLDERS)
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
_ATTEMPTS = 3
_PAUSE = 1.0  # seconds before the second attempt, doubled before the third
_CHUNK = 2**22


def remote_address(source: str | os.PathLike[str]) -> str | None:
    """The address that ``source`` is, if fsspec reads such addresses; None for paths and other addresses."""
    found = address_of(source)
    return found[1] if found is not None and found[0] in SCHEMES else None


class RemoteBlob:
    """A file behind an address.

    Attributes
    ----------
    address : str
        Address of the file.
    version : str
        An ETag or a time, which changes with the content; "" if unknown.
    """

    __slots__ = ("_size", "address", "version")

    def __init__(self, address: str, size: int | None = None, version: str = "") -> None:
        self.address, self._size, self.version = address, size, version

    def read(self) -> bytes:
        """The bytes, in one request if the size is known; a temporary failure is retried, three attempts in all."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._fetch()
            except FileNotFoundError:
                raise UndecodableError("file not found", lasting=False) from None
            except PermissionError:
                raise UndecodableError("no permission to read it", lasting=False) from None
            except MemoryError as error:
                raise UndecodableError("not enough memory to read it", lasting=False) from error
            except Exception as error:  # each store has errors of its own
                if isinstance(error, (UndecodableError, InputError, MissingExtraError)):
                    raise
                if attempt + 1 == _ATTEMPTS:
                    reason = " ".join(str(error).split())[:120] or type(error).__name__
                    raise UndecodableError(f"cannot be fetched: {reason}", lasting=False) from error
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _fetch(self) -> bytes:
        files, path = opened(self.address)
        if self._size is None:
            with files.open(path, "rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        elif self._size > SIZE_LIMIT:
            raise UndecodableError(too_large(self._size), lasting=False)
        else:
            data = files.cat_file(path)
        if len(data) > SIZE_LIMIT:
            raise UndecodableError(too_large(len(data)), lasting=False)
        return data

    def identity(self) -> None:
        """None: the metadata of a store are no reliable identity for a cache."""

    def size(self) -> int:
        """Size in the listing; 0 if unknown."""
        return self._size or 0


@cache
def _files(protocol: str, origin: str) -> Any:
    fsspec = require("fsspec", "remote")
    try:
        return fsspec.core.url_to_fs(origin)[0]
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        advice = f"pip install {package}" if package else "pip install 'modalign[remote]'"
        raise MissingExtraError(
            f"Addresses that begin with '{protocol}://' need a package more; run: {advice}"
        ) from error


def opened(address: str) -> tuple[Any, str]:
    """The file system of fsspec that an address belongs to, and the path there."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    try:
        files = _files(scheme, f"{scheme}://{rest.split('/')[0]}")
    except MissingExtraError as error:
        raise InputError(f"Expected an address that can be read here, got '{address}'. {error}") from error
    return files, files._strip_protocol(f"{scheme}://{rest}")


def fetch(address: str, what: str) -> bytes:
    """Return all bytes behind an address; on failure an InputError with ``what`` was expected."""
    try:
        return RemoteBlob(address).read()
    except UndecodableError as error:
        raise InputError(f"Expected {what}, '{address}' cannot be read: {error}.") from None


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """A copy of the file behind an address, in a temporary folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="modalign-") as folder:
        copy = Path(folder) / printable(address.split("?")[0].rsplit("/", 1)[-1])
        try:
            files, path = opened(address)
            with files.open(path, "rb") as source, open(copy, "wb") as target:
                while data := source.read(_CHUNK):
                    target.write(data)
        except FileNotFoundError:
            raise InputError(f"Expected a file, '{address}' does not exist.") from None
        except OSError as error:
            raise InputError(f"Expected a file, '{address}' cannot be read: {error}.") from None
        yield copy


_copies = ExitStack()  # archives behind addresses whose members may be read until the process ends
atexit.register(_copies.close)


def kept_copy(address: str) -> Path:
    """As :func:`local_copy`, removed when the process ends."""
    return _copies.enter_context(local_copy(address))


def list_remote_folder(address: str) -> Listing:
    """Every image below an address, with classes as in a folder on disk."""
    listing = Listing()
    found: dict[str, Any] = {}
    for name, place, size, version in walk(address):
        if any(map(is_hidden, name.split("/"))):
            listing.hidden += 1
        elif has_image_suffix(name):
            found[printable(name)] = RemoteBlob(place, size, version)
        else:
            listing.skip(printable(name), RemoteBlob(place, size, version))
    assign_classes(listing, found, [])
    return listing


def walk(address: str) -> Iterator[tuple[str, str, int | None, str]]:
    """Every file below an address, in the order of names: the name below it, its own address, size and version."""
    scheme = address.partition("://")[0].lower()
    if scheme in _WITHOUT_FOLDERS:
        raise InputError(
            f"Expected the address of an image, a table or an archive, got '{address}'; a web server has no folders "
            "that can be listed: give a table with a column of paths."
        )
    files, root = opened(address)
    try:
        entries = files.find(root, detail=True)
    except FileNotFoundError:
        entries = {}
    except OSError as error:
        raise InputError(f"Expected images, '{address}' cannot be read: {error}.") from None
    if not entries:
        raise InputError(f"Expected images, '{address}' does not exist or is empty.")
    for path in sorted(entries):
        entry = entries[path]
        name = path.removeprefix(root).lstrip("/") or path.rsplit("/", 1)[-1]
        version = next((str(entry[key]) for key in _VERSIONS if entry.get(key)), "")
        yield name, files.unstrip_protocol(path), entry.get("size"), version


_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
