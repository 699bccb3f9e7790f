"""Images inside zip and tar files, read one by one without unpacking.

An archive is of unknown origin: no name may leave it (absolute paths, ``..``), links are not followed, a member that
declares more than :data:`~modalign.data.blobs.SIZE_LIMIT` is not touched, and damage never makes the list shorter
without a reason. Each of these is quarantined.
"""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from pathlib import Path

from modalign.data.folders import assign_classes
from modalign.data.listing import Listing, is_split_file
from modalign.data.members import Members, leaves_archive
from modalign.data.tars import list_tar
from modalign.errors import InputError
from modalign.files import damaged_contents, open_regular

_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # methods whose reader unpacks no more than it is asked for


def is_archive(path: Path) -> bool:
    """Whether a file is read as an archive, by its ending."""
    return path.name.lower().endswith(_ENDINGS)


def list_archive(path: str) -> Listing:
    """What an archive holds, with classes as in a folder."""
    listing = Listing()
    members = Members(listing, os.path.getsize(path))
    kind = _list_zip if path.lower().endswith(".zip") else list_tar
    try:
        kind(path, members)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"Expected an archive whose table of contents fits into memory, '{path}' is larger.") from None
    except Exception as error:  # damaged bytes make the readers raise anything
        raise InputError(f"Expected an archive, '{path}' cannot be read as one: {error}.") from None
    name = os.path.basename(path)
    stem = next(name[: -len(e)] for e in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(e))
    for document in [name for name in members.found if is_split_file(name)]:
        listing.skip(document, members.found.pop(document))
    assign_classes(listing, members.found, sorted(members.folders), archive=stem)
    return listing


class _Zip:
    """One zip file, opened when first needed and again after a fork; reads take turns."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: zipfile.ZipFile | None = None
        self._process = 0

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """The bytes of a member, at most as many as it declares."""
        step = 2**20 if member.compress_type in _BOUNDED else 2**12
        parts, left = [], member.file_size
        with self._lock:
            if self._file is None or self._process != os.getpid():
                self._file, self._process = zipfile.ZipFile(self.path), os.getpid()
            with self._file.open(member) as stream:
                while left and (part := stream.read(min(step, left))):
                    parts.append(part)
                    left -= len(part)
        if left:
            raise EOFError("it ends before its declared size")
        return b"".join(parts)


def _list_zip(path: str, members: Members) -> None:
    archive = _Zip(path)
    with open_regular(path, "an archive") as raw, zipfile.ZipFile(raw) as file:
        infos = file.infolist()
        if reason := damaged_contents(raw, len(infos)):
            members.listing.refuse(os.path.basename(path), reason)
        for info in infos:
            mode = info.external_attr >> 16
            kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
            trouble = "encrypted" if info.flag_bits & 1 else None
            name = members.wants(info.filename, kind, info.file_size, trouble)
            if name is not None:
                members.add(name, archive, info, info.file_size)


__all__ = ["is_archive", "leaves_archive", "list_archive"]
