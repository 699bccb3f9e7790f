"""Bytes → RGB picture, or one short reason why not.

What a user's folder really holds is decoded as a viewer would show it: EXIF rotation applied, CMYK and 16-bit grey
brought to 8-bit RGB, transparency composited on white, the first frame of an animation. Pillow's global switches are
never touched, so decoding here changes nothing elsewhere in the process and any number of threads may decode at once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

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
from PIL.ImageFile import ImageFile

from modalign.data.sniff import describe, sniff
from modalign.errors import UndecodableError

MAX_PIXELS = 2**27
"""Pictures with more pixels are refused (134 megapixels: 0.5 GB while decoding)."""
DRAFT_PIXELS = 2**25
"""A JPEG above 34 megapixels is decoded at 1/2, 1/4 or 1/8 of its size, which its format allows without the whole."""
MAX_JPEG_PIXELS = 2**30
"""The limit for a baseline JPEG, whose memory is that of the reduced picture."""

# The plugin classes and not Image.open: that one warns or raises by a global pixel limit before a JPEG can be
# reduced, and would also try formats that start other programs (EPS starts Ghostscript).
_PLUGINS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "ICO": IcoImagePlugin.IcoImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
_REGISTERED = {"AVIF": "AVIF", "HEIC": "HEIF", "JPEG XL": "JXL"}  # ours → Pillow's, present with some installations
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_quiet_lock = threading.Lock()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in ``data`` as 8-bit RGB, upright, without metadata.

    Transparent parts become white. 16-bit grey is rescaled by its full range (12-bit TIFF by its own); a 32-bit or
    floating-point picture has no fixed white, so it is taken as 0…1, 0…255 or 0…65535 if its values lie there, else
    its darkest value becomes black and its brightest white. Colour profiles are not applied, as in CLIP's own
    preprocessing. A JPEG above :data:`DRAFT_PIXELS` comes out reduced.

    Parameters
    ----------
    data : the bytes of an image file.
    max_pixels : refuse pictures with more pixels than this.

    Raises
    ------
    UndecodableError
        With a reason in plain words, whatever the bytes are.
    """
    kind = sniff(data)
    try:
        # Pillow warns about broken metadata in these; catching warnings is not thread-safe, hence one at a time.
        rare = kind in ("TIFF", "GIF", "ICO") or (kind == "PNG" and b"acTL" in data[:4096])
        with _quiet() if rare else nullcontext():
            return _decode(data, kind, max_pixels)
    except UndecodableError:
        raise
    except MemoryError as error:
        raise UndecodableError("too large for the memory of this machine") from error
    except Exception as error:  # a decoder may raise anything on hostile bytes, and no file may stop a run
        raise UndecodableError(_reason(error, kind, data)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB by the rules of :func:`decode`; orientation is left as it is."""
    if image.mode[0] in "IF":
        image = _grey_to_8bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("LA") if image.mode == "La" else image
        rgba = image.convert("RGBA")
        if rgba.getextrema()[3][0] == 255:
            return rgba.convert("RGB")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba)
        return white
    if image.mode == "LAB":
        raise UndecodableError("colour space LAB is not supported; save it as RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode(data: bytes, kind: str | None, max_pixels: int) -> Image.Image:
    if kind is None or not (kind in _PLUGINS or _REGISTERED.get(kind, kind) in Image.OPEN):
        raise UndecodableError(describe(data, kind))
    orientation, progressive = 1, False
    if kind == "JPEG":
        data, orientation, progressive = _strip_jpeg(data)
    plugin = _PLUGINS.get(kind) or Image.OPEN[_REGISTERED[kind]][0]
    image = plugin(BytesIO(data))
    pixels = image.width * image.height
    # A progressive JPEG keeps all its coefficients in memory whatever the scale it is decoded at.
    limit = min(max_pixels * 8, MAX_JPEG_PIXELS) if kind == "JPEG" and not progressive else max_pixels
    if pixels > limit:
        raise UndecodableError(
            f"too large: {image.width} × {image.height} pixels, {pixels / 1e6:.0f} megapixels, "
            f"the limit is {limit / 1e6:.0f}"
        )
    if kind == "JPEG" and pixels > min(DRAFT_PIXELS, max_pixels):
        scale = next(s for s in (2, 4, 8) if pixels <= s * s * min(DRAFT_PIXELS, max_pixels) or s == 8)
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    image.load()
    if kind == "TIFF":
        orientation = image.getexif().get(0x0112, 1)
    elif "exif" in image.info:
        orientation = _orientation(image.info["exif"])
    rgb = to_rgb(image)
    if orientation in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[orientation])
    rgb.info.clear()  # a stale orientation tag would make the next reader turn the picture again
    return rgb


def _grey_to_8bit(image: Image.Image) -> Image.Image:
    """Modes I;16*, I and F → L, rescaled instead of clipped."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        bits = image.tag_v2.get(258, (16,))[0] if isinstance(image, TiffImagePlugin.TiffImageFile) else 16
        white = 2 ** min(max(int(bits), 8), 16) - 1
        table = np.minimum((np.arange(65536) * 255 + white // 2) // white, 255).astype(np.uint8)
        return Image.fromarray(table[values])
    white = next((w for w in (1.0, 255.0, 65535.0) if low >= 0 and high <= w), None)
    start, span = (0.0, white) if white else (low, high - low or 1.0)
    return Image.fromarray(((values - start) * (255.0 / span)).round().astype(np.uint8))


def _strip_jpeg(data: bytes) -> tuple[bytes, int, bool]:
    """The JPEG without its metadata, its EXIF orientation, and whether it is progressive.

    Without the metadata Pillow has nothing to warn about: it parses EXIF on opening, and much of the EXIF in the
    world is broken. JFIF and Adobe segments stay, since they say how the colours are stored.
    """
    kept, orientation, progressive = [data[:2]], 1, False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _orientation(data[position + 4 : end])
        progressive |= marker in (0xC2, 0xC6, 0xCA, 0xCE)
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]]), orientation, progressive


def _orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block; 1 (upright) if it is not there or not readable."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(bytes(exif[:4]))
    if order is None:
        return 1
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        if int.from_bytes(exif[entry : entry + 2], order) == 0x0112:
            return int.from_bytes(exif[entry + 8 : entry + 10], order)
    return 1


@contextmanager
def _quiet() -> Iterator[None]:
    with _quiet_lock, warnings.catch_warnings():
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
