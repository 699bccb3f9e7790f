"""Builds a folder that holds every kind of file a user's folder may hold: odd but good ones, and broken ones.

Everything is made here, byte by byte, so that no sample has to be shipped; tests of the encoders and of the command
line use the same folder.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

RED, BLUE, GREEN, WHITE = (220, 40, 30), (30, 60, 210), (20, 160, 60), (255, 255, 255)


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Left red, right blue, a green corner at the top left: any turn or mirror shows."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] = RED
    pixels[:, width // 2 :] = BLUE
    pixels[: height // 2, : width // 4] = GREEN
    return Image.fromarray(pixels)


def gray() -> np.ndarray:
    """A ramp of all 16-bit levels from black to white, 4 × 64."""
    return np.tile(np.linspace(0, 65535, 64).round().astype(np.uint16), (4, 1))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(tag: int, kind: str = "JPEG") -> bytes:
    """``picture()`` stored so that EXIF orientation ``tag`` turns it upright."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[tag]
    image = picture() if undo is None else picture().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return encoded(image, kind, exif=exif.tobytes(), **options)


def half_transparent(mode: str) -> Image.Image:
    """The right half fully transparent, over colors that must have no effect."""
    image = picture().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (24, 0, 48, 32))
    image.putalpha(alpha)
    return image.convert(mode)


def palette_transparent() -> bytes:
    image = Image.new("P", (48, 32), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (24, 0, 48, 32))
    return encoded(image, "PNG", transparency=bytes([255, 0]))


def animated(kind: str) -> bytes:
    options = {"lossless": True} if kind == "WEBP" else {}
    second = Image.new("RGB", (48, 32), (0, 0, 0))
    return encoded(picture(), kind, save_all=True, append_images=[second], duration=50, **options)


def png_declaring(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def photo(kind: str) -> bytes:
    """A picture that does not compress well, so that half of its file is half of the picture."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), kind)


def ftyp(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(200)


def broken_exif() -> bytes:
    """A sound JPEG whose EXIF block points nowhere; a reader that parses it complains."""
    block = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x0f\x01\x02\0\xff\xff\0\0\xff\xff\xff\x7f" * 2
    return encoded(picture(), "JPEG", exif=block, quality=95)


GOOD: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: encoded(picture(), "JPEG", quality=95),
    "SHOUTING.JPG": lambda: encoded(picture(), "JPEG", quality=95),
    "schön 写真.png": lambda: encoded(picture(), "PNG"),
    "a png called.jpg": lambda: encoded(picture(), "PNG"),
    "progressive.jpg": lambda: encoded(picture(), "JPEG", quality=95, progressive=True),
    "cmyk.jpg": lambda: encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "cmyk.tif": lambda: encoded(picture().convert("CMYK"), "TIFF"),
    "lossless.webp": lambda: encoded(picture(), "WEBP", lossless=True),
    "windows.bmp": lambda: encoded(picture(), "BMP"),
    "portable.ppm": lambda: encoded(picture(), "PPM"),
    "rgba.png": lambda: encoded(half_transparent("RGBA"), "PNG"),
    "grey-alpha.png": lambda: encoded(half_transparent("LA"), "PNG"),
    "palette.png": lambda: encoded(picture().quantize(8), "PNG"),
    "palette-transparent.png": palette_transparent,
    "one-bit.png": lambda: encoded(picture().convert("1"), "PNG"),
    "grey.jpg": lambda: encoded(picture().convert("L"), "JPEG"),
    "grey16.png": lambda: encoded(Image.fromarray(gray()), "PNG"),
    "grey16.tif": lambda: encoded(Image.fromarray(gray()), "TIFF"),
    "float.tif": lambda: encoded(Image.fromarray((gray() / 65535).astype(np.float32)), "TIFF"),
    "animated.gif": lambda: animated("GIF"),
    "animated.webp": lambda: animated("WEBP"),
    "animated.png": lambda: animated("PNG"),
    "turned.jpg": lambda: oriented(6),
    "turned.webp": lambda: oriented(8, "WEBP"),
    "turned.png": lambda: oriented(5, "PNG"),
    "turned.tif": lambda: oriented(6, "TIFF"),
    "broken exif.jpg": broken_exif,
    "large.jpg": lambda: encoded(Image.new("L", (6000, 6000), 90), "JPEG", quality=50),
    "one pixel.png": lambda: encoded(Image.new("RGB", (1, 1), RED), "PNG"),
}
"""File name → bytes of files that must be decoded."""

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "empty file"),
    "zeros.jpg": (lambda: bytes(5000), "only zero bytes"),
    "truncated.jpg": (lambda: photo("JPEG")[:2000], "truncated"),
    "truncated.png": (lambda: photo("PNG")[:6000], "truncated"),
    "truncated.gif": (lambda: photo("GIF")[:2000], "truncated"),
    "truncated.webp": (lambda: photo("WEBP")[:1000], "truncated"),
    "truncated.tif": (lambda: photo("TIFF")[:6000], "truncated"),
    "truncated.bmp": (lambda: photo("BMP")[:6000], "truncated"),
    "only a header.jpg": (lambda: photo("JPEG")[:20], "truncated"),
    "only a signature.png": (lambda: photo("PNG")[:8], "truncated"),
    "text.jpg": (lambda: b"this is not a picture at all\n" * 20, "not an image"),
    "web page.jpg": (lambda: b"<!DOCTYPE html><html><title>404</title></html>", "web page"),
    "pointer.jpg": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "phone.heic": (lambda: ftyp(b"heic"), "HEIC"),
    "movie.jpg": (lambda: ftyp(b"isom").replace(b"mif1", b"mp41"), "video"),
    "drawing.svg": (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "layers.psd": (lambda: b"8BPS\0\1" + bytes(100), "Photoshop"),
    "paper.jpg": (lambda: b"%PDF-1.7\n" + bytes(100), "PDF"),
    "camera.cr2": (lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "camera raw"),
    "postscript.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "bomb.png": (lambda: png_declaring(60_000, 60_000), "too large"),
    "noise.png": (lambda: photo("PNG")[:40] + bytes(range(256)) * 4, "corrupt|truncated"),
}
"""File name → bytes of files that must be quarantined, and what the reason must say."""


@dataclass(frozen=True)
class BadFolder:
    """What :func:`make_bad_folder` made.

    Attributes
    ----------
    root : the folder, with two class folders.
    good : ids of the files that must be used.
    bad : id → regular expression that its reason matches.
    """

    root: Path
    good: tuple[str, ...]
    bad: dict[str, str]


def make_bad_folder(root: Path, classes: tuple[str, str] = ("cat", "dog")) -> BadFolder:
    """Write every file of :data:`GOOD` and :data:`BAD`, and the traps of a file system, into two class folders."""
    good, bad = [], {}
    for name in classes:
        (root / name).mkdir(parents=True)
    for i, (name, make) in enumerate(GOOD.items()):
        good.append(f"{classes[i % 2]}/{name}")
        (root / good[-1]).write_bytes(make())
    for i, (name, (make, reason)) in enumerate(BAD.items()):
        bad[f"{classes[i % 2]}/{name}"] = reason
        (root / classes[i % 2] / name).write_bytes(make())
    for name in (".DS_Store", "._plain.jpg", "Thumbs.db", "notes.txt"):
        (root / classes[0] / name).write_bytes(b"of no interest")
    (root / classes[0] / "a folder called.jpg").mkdir()
    (root / classes[0] / "broken link.jpg").symlink_to(root / "nowhere.jpg")
    (root / classes[0] / "round in circles").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / classes[0] / "pipe.jpg")
    bad[f"{classes[0]}/broken link.jpg"] = "broken link"
    bad[f"{classes[0]}/round in circles"] = "link"
    bad[f"{classes[0]}/pipe.jpg"] = "not a regular file"
    return BadFolder(root, tuple(good), bad)
