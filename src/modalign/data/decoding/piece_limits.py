"""Limits on the number of pieces of a file that Pillow reads in Python loops.

A file of very many tiny pieces, which no camera or program writes, would keep a thread busy for minutes per gigabyte,
and TIFF tags that share their bytes would take memory without limit. JPEG has a module of its own
(:mod:`~modalign.data.decoding.jpeg`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from modalign.core.errors import UndecodableError

_MAX_CHUNKS = 2**18  # PNG: 1 GB in the usual chunks of 8 KB is half of that
_MAX_BLOCKS = 2**16  # GIF: 16 MB before the first picture
_MAX_BOXES = 2**12  # JPEG 2000
_MAX_TAGS = 2**12  # TIFF
_MAX_HEADER = 2**16  # PNM, bytes
_MAX_TEXT = 2**22  # bytes of what is decoded number by number: plain PNM and run-length encoded BMP
_MAX_ICONS = 2**23  # bytes


def bounded(data: bytes, kind: str | None) -> bytes:
    """Return the file; a GIF without the blocks before its first picture.

    Raises
    ------
    UndecodableError
        It has more pieces than any program writes.
    """
    check = _CHECKS.get(kind or "")
    try:
        return data if check is None else check(data)
    except (struct.error, IndexError):
        raise UndecodableError("truncated: the file ends before the image does") from None


def _png(data: bytes) -> bytes:
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            return data
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise UndecodableError(f"corrupt PNG file: more than {_MAX_CHUNKS} chunks")


def _gif(data: bytes) -> bytes:
    colors = data[10]
    position = start = 13 + (3 * 2 ** ((colors & 7) + 1) if colors & 0x80 else 0)
    control = b""
    for _ in range(_MAX_BLOCKS):
        found = _GIF_BLOCK.search(data, position)
        if found is None or found[0] == b";":
            break
        if found[0] == b",":
            return data[:start] + control + data[found.start() :]
        end, blocks = found.end() + 1, 0
        while data[end]:
            end, blocks = end + 1 + data[end], blocks + 1
            if blocks > _MAX_BLOCKS:
                raise UndecodableError(f"corrupt GIF file: more than {_MAX_BLOCKS} blocks")
        position = end + 1
        if data[found.end()] == 0xF9:  # transparency
            control = data[found.start() : position]
    raise UndecodableError("truncated: the file ends before the image does")


def _jpeg2000(data: bytes) -> bytes:
    position = 0 if data.startswith(b"\0\0\0\x0c") else len(data)
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            return data
        length, kind = struct.unpack_from(">I4s", data, position)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
        if length == 0 or kind == b"jp2c":
            return data
        position += 8 if kind == b"jp2h" else max(length, 8)
    raise UndecodableError(f"corrupt JPEG 2000 file: more than {_MAX_BOXES} boxes")


def _tiff(data: bytes) -> bytes:
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if count > _MAX_TAGS:
        raise UndecodableError(f"corrupt TIFF file: more than {_MAX_TAGS} tags")
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    total = 0
    for place in range(start + (8 if big else 2), start + (8 if big else 2) + count * entry.size, entry.size):
        if place + entry.size > len(data):
            break
        _, kind, number, _ = entry.unpack_from(data, place)
        total += number * _TIFF_SIZES.get(kind, 1)
    if total > len(data):
        raise UndecodableError("corrupt TIFF file: its tags are larger than the file")
    return data


def _bmp(data: bytes) -> bytes:
    if data[14] >= 40 and data[30] in (1, 2) and len(data) > _MAX_TEXT:
        raise UndecodableError(f"too large: a run-length encoded BMP, the limit is {_MAX_TEXT >> 20} MB")
    return data


def _ico(data: bytes) -> bytes:
    if len(data) > _MAX_ICONS:
        raise UndecodableError(f"too large: an ICO file, the limit is {_MAX_ICONS >> 20} MB")
    return data


def _pnm(data: bytes) -> bytes:
    header = re.sub(rb"#[^\r\n]*", b"", data[:_MAX_HEADER])
    if len(header.split(maxsplit=4)) < (3 if data[1] in b"14" else 4):
        raise UndecodableError("truncated: the file ends before the image does")
    if data[1] in b"123" and len(data) > _MAX_TEXT:
        raise UndecodableError(f"too large: a picture as text, the limit is {_MAX_TEXT >> 20} MB")
    return data


_GIF_BLOCK = re.compile(rb"[!,;]")
_TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CHECKS: dict[str, Callable[[bytes], bytes]] = {
    "PNG": _png, "GIF": _gif, "JPEG 2000": _jpeg2000, "TIFF": _tiff, "BMP": _bmp, "PNM": _pnm,
    "ICO": _ico,
}  # fmt: skip
