"""Images inside zip and tar files, read one by one without unpacking.

An archive is a stranger's: no name may leave it (absolute paths, ``..``), links are not followed, and a member that
declares more than :data:`~modalign.data.blobs.SIZE_LIMIT` is not touched. Each of these is quarantined with its reason.
"""

from __future__ import annotations

import os
import stat
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

from modalign.data.blobs import SIZE_LIMIT, Blob, Identity, file_identity, too_large, why_unreadable
from modalign.data.listing import Listing, assign_classes, has_image_suffix, is_hidden, printable
from modalign.errors import InputError, UndecodableError

_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_AHEAD_LIMIT = 2**26
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError, ValueError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Whether a file is read as an archive, by its ending."""
    return path.name.lower().endswith(_ENDINGS)


def list_archive(path: str) -> Listing:
    """What an archive holds, with classes as in a folder."""
    listing = Listing()
    members = _Members(listing)
    kind = _list_zip if path.lower().endswith(".zip") else _list_tar
    try:
        kind(path, members)
    except _DAMAGE as error:
        raise InputError(f"Expected an archive, '{path}' cannot be read as one: {error}") from error
    name = os.path.basename(path)
    stem = next(name[: -len(e)] for e in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(e))
    assign_classes(listing, members.found, sorted(members.folders), members.skipped, members.hidden, archive=stem)
    return listing


class _Members:
    """Collects the members of one archive, refusing what must not be read."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.found: dict[str, Blob] = {}
        self.folders: set[str] = set()
        self.skipped: list[str] = []
        self.hidden = 0

    def wants(self, name: str, kind: str, size: int, trouble: str | None = None) -> str | None:
        """The cleaned name of a member that shall be an item, or None after filing it where it belongs."""
        reason = leaves_archive(name)
        if reason:
            self.listing.refuse(printable(name), reason)
            return None
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        clean = printable("/".join(parts))
        if not parts:
            return None
        if any(is_hidden(part) for part in parts):
            self.hidden += kind != "folder"
            return None
        self.folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + (kind == "folder")))
        if kind == "folder":
            return None
        if kind == "link":
            self.listing.refuse(clean, "a link; links inside archives are not followed")
        elif not has_image_suffix(clean):
            self.skipped.append(clean)
        elif kind != "file":
            self.listing.refuse(clean, "not a regular file")
        elif trouble or size > SIZE_LIMIT:
            self.listing.refuse(clean, trouble or too_large(size))
        else:
            if clean in self.found:
                self.listing.notes.append(f"'{clean}' is twice in the archive; the last one counts")
            return clean
        return None


def leaves_archive(name: str) -> str | None:
    """Why a member's name is refused, or None if it stays inside."""
    path = name.replace("\\", "/")
    if path.startswith("/") or (len(path) > 1 and path[1] == ":"):
        return "an absolute path; nothing outside the archive is read"
    if ".." in path.split("/"):
        return "its path leads out of the archive"
    return None


class _Zip:
    """One zip file, opened when first needed and again after a fork; reads take turns."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: zipfile.ZipFile | None = None
        self._process = 0

    def read(self, member: zipfile.ZipInfo) -> bytes:
        with self._lock:
            if self._file is None or self._process != os.getpid():
                self._file, self._process = zipfile.ZipFile(self.path), os.getpid()
            return self._file.read(member)


class _PlainTar:
    """An uncompressed tar: every member lies at a known place of the file, so reads need no turns."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, member: tuple[int, int]) -> bytes:
        offset, size = member
        with open(self.path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise UndecodableError("truncated: the archive ends before the file does")
        return data


class _PackedTar:
    """A compressed tar can only be read forwards: members passed over are kept a while for threads a little behind.

    Reading in listing order costs one pass; a jump far back starts a new one.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._tar: tarfile.TarFile | None = None
        self._process = 0
        self._next = 0
        self._ahead: OrderedDict[int, bytes] = OrderedDict()
        self._kept = 0

    def read(self, number: int) -> bytes:
        with self._lock:
            if number in self._ahead:
                data = self._ahead.pop(number)
                self._kept -= len(data)
                return data
            try:
                return self._read_forward(number)
            except BaseException:
                self._close()  # a stream that failed no longer knows where it is
                raise

    def _read_forward(self, number: int) -> bytes:
        if self._tar is None or self._process != os.getpid() or number < self._next:
            self._close()
            self._tar, self._process = tarfile.open(self.path, "r|*"), os.getpid()  # noqa: SIM115 - kept open
        while (member := self._tar.next()) is not None:
            self._tar.members = []  # a stream remembers every header otherwise
            current, self._next = self._next, self._next + 1
            if current == number:
                return self._extract(member)
            if member.isreg() and has_image_suffix(member.name) and member.size <= _AHEAD_LIMIT // 8:
                self._keep(current, self._extract(member))
        raise UndecodableError("no longer in the archive")

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._tar, self._next, self._kept = None, 0, 0
        self._ahead.clear()

    def _extract(self, member: tarfile.TarInfo) -> bytes:
        file = self._tar.extractfile(member)  # type: ignore[union-attr]
        data = file.read() if file else b""
        if len(data) < member.size:
            raise UndecodableError("truncated: the archive ends before the file does")
        return data

    def _keep(self, number: int, data: bytes) -> None:
        self._ahead[number] = data
        self._kept += len(data)
        while self._kept > _AHEAD_LIMIT:
            self._kept -= len(self._ahead.popitem(last=False)[1])


class _MemberBlob:
    """One member of an archive."""

    __slots__ = ("archive", "member", "name")

    def __init__(self, archive: _Zip | _PlainTar | _PackedTar, name: str, member: object) -> None:
        self.archive, self.name, self.member = archive, name, member

    def read(self) -> bytes:
        """The bytes of the member."""
        try:
            return self.archive.read(self.member)  # type: ignore[arg-type]
        except (FileNotFoundError, PermissionError) as error:
            raise UndecodableError(f"the archive: {why_unreadable(error)}") from error
        except _DAMAGE as error:
            raise UndecodableError(f"damaged in the archive: {error}") from error

    def identity(self) -> Identity | None:
        """The numbers of the archive, with the member's name behind its path."""
        identity = file_identity(self.archive.path)
        return None if identity is None else (f"{identity[0]}!{self.name}", *identity[1:])


def _list_zip(path: str, members: _Members) -> None:
    archive = _Zip(path)
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
            trouble = "encrypted" if info.flag_bits & 1 else None
            name = members.wants(info.filename, kind, info.file_size, trouble)
            if name is not None:
                members.found[name] = _MemberBlob(archive, name, info)


def _list_tar(path: str, members: _Members) -> None:
    with open(path, "rb") as raw:
        packed = raw.read(512)[257:262] != b"ustar"
    archive = _PackedTar(path) if packed else _PlainTar(path)
    with tarfile.open(path, "r|*" if packed else "r:") as file:
        number = 0
        try:
            while (info := file.next()) is not None:
                file.members = []
                kind = _tar_kind(info)
                name = members.wants(info.name, kind, info.size, "a sparse file" if info.issparse() else None)
                if name is not None:
                    place = number if packed else (info.offset_data, info.size)
                    members.found[name] = _MemberBlob(archive, name, place)
                number += 1
                if packed and info.size > SIZE_LIMIT:
                    # Skipping it means unpacking it; a few KB can hold a terabyte of zeros.
                    members.listing.notes.append(f"the archive is not read beyond '{info.name}', which is too large")
                    return
            if file.fileobj.tell() < file.offset + tarfile.BLOCKSIZE:
                members.listing.notes.append("the archive ends without its end mark: it may have been cut off")
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            if not number:
                raise
            members.listing.refuse(os.path.basename(path), f"the archive is damaged after member {number}: {error}")


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    return "file" if info.isfile() else "special"
