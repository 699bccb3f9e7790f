"""Shared handling of archive members: which become items, which are refused, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Generic, Protocol, TypeVar

from modalign.core.errors import UndecodableError
from modalign.data.blobs import SIZE_LIMIT, Blob, Identity, file_identity, too_large, unreadable_reason
from modalign.data.inventory import Listing, has_image_suffix, is_hidden, is_split_file, printable

EXPANSION = 200
"""An archive is read up to this many times its own size, and up to 4 GiB in any case; photos hardly compress."""
_EXPANDED_ANYWAY = 2**32
_STEP = 2**20


M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


class Archive(Protocol[M_contra]):
    """Archive whose members can be read from any thread."""

    path: str

    def read(self, member: M_contra, /) -> bytes:
        """Return the bytes of a member; raises an exception of any type if they are damaged."""


class MemberBlob(Generic[M]):
    """One member of an archive.

    Attributes
    ----------
    archive : Archive
        The archive.
    member : object
        Key of the member in the archive.
    name : str
        Its cleaned path in the archive.
    """

    __slots__ = ("_size", "archive", "member", "name")

    def __init__(self, archive: Archive[M], name: str, member: M, size: int) -> None:
        self.archive, self.name, self.member, self._size = archive, name, member, size

    def read(self) -> bytes:
        """The bytes of the member."""
        try:
            return self.archive.read(self.member)
        except (UndecodableError, KeyboardInterrupt):
            raise
        except MemoryError as error:
            raise UndecodableError("not enough memory to read it", lasting=False) from error
        except OSError as error:
            if error.errno is None:  # a decompressor's
                raise UndecodableError(f"damaged in the archive: {error}") from error
            raise UndecodableError(f"the archive: {unreadable_reason(error)}", lasting=False) from error
        except Exception as error:  # damaged bytes make the decompressors raise anything
            raise UndecodableError(f"damaged in the archive: {error or type(error).__name__}") from error

    def identity(self) -> Identity | None:
        """Return the identity of the archive file, with the member's name appended to its path."""
        identity = file_identity(self.archive.path)
        return None if identity is None else (f"{identity[0]}!{self.name}", *identity[1:])

    def size(self) -> int:
        """Bytes that :meth:`read` returns."""
        return self._size


class Members:
    """Collects the members of one archive, and refuses unsafe ones.

    Parameters
    ----------
    listing : Listing
        Takes refusals and notes.
    size : int
        Bytes of the archive.
    """

    def __init__(self, listing: Listing, size: int) -> None:
        self.listing = listing
        self.found: dict[str, Blob] = {}
        self.folders: set[str] = set()
        self._left = max(_EXPANDED_ANYWAY, EXPANSION * size)

    def take(self, size: int) -> bool:
        """Add the unpacked size of a member; return False if the archive exceeds the limit."""
        self._left -= size
        return self._left >= 0

    def wants(self, name: str, kind: str, size: int, trouble: str | None = None) -> str | None:
        """Return the cleaned name of a member that becomes an item; record any other member and return None."""
        reason = leaves_archive(name)
        if reason:
            self.listing.refuse(printable(name), reason)
            return None
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        clean = printable("/".join(parts))
        if not parts:
            return None
        if any(is_hidden(part) for part in parts):
            self.listing.hidden += kind != "folder"
            return None
        self.folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + (kind == "folder")))
        if kind == "folder":
            if size:  # the name was cut off behind a slash
                self.listing.refuse(clean, "a folder that has content, so its name is damaged")
            return None
        if kind == "link":
            self.listing.refuse(clean, "a link; links inside archives are not followed")
        elif not (has_image_suffix(clean) or is_split_file(clean)):
            self.listing.skipped.append(clean)
        elif kind != "file":
            self.listing.refuse(clean, "not a regular file")
        elif trouble or size > SIZE_LIMIT:
            self.listing.refuse(clean, trouble or too_large(size))
        elif not self.take(size):
            self.listing.refuse(clean, f"the archive unpacks to more than {EXPANSION} times its size")
        else:
            if clean in self.found:
                self.listing.notes.append(f"'{clean}' is twice in the archive; the last one counts")
            return clean
        return None

    def add(self, name: str, archive: Archive[M], member: M, size: int) -> None:
        """Add an item, with the name returned by :meth:`wants`."""
        self.found[name] = MemberBlob(archive, name, member, size)


def places(raw: BinaryIO, needle: bytes, start: int = 0) -> Iterator[int]:
    """Find byte sequences in a file from ``start``; the file may be read between results."""
    position = start
    while True:
        raw.seek(position)
        data = raw.read(_STEP + len(needle) - 1)
        place = data.find(needle)
        while place >= 0:
            yield position + place
            place = data.find(needle, place + 1)
        if len(data) < _STEP + len(needle) - 1:
            return
        position += _STEP


def leaves_archive(name: str) -> str | None:
    """Return why a member's name is refused, or None if its path stays inside the archive."""
    path = name.replace("\\", "/")
    if path.startswith("/") or (len(path) > 1 and path[1] == ":"):
        return "an absolute path; nothing outside the archive is read"
    if ".." in path.split("/"):
        return "its path leads out of the archive"
    return None
