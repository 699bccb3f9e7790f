"""Decoding of image files to RGB.

Images are decoded as an image viewer displays them: EXIF rotation is applied, CMYK and 16-bit gray are converted to
8-bit RGB, transparency is composited on white, and the first frame of an animation is used. Pillow's global settings
are not changed, and any number of threads may decode concurrently.
"""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import IO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import __version__ as PILLOW
from PIL.ImageFile import ImageFile

from modalign.core.errors import UndecodableError
from modalign.data.decoding.jpeg import Jpeg, exif_orientation, read_jpeg
from modalign.data.decoding.libtiff import silent_libtiff
from modalign.data.decoding.piece_limits import bounded
from modalign.data.decoding.pixels import to_rgb
from modalign.data.decoding.sniff import REGISTRARS, describe_format, pillow_format, sniff

Target = Callable[[int, int], tuple[int, int]]

DECODER = f"pillow {PILLOW}, limits 2"
"""Decoder version stored with a refusal. Increase the number with every change of a limit."""
MAX_PIXELS = 2**27
"""Pictures with more pixels are refused (134 megapixels)."""
MAX_BYTES = 8 * MAX_PIXELS
"""Memory that decoding one picture may take besides its file (1 GiB): fewer pixels where each takes more."""
DRAFT_PIXELS = 2**25
"""A JPEG above 34 megapixels is decoded at 1/2, 1/4 or 1/8 of its size, which its format allows without the whole."""
OVERSAMPLING = 2
"""A JPEG that is to be made smaller is decoded at the least of these scales with at least this many times the size."""
MAX_JPEG_PIXELS = 2**30
"""The limit for a JPEG that is decoded in one pass, whose memory is that of the reduced picture."""
_BYTES_A_PIXEL = {"WebP": 16, "AVIF": 20, "HEIC": 20, "JPEG XL": 20, "JPEG 2000": 26}
_BYTES_A_PIXEL_OTHERWISE = 8  # 4 in Pillow, and 4 for the picture in RGB or upright
_SCALES = (1, 2, 4, 8)  # at one of which libjpeg computes the pixels
_LARGE = 2**28  # bytes; pictures that take more are decoded one at a time

# Pillow logs some damage; without a handler, the log goes to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# The plugin classes and not Image.open: that one warns or raises by a global pixel limit before a JPEG can be
# reduced, and would also try formats that start other programs (EPS starts Ghostscript).
_PLUGINS: dict[str, Callable[[IO[bytes], str | bytes], ImageFile]] = {
    plugin.format: plugin
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        IcoImagePlugin.IcoImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        PpmImagePlugin.PpmImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # of these width and height are exchanged
_quiet_lock = threading.Lock()
_large_lock = threading.Lock()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, target: Target | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright, without metadata.

    Transparent pixels become white. 16-bit gray is rescaled by its full range (12-bit TIFF by 12 bits). A 32-bit or
    floating-point image has no defined white level: the range is 0…1, 0…255 or 0…65535 if it contains all values, else
    their minimum and maximum. Color profiles are not applied, as in CLIP's preprocessing. A JPEG above
    :data:`DRAFT_PIXELS` is decoded at reduced size; :func:`full_size` has the size of the file.

    Parameters
    ----------
    data : bytes
        The bytes of an image file.
    max_pixels : int, default=MAX_PIXELS
        Largest number of pixels that is accepted.
    target : callable or None, default=None
        Function from (width, height) of the upright image to the size that the caller resizes it to. A JPEG is decoded
        at reduced size if that is still at least :data:`OVERSAMPLING` times as large; after resizing, the mean
        difference is less than half of one of 255 levels. None keeps all pixels.

    Raises
    ------
    UndecodableError
        The bytes cannot be decoded; the message is the reason.
    """
    kind = sniff(data)
    try:
        # Pillow warns about broken metadata in these; catching warnings is not thread-safe, hence one at a time.
        rare = kind in ("TIFF", "GIF", "ICO") or (kind == "PNG" and b"acTL" in data[:4096])
        with _quiet() if rare else nullcontext():
            return _decode(data, kind, max_pixels, target)
    except UndecodableError:
        raise
    except Exception as error:  # a decoder may raise anything on hostile bytes, and no file may stop a run
        if passing := _passing_trouble(error):
            raise UndecodableError(f"cannot be decoded at this moment: {passing}", lasting=False) from error
        raise UndecodableError(_reason(error, kind, data)) from error


def wastes_bits(data: bytes, picture: Image.Image) -> bool | None:
    """Whether the top two bits of a 16-bit PNG are empty, so that it decodes to almost black; None for other files."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[24:25] != b"\x10":
        return None
    return bool(np.asarray(picture).max() <= 64)


def _decode(data: bytes, kind: str | None, max_pixels: int, target: Target | None) -> Image.Image:
    plugin = _plugin(kind)
    if plugin is None:
        raise UndecodableError(describe_format(data, kind), lasting=kind not in REGISTRARS)
    jpeg = read_jpeg(data) if kind == "JPEG" else None
    image = plugin(BytesIO(bounded(data, kind) if jpeg is None else jpeg.data), "")
    width, height = image.size
    pixels = width * height
    limit = _pixel_limit(image, kind, jpeg, max_pixels)
    if pixels > limit:
        raise UndecodableError(
            f"too large: {image.width} × {image.height} pixels, {pixels / 1e6:.0f} megapixels, "
            f"the limit is {limit / 1e6:.0f}"
        )
    if jpeg is not None:
        whole = min(DRAFT_PIXELS, max_pixels if jpeg.in_one_pass else max_pixels // 4)
        scale = next(s for s in _SCALES if pixels <= s * s * whole or s == _SCALES[-1])
        if target is not None:
            scale = max(scale, _spared(image.size, jpeg.orientation, target))
        if scale > 1:
            image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    taken = pixels * MAX_BYTES // _pixel_limit(image, kind, jpeg, MAX_PIXELS)
    with _large_lock if taken > _LARGE else nullcontext():
        image.load()
        orientation = _orientation(image, kind, jpeg)
        rgb = to_rgb(image)
        del image  # the picture before conversion; turning it takes as much again
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
    rgb.info.clear()  # a stale orientation tag would make the next reader turn the picture again
    full = (height, width) if orientation in _SIDEWAYS else (width, height)
    if rgb.size != full:
        rgb.info["full_size"] = full
    return rgb


def full_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) of an upright picture before :func:`decode` reduced it; its own if it did not."""
    return picture.info.get("full_size", picture.size)


def _spared(size: tuple[int, int], orientation: int, target: Target) -> int:
    """The largest reduction that leaves enough of a picture of a stored size, and leaves its target as it is."""
    width, height = size[::-1] if orientation in _SIDEWAYS else size
    wanted = target(width, height)
    for scale in _SCALES[:0:-1]:
        reduced = math.ceil(width / scale), math.ceil(height / scale)
        enough = all(left >= OVERSAMPLING * side for left, side in zip(reduced, wanted, strict=True))
        if enough and target(*reduced) == wanted:
            return scale
    return 1


def _plugin(kind: str | None) -> Callable[[IO[bytes], str | bytes], ImageFile] | None:
    """Return the reader of a kind of file, or None, independent of other imported packages."""
    name = pillow_format(kind)
    return None if name is None else _PLUGINS.get(name) or Image.OPEN[name][0]


def _pixel_limit(image: ImageFile, kind: str | None, jpeg: Jpeg | None, max_pixels: int) -> int:
    """The largest picture that is decoded within :data:`MAX_BYTES` (less for a smaller ``max_pixels``)."""
    if jpeg is None:
        taken = _BYTES_A_PIXEL.get(kind or "", _BYTES_A_PIXEL_OTHERWISE)
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # a whole picture may be one strip
            taken = 4 + max(image.tag_v2.get(258, (8,))) // 8 * image.tag_v2.get(277, 1)
        return max_pixels * _BYTES_A_PIXEL_OTHERWISE // max(taken, _BYTES_A_PIXEL_OTHERWISE)
    if jpeg.in_one_pass:
        return min(8 * max_pixels, MAX_JPEG_PIXELS)
    # All coefficients, 2 bytes each, and a picture of at most a quarter of the pixels.
    return min(max_pixels, 3 * max_pixels // max(jpeg.components, 1))


def _orientation(image: ImageFile, kind: str | None, jpeg: Jpeg | None) -> int:
    if jpeg is not None:
        return jpeg.orientation
    if kind == "TIFF":
        return image.getexif().get(0x0112, 1)
    return exif_orientation(image.info["exif"]) if image.info.get("exif") else 1


def _passing_trouble(error: Exception) -> str | None:
    """Return the temporary lack of the machine, or None if the error is a property of the file."""
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return "not enough memory"
    if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have none
        return (error.strerror or str(error)).lower()
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    with _quiet_lock, warnings.catch_warnings(), silent_libtiff():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception, kind: str | None, data: bytes) -> str:
    if "decompressionbomb" in type(error).__name__.lower():
        return "too large: it unpacks to far more pixels than it declares"
    text = str(error).lower()
    if _ends_early(data, kind) or isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text:
        return "truncated: the file ends before the image does"
    return f"corrupt {kind} file: the image data cannot be decoded"


def _ends_early(data: bytes, kind: str | None) -> bool:
    """Whether a broken file lacks the end that its format demands."""
    match kind:
        case "JPEG":
            return b"\xff\xd9" not in data
        case "PNG":
            return b"IEND" not in data
        case "GIF":
            return data[-1:] != b";"
        case "WebP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False
