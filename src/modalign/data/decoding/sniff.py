"""Kind of a file from its first bytes, and the kinds that are decoded. Exported folders have a copy; needs Pillow."""

from __future__ import annotations

import importlib
from contextlib import suppress

from PIL import Image

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ico", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif",
    ".jxl", ".psd", ".svg", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
})  # fmt: skip
"""File endings of images; files that cannot be decoded are quarantined with a reason."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\3\4", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"version https://git-lfs", "Git LFS pointer"),
)

PILLOW_FORMATS = {
    "JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WebP": "WEBP", "BMP": "BMP", "TIFF": "TIFF", "PNM": "PPM",
    "ICO": "ICO", "JPEG 2000": "JPEG2000", "AVIF": "AVIF", "HEIC": "HEIF", "JPEG XL": "JXL",
}  # fmt: skip
"""Kinds of files that are decoded, with Pillow's name. Its other formats are refused: EPS starts another program."""
REGISTRARS: dict[str, tuple[tuple[str, str], ...]] = {
    "AVIF": (("PIL.AvifImagePlugin", ""), ("pillow_avif", "")),
    "HEIC": (("pillow_heif", "register_heif_opener"),),
    "JPEG XL": (("pillow_jxl", ""),),
}
"""Kinds that some installations lack: modules, and their functions, that register the reader with Pillow."""


def sniff(data: bytes) -> str | None:
    """Return the kind of file that the first bytes of ``data`` indicate, or None."""
    head = bytes(data[:512])
    if head[:4] == b"II*\0" and head[8:10] == b"CR":
        return "camera raw"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(12, min(int.from_bytes(head[:4], "big"), 64))]
        if b"avi" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")):
            return "HEIC"
        return "camera raw" if b"crx " in brands else "video"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3].isspace():
        return "PNM"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "web page"
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in bytes(data[:4096]).lower():
        return "SVG"
    return None


def pillow_format(kind: str | None) -> str | None:
    """Return Pillow's name of a kind of file that this installation decodes, or None."""
    name = PILLOW_FORMATS.get(kind or "")
    for module, function in REGISTRARS.get(kind or "", ()):
        if name in Image.OPEN:
            break
        with suppress(Exception):  # another package may fail to load in any way
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
    return None if kind in REGISTRARS and name not in Image.OPEN else name


def describe_format(data: bytes, kind: str | None) -> str:
    """Return why a file of a ``kind`` without a decoder cannot be used."""
    if not data:
        return "empty file"
    advice = {
        "HEIC": "HEIC image, which Pillow cannot decode alone; convert it to JPEG or install pillow-heif",
        "SVG": "SVG drawing, not a photo; convert it to PNG",
        "web page": "a web page, not an image; the download went wrong",
        "Git LFS pointer": "a Git LFS pointer, not the image itself; run git lfs pull",
        "video": "a video, not an image",
    }
    if kind in advice:
        return advice[kind]
    if kind is not None:
        return f"{kind} file, which cannot be decoded; convert it to JPEG or PNG"
    if not bytes(data[:4096]).strip(b"\0"):
        return "only zero bytes: the file was not written completely"
    return "not an image, or in an unknown format"
