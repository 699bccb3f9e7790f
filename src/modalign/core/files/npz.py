"""Reading ``.npz`` files of unknown origin."""

from __future__ import annotations

import math
import os
import sys
import zipfile
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from modalign.core.errors import InputError
from modalign.core.files.reading import open_regular

MEMBER_LIMIT = 1000
"""Arrays that a file may hold."""
EXPANSION = 100
"""A file may unpack to this many times its size, and to 256 MiB in any case; vectors compress by a tenth."""
_EXPANDED_ANYWAY = 2**28
_HEADER_LIMIT = 10_000  # characters; NumPy's own limit
_BLOCK = 2**24  # elements that are checked at a time
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats", "U": "strings"}


def read_npz(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Read every array of an ``.npz`` file into memory, in its own type.

    Nothing is unpickled. Sizes are checked before memory is allocated: an array must fill its archive member exactly,
    and the file may expand to at most :data:`EXPANSION` times its size. Checksums are verified.

    Parameters
    ----------
    path : str or Path
        The file to read.
    what : str
        Expected kind of file, for messages: "a features file (.npz)".

    Returns
    -------
    arrays : dict of str to ndarray
        Numbers, booleans and strings only; floats are finite.

    Raises
    ------
    InputError
        The file has another format, is damaged or too large, or an array contains NaN.
    """
    with open_regular(path, what) as file:
        try:
            return _read_members(file)
        except InputError as error:
            raise InputError(f"Expected {what}, '{path}' is not one: {error}") from None
        except MemoryError:
            raise InputError(f"Expected {what} that fits into memory, '{path}' does not.") from None
        except OSError:
            raise
        except Exception as error:  # hostile bytes make zipfile, decompressors and NumPy's parser raise anything
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise InputError(f"Expected {what}, '{path}' is damaged: {reason}.") from None


def damaged_contents(file: BinaryIO, found: int) -> str | None:
    """Return why the central directory of a zip file with ``found`` members is damaged, or None."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16 - 22))
    end = file.read()
    place = end.rfind(b"PK\5\6")
    declared = int.from_bytes(end[place + 10 : place + 12], "little")
    if place < 0 or declared in (2**16 - 1, found % 2**16):  # the first value means that the number is stored elsewhere
        return None
    return f"its table of contents is damaged: it declares {declared} members and names {found}"


def _read_members(file: BinaryIO) -> dict[str, np.ndarray]:
    if file.read(6) == b"\x93NUMPY":
        raise InputError("it is a single array (.npy); save it with numpy.savez and a name.")
    file.seek(0)
    if not zipfile.is_zipfile(file):
        raise InputError("it is not an .npz file, or it is cut off.")
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if reason := damaged_contents(file, len(members)):
            raise InputError(f"{reason}.")
        _check_members(members, size)
        return {info.filename.removesuffix(".npy"): _read_array(archive, info) for info in members}


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in members]
    if len(names) > MEMBER_LIMIT:
        raise InputError(f"it holds {len(names)} arrays, at most {MEMBER_LIMIT} are read.")
    for name in names:
        if not name.endswith(".npy"):
            raise InputError(f"it holds '{name}', which is not an array.")
        if names.count(name) > 1:
            raise InputError(f"it holds the array '{name.removesuffix('.npy')}' twice.")
    unpacked = sum(info.file_size for info in members)
    if unpacked > max(_EXPANDED_ANYWAY, EXPANSION * size):
        raise InputError(f"it unpacks to {unpacked / 2**30:.1f} GiB, more than {EXPANSION} times its size.")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member, name)
        expected = math.prod(shape) * dtype.itemsize
        if member.tell() + expected != info.file_size:
            raise InputError(f"the array '{name}' is shorter or longer than in its header.")
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        buffer = array.reshape(-1, order="A").view(np.uint8).data if expected else memoryview(b"")
        filled = 0
        while filled < expected:
            data = member.read(min(2**20, expected - filled))
            if not data:
                raise EOFError(f"the array '{name}' is cut off")
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        member.read(1)  # the checksum is compared at the end
    array = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    _check_content(array, name)
    return array


def _read_header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:  # 3.0 is for records with names outside Latin-1
        raise InputError(f"the array '{name}' has format version {version[0]}.{version[1]}, expected 1.0 or 2.0.")
    shape, fortran, dtype = readers[version](member, max_header_size=_HEADER_LIMIT)
    if dtype.kind not in _KINDS:
        raise InputError(f"the array '{name}' holds {dtype}; expected numbers or strings.")
    if any(side < 0 for side in shape) or (0 in shape[1:] and shape[0]):  # rows without content could be any number
        raise InputError(f"the array '{name}' has the shape {shape}.")
    return shape, fortran, dtype


def _check_content(array: np.ndarray, name: str) -> None:
    flat = array.reshape(-1, order="A")
    if array.dtype.kind == "U":
        flat = flat.view(np.uint32) if array.nbytes else flat[:0]
    for start in range(0, flat.size if array.dtype.kind in "fU" else 0, _BLOCK):
        block = flat[start : start + _BLOCK]
        if array.dtype.kind == "f" and not np.isfinite(block).all():
            raise InputError(f"the array '{name}' holds NaN or infinity.")
        if array.dtype.kind == "U" and ((block > sys.maxunicode) | (block >> 11 == 0xD800 >> 11)).any():
            raise InputError(f"the array '{name}' holds characters that do not exist.")
