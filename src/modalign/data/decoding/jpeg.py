"""Reading of the header of a JPEG before it is passed to a decoder.

Decoders differ in what they skip before the first scan, which may take much time or memory. The header is therefore
rebuilt from its valid segments, and the decoder gets these only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from modalign.core.errors import UndecodableError

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MAX_SEGMENTS = 2**14  # 1 GB of them in segments of full length; a decoder needs a loop in Python for each
_MAX_SCANS = 100  # each passes over the whole picture; a progressive JPEG has about ten
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_STANDALONE = (0x01, *range(0xD0, 0xD8))
_SOS, _SOI, _EOI = 0xDA, 0xD8, 0xD9


@dataclass(frozen=True)
class Jpeg:
    """Header of a JPEG.

    Attributes
    ----------
    data : bytes
        The file without metadata and without data between the segments of its header. JFIF and Adobe segments are kept,
        since they define the color space.
    orientation : int
        Of EXIF, 1 (upright) by default.
    components : int
        Color components.
    in_one_pass : bool
        Whether the decoder needs memory for the reduced picture only. If not (progressive, or a scan per component), it
        keeps all coefficients of the whole picture, 2 bytes for each sample, at whatever scale it decodes.
    """

    data: bytes
    orientation: int
    components: int
    in_one_pass: bool


def read_jpeg(data: bytes) -> Jpeg:
    """Read the header.

    Raises
    ------
    UndecodableError
        The header is cut off or not one.
    """
    kept, orientation = [data[:2]], 1
    frames: list[tuple[int, int]] = []  # kind and number of components
    position = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)  # skips junk and fill bytes
        if found is None:
            break
        marker, start = data[found.start() + 1], found.end()
        if marker in _STANDALONE:
            position = start
            continue
        if marker in (_SOI, _EOI):
            raise UndecodableError("corrupt JPEG file: it ends before the picture begins")
        length = int.from_bytes(data[start : start + 2], "big")
        end = start + length
        if length < 2 or end > len(data):
            break
        if marker == _SOS:
            return _finish(data, b"".join(kept) + data[found.start() :], orientation, frames, data[start + 2])
        if marker == 0xE1 and data[start + 2 : start + 8] == b"Exif\0\0":
            orientation = exif_orientation(data[start + 2 : end])
        if marker in _SOF:
            frames.append((marker, data[start + 7] if length > 7 else 0))
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            kept.append(data[found.start() : end])
        position = end
    else:
        raise UndecodableError(f"corrupt JPEG file: more than {_MAX_SEGMENTS} segments before the picture begins")
    raise UndecodableError("truncated: the file ends before the image does")


def _finish(original: bytes, data: bytes, orientation: int, frames: list[tuple[int, int]], in_scan: int) -> Jpeg:
    if len(frames) != 1:
        raise UndecodableError("corrupt JPEG file: it must have exactly one frame header")
    ((kind, components),) = frames
    in_one_pass = kind in _SEQUENTIAL and in_scan == components
    if not in_one_pass and original.count(bytes([0xFF, _SOS])) > _MAX_SCANS:
        raise UndecodableError(f"corrupt JPEG file: more than {_MAX_SCANS} scans")
    return Jpeg(data, orientation, components, in_one_pass)


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block; 1 (upright) if it is not there or not readable."""
    exif = exif.removeprefix(b"Exif\0\0")
    orders: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
    order = orders.get(bytes(exif[:4]))
    if order is None:
        return 1
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        if int.from_bytes(exif[entry : entry + 2], order) == 0x0112:
            return int.from_bytes(exif[entry + 8 : entry + 10], order)
    return 1
