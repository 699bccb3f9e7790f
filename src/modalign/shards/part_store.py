"""Where parts are written: a folder, or a place in an object store that fsspec can write to."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from modalign.core.errors import InputError, ModalignError
from modalign.core.files import (
    address_of,
    make_folder,
    plain_path,
    read_bytes,
    remove_temporary_files,
    replacing,
    require_own_folder,
)
from modalign.core.part_files import CARD_FILE, MANIFEST_FILE, PART_NAME
from modalign.data.remote import WRITABLE, fetch, opened

_CHUNK = 2**22


class PartStore(Protocol):
    """Files of one set of parts by name. It can be sent to another process."""

    def __hash__(self) -> int: ...

    def prepare(self) -> None:
        """Make the place; raise an InputError if it cannot be written or holds something else."""

    def names(self) -> set[str]:
        """Names of all files."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def read(self, name: str, what: str) -> bytes:
        """The bytes of a small file; an InputError with ``what`` was expected if it cannot be read."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file for reading at any position."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def sha256(self, name: str) -> str:
        """Hash of a file, as hexadecimal digits."""

    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        """Write a file at once: readers see all of it or nothing."""

    def remove(self, name: str) -> None:
        """Delete a file."""

    def finish(self) -> None:
        """Remove what killed writers left."""


def part_store(place: str | os.PathLike[str]) -> PartStore:
    """The store of a folder, by path or ``file://``, or of an address such as ``s3://bucket/features``.

    Raises
    ------
    InputError
        Nothing can be written to such an address.
    """
    place = plain_path(place)
    found = address_of(place)
    if found is None:
        return LocalParts(Path(place).absolute())
    scheme, address = found
    if scheme not in WRITABLE:
        raise InputError(
            f"Expected a folder or an address to write parts to, of {', '.join(WRITABLE)}, got '{address}'; nothing "
            f"can be written to {scheme}://."
        )
    return RemoteParts(address.rstrip("/"))


@dataclass(frozen=True)
class LocalParts:
    """A folder. Files appear by rename."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        require_own_folder(self.folder, "parts of an earlier run", CARD_FILE, _is_own)
        make_folder(self.folder)

    def names(self) -> set[str]:
        return set(os.listdir(self.folder)) if self.folder.is_dir() else set()

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def read(self, name: str, what: str) -> bytes:
        return read_bytes(self.folder / name, what)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        return open(self.folder / name, "rb")

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def sha256(self, name: str) -> str:
        return _digest(self.open(name))

    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        with replacing(self.folder / name, overwrite=overwrite) as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = "it is a folder" if path.is_dir() else error.strerror or str(error)
            raise InputError(
                f"Expected a damaged file '{path}' to be deleted, got: {reason}; delete it and run the command again."
            ) from None

    def finish(self) -> None:
        remove_temporary_files(self.folder)


@dataclass(frozen=True)
class RemoteParts:
    """A place in an object store. A file is one upload, which such stores make visible at once."""

    address: str

    def __str__(self) -> str:
        return self.address

    def prepare(self) -> None:
        foreign = sorted(name for name in self.names() if not _is_own(name))
        if foreign and CARD_FILE not in self.names():
            raise InputError(
                f"Expected an empty place or one with parts of an earlier run, '{self}' holds other files, such as "
                f"'{foreign[0]}'; choose another name."
            )

    def names(self) -> set[str]:
        files, root = opened(self.address)
        files.invalidate_cache()
        try:
            return {path.rsplit("/", 1)[-1] for path in files.ls(root, detail=False)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise InputError(f"Expected a place to write parts to, '{self}' cannot be listed: {error}.") from None

    def exists(self, name: str) -> bool:
        files, root = opened(self.address)
        return bool(files.exists(f"{root}/{name}"))

    def read(self, name: str, what: str) -> bytes:
        return fetch(f"{self.address}/{name}", what)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        files, root = opened(self.address)
        return files.open(f"{root}/{name}", "rb")

    def size(self, name: str) -> int:
        files, root = opened(self.address)
        return int(files.size(f"{root}/{name}"))

    def sha256(self, name: str) -> str:
        return _digest(self.open(name))

    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        files, root = opened(self.address)
        try:
            if overwrite or not self.exists(name):
                files.pipe_file(f"{root}/{name}", content)
        except Exception as error:  # each store has errors of its own
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise ModalignError(
                f"'{self.address}/{name}' cannot be written: {reason}; run the command again."
            ) from error

    def remove(self, name: str) -> None:
        files, root = opened(self.address)
        files.rm_file(f"{root}/{name}")

    def finish(self) -> None:
        """Nothing: an upload that is not complete is not visible."""


def _is_own(name: str) -> bool:
    """Whether a file belongs to a set of parts, also where its card is gone; other programs write ``part-00000``."""
    return name == MANIFEST_FILE or name.startswith("_features-") or PART_NAME.fullmatch(name) is not None


def _digest(file: AbstractContextManager[BinaryIO]) -> str:
    digest = hashlib.sha256()
    with file as stream:
        while data := stream.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()
