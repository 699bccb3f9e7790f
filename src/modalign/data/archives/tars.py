"""Members of tar files, plain and compressed.

Python's ``tarfile`` interprets a damaged header as the end of the archive. Here the end is two blocks of zeros, and
anything else is reported as damage. In a plain tar, the next valid header is searched, so a damaged header loses one
member. In a compressed tar, everything after the damage is reported as lost.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import BinaryIO, Self

from modalign.core.errors import UndecodableError
from modalign.core.files import open_regular
from modalign.data.archives.members import Members, places
from modalign.data.blobs import SIZE_LIMIT
from modalign.data.inventory import has_image_suffix

AHEAD_LIMIT = 2**26
"""Bytes of members that a compressed tar keeps for threads that are a little behind."""
_PACKERS: dict[bytes, Callable[[str], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0": lzma.open,
}
_BLOCK = tarfile.BLOCKSIZE
_END_MARK = bytes(2 * _BLOCK)
_AFTER_END = 2**24  # bytes after the end mark that are read
_STEP = 2**20
_MAGIC_OFFSET = 257
_NO_END = "the archive ends without its end mark: it may have been cut off"
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)


class _Header(tarfile.TarInfo):
    """Header whose damage raises an error instead of ending the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # typeshed lacks both
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class PlainTar:
    """Uncompressed tar. The offset of each member is known, so members can be read concurrently."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, member: tuple[int, int]) -> bytes:
        """The ``size`` bytes at ``offset``."""
        offset, size = member
        with open(self.path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise UndecodableError("truncated: the archive ends before the file does")
        return data


class PackedTar:
    """Compressed tar, read sequentially. Skipped members are cached for threads that read them slightly later.

    Reading in listing order takes one pass; a jump far back starts a new pass.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: _Unpacked | None = None
        self._tar: tarfile.TarFile | None = None
        self._process = 0
        self._next = 0
        self._ahead: OrderedDict[int, bytes] = OrderedDict()
        self._kept = 0

    def read(self, number: int) -> bytes:
        """The bytes of the member with this number."""
        with self._lock:
            if number in self._ahead:
                data = self._ahead.pop(number)
                self._kept -= len(data)
                return data
            try:
                return self._read_forward(number)
            except BaseException:
                self._close()  # after a failure the position in the stream is unknown
                raise

    def _read_forward(self, number: int) -> bytes:
        if self._tar is None or self._process != os.getpid() or number < self._next:
            self._close()
            self._file, self._process = _unpacked(self.path), os.getpid()
            self._tar = _stream(self._file)
        while (member := _next(self._tar)) is not None:
            current, self._next = self._next, self._next + 1
            if current == number:
                return _extract(self._tar, member)
            if member.isreg() and has_image_suffix(member.name) and member.size <= AHEAD_LIMIT // 8:
                self._keep(current, _extract(self._tar, member))
        raise UndecodableError("no longer in the archive")

    def _close(self) -> None:
        for opened in (self._tar, self._file):
            if opened is not None:
                opened.close()
        self._tar, self._file, self._next, self._kept = None, None, 0, 0
        self._ahead.clear()

    def _keep(self, number: int, data: bytes) -> None:
        self._ahead[number] = data
        self._kept += len(data)
        while self._kept > AHEAD_LIMIT:
            self._kept -= len(self._ahead.popitem(last=False)[1])


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """Read the next header without storing it in the list of members, which would grow."""
    header = tar.next()
    tar.members = []  # type: ignore[attr-defined]  # typeshed lacks it
    return header


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if len(data) < member.size:
        raise UndecodableError("truncated: the archive ends before the file does")
    return data


@dataclass(frozen=True)
class _Gap:
    """Bytes of a plain tar that hold no sound header: from ``start`` to ``end``, or to the end of the file if None."""

    start: int
    end: int | None
    ended: bool  # the end mark is at the start
    reason: Exception | None


def list_tar(path: str, members: Members) -> None:
    """List the members of a tar file of any compression; lost members are reported with their position."""
    with open_regular(path, "an archive") as raw:
        head = raw.read(6)
        if any(head.startswith(magic) for magic in _PACKERS):
            _list_packed(path, members)
        else:
            _list_plain(path, raw, members)


def _list_plain(path: str, raw: BinaryIO, members: Members) -> None:
    archive, name, number = PlainTar(path), os.path.basename(path), 0
    for found in _walk(raw):
        if isinstance(found, tarfile.TarInfo):
            number += 1
            clean = members.wants(found.name, _kind(found), found.size, _trouble(found))
            if clean is not None:
                members.add(clean, archive, (found.offset_data, found.size), found.size)
        elif found.end is None and not number and found.reason:
            raise found.reason
        elif found.ended and found.end is None:
            members.listing.notes += _about_end(raw, found.start)
        elif found.ended:
            members.listing.notes.append(f"members behind the end mark at byte {found.start} are read too")
        elif found.end is None and _only_zeros(raw, found.start):
            members.listing.notes.append(_NO_END)
        else:
            until = "the end" if found.end is None else f"byte {found.end}"
            members.listing.refuse(
                f"{name} (byte {found.start})",
                f"damaged after member {number}: no readable header from byte {found.start} to {until}; "
                "the data between them is lost",
            )


def _walk(raw: BinaryIO) -> Iterator[tarfile.TarInfo | _Gap]:
    """Yield every member with a valid header, the gaps between them, and the rest of the file."""
    size = os.fstat(raw.fileno()).st_size
    start: int | None = 0
    while start is not None:
        reason: Exception | None = None
        raw.seek(start)
        try:
            with tarfile.open(fileobj=raw, mode="r:", tarinfo=_Header) as tar:
                while (info := _next(tar)) is not None:
                    yield info
                    if tar.offset > size:  # the length is impossible
                        raise tarfile.ReadError(f"'{info.name}' is longer than the rest of the archive")
                    start = tar.offset
        except _DAMAGE as error:
            reason = error
        raw.seek(start)
        ended = raw.read(len(_END_MARK)) == _END_MARK
        following = _next_header(raw, start + 1)
        yield _Gap(start, following, ended, reason)
        start = following


def _next_header(raw: BinaryIO, start: int) -> int | None:
    """Where the next sound header begins at or behind ``start``, or None."""
    for place in places(raw, b"ustar", start + _MAGIC_OFFSET):
        raw.seek(place - _MAGIC_OFFSET)
        with suppress(tarfile.HeaderError, ValueError):
            tarfile.TarInfo.frombuf(raw.read(_BLOCK), "utf-8", "surrogateescape")
            return place - _MAGIC_OFFSET
    return None


def _about_end(raw: BinaryIO, start: int) -> list[str]:
    """Return a note on data after the end mark, where programs only pad a record."""
    rest = os.fstat(raw.fileno()).st_size - start
    if not _only_zeros(raw, start):
        return [f"the data after the end mark at byte {start} is not read"]
    if rest > tarfile.RECORDSIZE or rest % _BLOCK:
        return [f"the archive ends with {rest:,} bytes of zeros: if it was not copied completely, members are missing"]
    return []


def _only_zeros(raw: BinaryIO, start: int) -> bool:
    raw.seek(start)
    while data := raw.read(_STEP):
        if data.strip(b"\0"):
            return False
    return True


def _list_packed(path: str, members: Members) -> None:
    archive, notes = PackedTar(path), members.listing.notes
    number, place = 0, 0
    try:
        with closing(_unpacked(path)) as file, _stream(file) as tar:
            while (info := _next(tar)) is not None:
                clean = members.wants(info.name, _kind(info), info.size, _trouble(info))
                if clean is not None:
                    members.add(clean, archive, number, info.size)
                elif info.size > SIZE_LIMIT or not members.take(info.size):
                    # Skipping it means unpacking it; a few KB can hold a terabyte of zeros.
                    notes.append(f"the archive is not read beyond '{info.name}', which is too large")
                    return
                number, place = number + 1, tar.offset
            marked = tar.fileobj.tell() > tar.offset  # a block of zeros was read, and not the end of the file
            rest = tar.fileobj.read(_AFTER_END)
        if rest.strip(b"\0"):
            raise tarfile.ReadError("data follows the end mark")
        if not marked or len(rest) < _BLOCK:
            notes.append(_NO_END)
    except _DAMAGE as error:
        if not number:
            raise
        members.listing.refuse(
            f"{os.path.basename(path)} (byte {place} unpacked)",
            f"damaged after member {number}: {error or type(error).__name__}; what follows is lost",
        )


class _Unpacked:
    """The content of a compressed file, read forwards; its checksum is verified behind the last byte."""

    def __init__(self, file: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> None:
        self.read, self.close = file.read1, file.close  # read would drop what comes before an error


def _unpacked(path: str) -> _Unpacked:
    with open(path, "rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _PACKERS.items() if head.startswith(magic)), None)
    if opener is None:
        raise tarfile.ReadError("not a compressed file any more")
    return _Unpacked(opener(path))


def _stream(file: _Unpacked) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r|", tarinfo=_Header, bufsize=2**18)  # type: ignore[call-overload]  # has no ``write``


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "link"
    return "folder" if info.isdir() else "file" if info.isfile() else "special"


def _trouble(info: tarfile.TarInfo) -> str | None:
    return "a sparse file" if info.issparse() else None
