"""The limits on pixels, bytes and pieces hold for every spelling of a picture, in the memory of a real process."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, picture
from PIL import Image, features

from modalign.core.errors import UndecodableError
from modalign.data.decoding import piece_limits
from modalign.data.decoding.decode import decode, wastes_bits
from modalign.data.decoding.jpeg import read_jpeg

SIDE = 1200
LIMIT = SIDE * SIDE
MEASURED = 1800 * 1800


def segments(data: bytes) -> list[bytes]:
    """The header of a JPEG, segment by segment, and from its first scan on the rest."""
    found, position = [data[:2]], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        found.append(data[position:end])
        position = end
    return [*found, data[position:]]


def frame(parts: list[bytes]) -> int:
    return next(i for i, part in enumerate(parts) if part[:2] in (b"\xff\xc0", b"\xff\xc2"))


def scan_by_scan(image: Image.Image) -> bytes:
    """A baseline JPEG with a scan for each of its three components, which are all the same."""
    parts = segments(encoded(image.convert("L"), "JPEG", quality=30))
    at = frame(parts)
    parts[at] = b"\xff\xc0\0\x11" + parts[at][4:9] + b"\3" + b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
    body = parts.pop()[10:].removesuffix(b"\xff\xd9")
    scans = [b"\xff\xda\0\x08\1" + bytes([i]) + b"\0\0\x3f\0" + body for i in (1, 2, 3)]
    return b"".join([*parts, *scans, b"\xff\xd9"])


def spelled(data: bytes, how: str) -> bytes:
    """The same JPEG as a decoder reads it."""
    parts = segments(data)
    at = frame(parts)
    odd = {"junk": b"\0", "zeros": bytes(50_000), "fill": b"\xff" * 9, "restart": b"\xff\xd0", "stuffed": b"\xff\0"}[
        how
    ]
    return b"".join([*parts[:at], odd, *parts[at:]])


PLAIN = Image.new("RGB", (SIDE, SIDE), (90, 120, 30))
PROGRESSIVE = encoded(PLAIN, "JPEG", progressive=True, subsampling=0)
BUFFERED = {
    "progressive": PROGRESSIVE,
    "a scan for each component": scan_by_scan(PLAIN),
    **{how: spelled(PROGRESSIVE, how) for how in ("junk", "zeros", "fill", "restart", "stuffed")},
}


@pytest.mark.parametrize("name", BUFFERED)
def test_a_jpeg_that_needs_its_coefficients_in_memory_has_the_lower_limit(name: str) -> None:
    data = BUFFERED[name]
    assert not read_jpeg(data).in_one_pass
    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode(data)), expected)
    assert decode(data, max_pixels=LIMIT).size == (SIDE // 2, SIDE // 2)
    with pytest.raises(UndecodableError, match="too large"):
        decode(data, max_pixels=LIMIT - 1)


@pytest.mark.parametrize("how", ["junk", "zeros", "fill", "restart", "stuffed"])
def test_odd_bytes_between_segments_change_neither_picture_nor_limit(how: str) -> None:
    plain = encoded(picture(SIDE, SIDE), "JPEG", quality=90)
    assert read_jpeg(plain).in_one_pass
    assert read_jpeg(spelled(plain, how)).data == read_jpeg(plain).data
    assert decode(spelled(plain, how)).tobytes() == decode(plain).tobytes()
    assert decode(spelled(plain, how), max_pixels=LIMIT // 4).size == (SIDE // 2, SIDE // 2)


def test_a_header_without_one_frame_is_no_jpeg() -> None:
    parts = segments(encoded(picture(), "JPEG"))
    at = frame(parts)
    for broken, reason in (
        ([*parts[:at], *parts[at + 1 :]], "exactly one frame"),
        ([*parts[: at + 1], *parts[at:]], "exactly one frame"),
        ([*parts[:at], b"\xff\xd9", *parts[at:]], "ends before"),
        ([*parts[:at], b"\xff\xfe\0\1", *parts[at:]], "truncated"),
        ([*parts[:at], b"\xff\xfe\0\2" * 20_000, *parts[at:]], "more than 16384 segments"),
        (parts[:-1], "truncated"),
    ):
        with pytest.raises(UndecodableError, match=reason):
            decode(b"".join(broken))


def test_a_progressive_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UndecodableError, match="more than 100 scans"):
        decode(data[:-2] + scan * 100 + b"\xff\xd9")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff_with(entries: bytes, count: int, *, big: bool = False) -> bytes:
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) if big else b"II*\0\x08\0\0\0" + struct.pack("<H", count)
    return head + entries + bytes(1000)


PNG = encoded(picture(), "PNG")
GIF = encoded(picture(), "GIF")
COLORS = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
BMP_RLE = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 9, 9, 1, 8, 1) + bytes(2**22)
FLOODS = {
    "png chunks": PNG[:33] + png_chunk(b"prVt", b"") * 2**18 + PNG[33:],
    "gif comments": GIF[:COLORS] + b"!\xfe\1a\0" * 2**16 + GIF[COLORS:],
    "gif blocks": GIF[:COLORS] + b"!\xfe" + b"\1a" * 2**17 + b"\0" + GIF[COLORS:],
    "jpeg 2000 boxes": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08junk" * 2**12,
    "tiff tags": tiff_with(struct.pack("<HHII", 256, 4, 1, 8) * 5000, 5000),
    "tiff tags, 64 bits": tiff_with(b"", 2**40, big=True),
    "tiff tags that share their bytes": tiff_with(
        b"".join(struct.pack("<HHII", 40_000 + i, 1, 900, 30) for i in range(9)), 9
    ),
    "bmp runs": BMP_RLE,
    "picture as text": b"P3 2000 2000 255 " + b"1 " * 2**21,
    "comments": b"P6 " + b"#\n" * 2**16 + b"8 8 255 ",
    "icons": b"\0\0\1\0\1\0" + bytes(2**23),
}


@pytest.mark.parametrize("name", FLOODS)
def test_more_pieces_than_any_program_writes_are_refused_unread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalign.data.decoding.decode.BytesIO", lambda _: pytest.fail("Pillow was asked"))
    with pytest.raises(UndecodableError, match=r"corrupt|truncated|too large"):
        decode(FLOODS[name])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "PPM", "ICO", "JPEG2000"])
def test_files_of_ordinary_programs_pass_the_bounds(kind: str) -> None:
    image = picture(64, 64)
    data = encoded(image, kind)
    name = {"PPM": "PNM", "JPEG2000": "JPEG 2000"}.get(kind, kind)
    passed = piece_limits.bounded(data, name)
    assert Image.open(BytesIO(passed)).convert("RGB").tobytes() == Image.open(BytesIO(data)).convert("RGB").tobytes()


def test_transparency_of_a_gif_survives() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    data = encoded(image, "GIF", transparency=1, comment=b"a comment")
    assert b"a comment" in data
    assert b"a comment" not in piece_limits.bounded(data, "GIF")
    assert decode(data).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "CMYK", "I;16", "F", "I"])
def test_a_large_picture_is_converted_as_a_small_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    if mode in ("F", "I", "I;16"):
        image = Image.fromarray(
            values[..., 0].astype({"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]) * 7 - 3
        )
    else:
        image = Image.fromarray(values, "RGBA").convert("RGB" if mode in ("P", "CMYK") else mode).convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "F", "I") else "PNG")
    small = decode(data)
    monkeypatch.setattr("modalign.data.decoding.pixels._STRIP", 70)
    assert decode(data).tobytes() == small.tobytes()


def test_an_open_file_handle_too_many_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, lasting in (
        (MemoryError(), False),
        (OSError(24, "Too many open files"), False),
        (OSError("out of memory error when reading image file"), False),
        (OSError("broken data stream"), True),
        (ValueError("anything"), True),
    ):
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self, e=error: (_ for _ in ()).throw(e))
        with pytest.raises(UndecodableError) as raised:
            decode(PNG)
        assert raised.value.lasting == lasting


def test_a_missing_decoder_is_not_the_pictures_fault_and_found_once_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)  # of a package that is there
    for package in ("pillow_heif", "pi_heif"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UndecodableError, match="HEIC") as raised:
        decode(heic)
    assert not raised.value.lasting

    class Plugin(type(sys)):  # a package that reads HEIC once it is told to
        @staticmethod
        def register_heif_opener() -> None:
            monkeypatch.setitem(Image.OPEN, "HEIF", (lambda file, name: Image.open(BytesIO(PNG)), None))

    monkeypatch.setitem(sys.modules, "pillow_heif", Plugin("pillow_heif"))
    assert decode(heic).tobytes() == picture().tobytes()


@pytest.mark.parametrize(("white", "wasted"), [(4095, True), (16383, True), (65535, False)])
@pytest.mark.parametrize("channels", ["gray", "color"])
def test_16_bit_files_that_use_fewer_bits_are_recognized(white: int, wasted: bool, channels: str) -> None:
    ramp = np.linspace(0, white, 64).astype(np.uint16)
    if channels == "gray":
        data = encoded(Image.fromarray(np.tile(ramp, (64, 1))), "PNG")
    else:
        rows = b"".join(b"\0" + np.repeat(ramp, 3).astype(">u2").tobytes() for _ in range(64))
        head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
        data = PNG[:8] + head + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    assert wastes_bits(data, decode(data)) is wasted
    assert wastes_bits(PNG, decode(PNG)) is None


def _measured() -> dict[str, bytes]:
    """Pictures of as many pixels as a limit of ``MEASURED`` allows for their kind."""

    def square(pixels: int, mode: str = "RGB", value: object = 77) -> Image.Image:
        side = int(pixels**0.5)
        return Image.new(mode, (side, side), value)

    def numbers(pixels: int, dtype: type) -> Image.Image:
        return Image.fromarray(np.full((int(pixels**0.5),) * 2, 99, dtype))

    plain = square(MEASURED)
    progressive = encoded(plain, "JPEG", progressive=True, subsampling=0)
    whole = {"compression": "tiff_lzw", "tiffinfo": {278: 1800}}  # one strip
    found = {
        "png": encoded(plain, "PNG"),
        "png, transparent": encoded(square(MEASURED, "RGBA", (1, 2, 3, 100)), "PNG"),
        "png, gray and transparent": encoded(square(MEASURED, "LA", (1, 100)), "PNG"),
        "png, 16 bits": encoded(numbers(MEASURED, np.uint16), "PNG"),
        "tiff, floats": encoded(numbers(MEASURED, np.float32), "TIFF", **whole),
        "tiff, integers": encoded(numbers(MEASURED, np.int32), "TIFF", **whole),
        "tiff, cmyk": encoded(plain.convert("CMYK"), "TIFF", **whole),
        "gif": encoded(plain, "GIF"),
        "jpeg in one pass": encoded(square(8 * MEASURED - 200_000), "JPEG", subsampling=0),
        "jpeg, cmyk": encoded(square(3 * MEASURED // 4, "CMYK", (1, 2, 3, 4)), "JPEG", progressive=True),
        "jpeg 2000": encoded(square(MEASURED * 8 // 26, "RGBA", (1, 2, 3, 4)), "JPEG2000"),
        "webp": encoded(square(MEASURED // 2), "WEBP", lossless=True),
        "jpeg, progressive": progressive,
        "jpeg, progressive with junk": spelled(progressive, "junk"),
        "jpeg, a scan for each component": scan_by_scan(plain),
    }
    if features.check("avif"):
        found["avif"] = encoded(square(MEASURED * 8 // 20), "AVIF", speed=10)
    exif = Image.Exif()
    exif[0x0112] = 6
    return found | {"png, turned": encoded(square(MEASURED, "RGBA", (1, 2, 3, 100)), "PNG", exif=exif.tobytes())}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure")
def test_decoding_takes_at_most_8_bytes_for_every_pixel_of_the_limit(tmp_path: Path) -> None:
    files = _measured()
    for number, data in zip(itertools.count(), files.values()):
        (tmp_path / str(number)).write_bytes(data)
    (tmp_path / "small").write_bytes(PNG)
    code = f"""
import ctypes, json, re, sys
from pathlib import Path
from modalign.data.decoding import pixels
from modalign.data.decoding.decode import decode
pixels._STRIP = 2**14
def memory(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
decode(Path(sys.argv[1], "small").read_bytes())  # what is loaded once
found = []
for number in range({len(files)}):
    data = Path(sys.argv[1], str(number)).read_bytes()
    ctypes.CDLL(None).malloc_trim(0)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    decode(data, max_pixels={MEASURED})
    found.append((memory("VmHWM") - before - len(data)) / {MEASURED})
print(json.dumps(found))
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    slack = 4 * 2**20 / MEASURED  # strips and the allocator
    taken = dict(zip(files, json.loads(run.stdout), strict=True))
    assert {name: part for name, part in taken.items() if part > 8 + slack} == {}
