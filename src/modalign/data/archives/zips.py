"""Members of zip files, including files with a damaged or missing central directory.

The central directory is at the end of the file, and every member has a local header before its data. If the directory
is incomplete, members are listed from their local headers.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from modalign.core.files import damaged_contents, open_regular
from modalign.data.archives.members import Members, places

_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # methods whose reader unpacks no more than requested
_HEADER = struct.Struct("<4s5HIIIHH")
_SIGNATURE = b"PK\3\4"
_ENCRYPTED, _SIZES_LATER, _UTF8 = 0x1, 0x8, 0x800
_UNKNOWN_SIZE = 2**32 - 1


class ZipArchive:
    """Zip file, opened on first use and again after a fork; reads are serialized."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._raw: BinaryIO | None = None
        self._table: zipfile.ZipFile | None = None
        self._process = 0

    def read(self, member: tuple[zipfile.ZipInfo, int | None]) -> bytes:
        """Return the bytes of a member, at most its declared size.

        Parameters
        ----------
        member : tuple of (zipfile.ZipInfo, int or None)
            Directory entry, and the offset of the data if the member is missing in the central directory.
        """
        info, start = member
        with self._lock:
            if self._raw is None or self._process != os.getpid():
                self._raw, self._table, self._process = open(self.path, "rb"), None, os.getpid()  # noqa: SIM115
            if start is None:
                self._table = self._table or zipfile.ZipFile(self._raw)
                with self._table.open(info) as stream:
                    return _all_of(stream, info)
            self._raw.seek(start)
            with zipfile.ZipExtFile(self._raw, "r", info) as stream:
                return _all_of(stream, info)


def list_zip(path: str, members: Members) -> None:
    """List the members of a zip file; lost members are reported."""
    archive, known, reason = ZipArchive(path), set[int](), None
    with open_regular(path, "an archive") as raw:
        try:
            with zipfile.ZipFile(raw) as file:
                infos = file.infolist()
            reason = damaged_contents(raw, len(infos))
        except Exception as error:  # damaged bytes make the reader raise anything
            infos, damage = [], error
            reason = f"its table of contents is damaged or cut off ({error})"
        for info in infos:
            known.add(info.header_offset)
            _file(members, archive, info, None)
        if reason is None:
            return
        found = [(info, start) for info, start in _from_headers(raw) if info.header_offset not in known]
        if not infos and not found:
            raise damage
        for info, start in found:
            _file(members, archive, info, start)
        members.listing.refuse(os.path.basename(path), f"{reason}; its members are listed from their own headers")


def _file(members: Members, archive: ZipArchive, info: zipfile.ZipInfo, start: int | None) -> None:
    mode = info.external_attr >> 16
    kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
    trouble = "encrypted" if info.flag_bits & _ENCRYPTED else None
    if start is not None and info.flag_bits & _SIZES_LATER and not info.compress_size:
        trouble = "its size is only in the table of contents, which is damaged"
    name = members.wants(info.filename, kind, info.file_size, trouble)
    if name is not None:
        members.add(name, archive, (info, start), info.file_size)


def _all_of(stream: IO[bytes] | zipfile.ZipExtFile, info: zipfile.ZipInfo) -> bytes:
    step = 2**20 if info.compress_type in _BOUNDED else 2**12
    parts, left = [], info.file_size
    while left and (part := stream.read(min(step, left))):
        parts.append(part)
        left -= len(part)
    if left:
        raise EOFError("it ends before its declared size")
    return b"".join(parts)


def _from_headers(raw: BinaryIO) -> Iterator[tuple[zipfile.ZipInfo, int]]:
    """Yield (header, offset of the data) of every member that has a local header."""
    size = os.fstat(raw.fileno()).st_size
    beyond = 0
    for place in places(raw, _SIGNATURE):
        raw.seek(place)
        header = raw.read(_HEADER.size)
        if place < beyond or len(header) < _HEADER.size:
            continue  # inside of the member before
        _, _, flags, method, _, _, crc, packed, unpacked, name_size, extra = _HEADER.unpack(header)
        start = place + _HEADER.size + name_size + extra
        name = raw.read(name_size).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        if not name or packed == _UNKNOWN_SIZE or start > size:
            continue
        info = zipfile.ZipInfo(name)
        info.header_offset, info.flag_bits, info.compress_type = place, flags, method
        info.CRC, info.compress_size, info.file_size = crc, packed, unpacked
        beyond = min(start + packed, size)
        yield info, start
