"""Decoding: an odd file comes out as a viewer would show it, a broken one with a reason, nothing else changes."""

from __future__ import annotations

import re
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import bad_files
import numpy as np
import pytest
from bad_files import BAD, BLUE, GOOD, GREEN, WHITE, encoded, gray, oriented, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from modalign.core.errors import UndecodableError
from modalign.data.decoding.decode import DRAFT_PIXELS, decode
from modalign.data.decoding.jpeg import exif_orientation
from modalign.data.decoding.pixels import to_rgb

PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "caltech101-folder"


def shows_picture(image: Image.Image, tolerance: int = 6) -> bool:
    wanted = np.asarray(picture()).astype(int)
    return image.size == (48, 32) and np.abs(np.asarray(image).astype(int) - wanted).mean() < tolerance


@pytest.mark.parametrize("name", GOOD)
def test_every_good_file_is_decoded_as_plain_rgb(name: str) -> None:
    image = decode(GOOD[name]())
    assert image.mode == "RGB"
    assert not set(image.info) - {"full_size"}, "metadata left behind would be applied a second time by the next reader"


@pytest.mark.parametrize(
    "name",
    ["plain.jpg", "a png called.jpg", "progressive.jpg", "cmyk.jpg", "cmyk.tif", "lossless.webp", "windows.bmp",
     "portable.ppm", "palette.png", "animated.gif", "animated.webp", "animated.png", "turned.jpg", "turned.webp",
     "turned.png", "turned.tif", "broken exif.jpg"],
)  # fmt: skip
def test_colors_orientation_and_first_frame_are_right(name: str) -> None:
    assert shows_picture(decode(GOOD[name]()))


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_has_a_reason_in_plain_words(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(UndecodableError, match=reason) as caught:
        decode(make())
    assert len(str(caught.value)) < 120
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_exif_orientations(tag: int, kind: str) -> None:
    assert shows_picture(decode(oriented(tag, kind)))


@given(st.binary(max_size=60))
def test_an_exif_block_of_garbage_is_no_orientation_error(noise: bytes) -> None:
    for head in (b"Exif\0\0II*\0", b"Exif\0\0MM\0*", b""):
        assert isinstance(exif_orientation(head + noise), int)


def test_transparent_parts_are_white_not_the_colors_hidden_under_them() -> None:
    for name in ("rgba.png", "palette-transparent.png", "grey-alpha.png"):
        assert decode(GOOD[name]()).getpixel((40, 16)) == WHITE
    assert decode(GOOD["rgba.png"]()).getpixel((2, 2)) == GREEN
    half = picture().convert("RGBA")
    half.putalpha(Image.new("L", half.size, 128))
    expected = tuple(round((128 * c + 127 * 255) / 255) for c in BLUE)
    np.testing.assert_allclose(decode(encoded(half, "PNG")).getpixel((40, 16)), expected, atol=1)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    assert decode(encoded(picture().convert("RGBA"), "PNG")).tobytes() == picture().tobytes()


def test_16_bit_grey_is_rescaled_by_its_whole_range() -> None:
    expected = np.round(gray() / 257)
    for name in ("grey16.png", "grey16.tif", "float.tif"):
        levels = np.asarray(decode(GOOD[name]()))
        assert (levels[..., 0] == levels[..., 1]).all()
        np.testing.assert_allclose(levels[..., 0], expected, atol=1, err_msg=name)


def test_12_bit_tiff_is_rescaled_by_its_own_range() -> None:
    image = Image.fromarray((gray() >> 4).astype(np.uint16))
    data = bytearray(encoded(image, "TIFF"))
    entry = data.index(struct.pack("<HHI", 258, 3, 1))
    assert struct.unpack_from("<H", data, entry + 8) == (16,)
    sixteen = np.asarray(decode(bytes(data)))[..., 0]
    assert sixteen.max() == 16, "declared as 16 bits, 12 bits of light are dark"
    tiff = Image.open(BytesIO(bytes(data)))
    tiff.load()
    tiff.tag_v2[258] = (12,)
    np.testing.assert_allclose(np.asarray(to_rgb(tiff))[..., 0], np.round(gray() / 257), atol=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 1.0, 0.5]], [[0, 255, 128]]),
        ([[0.0, 255.0, 100.0]], [[0, 255, 100]]),
        ([[0.0, 65535.0, 25700.0]], [[0, 255, 100]]),
        ([[-1.0, 1.0, 0.0]], [[0, 255, 128]]),
        ([[0.0, np.nan, 1.0]], [[0, 0, 255]]),
        ([[3e6, 3e6, 3e6]], [[0, 0, 0]]),
    ],
)
def test_floating_point_pictures_find_their_white(values: list, expected: list) -> None:
    data = encoded(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF")
    np.testing.assert_allclose(np.asarray(decode(data))[..., 0], expected, atol=1)


def test_32_bit_integers_are_not_clipped_to_white() -> None:
    data = encoded(Image.fromarray(np.array([[-100000, 0, 100000]], dtype=np.int32)), "TIFF")
    np.testing.assert_allclose(np.asarray(decode(data))[0, :, 0], [0, 128, 255], atol=1)


def test_lab_is_refused_in_words() -> None:
    with pytest.raises(UndecodableError, match="LAB"):
        decode(encoded(Image.new("LAB", (4, 4)), "TIFF"))


def test_a_large_jpeg_is_reduced_while_decoding() -> None:
    image = decode(GOOD["large.jpg"]())
    assert image.size == (3000, 3000)
    assert image.width * image.height <= DRAFT_PIXELS
    assert image.getpixel((1500, 1500)) == (90, 90, 90)


def test_the_pixel_limit_is_a_reason_with_the_numbers() -> None:
    data = encoded(Image.new("L", (400, 300)), "PNG")
    with pytest.raises(UndecodableError, match=r"too large: 400 × 300 pixels"):
        decode(data, max_pixels=119_999)
    assert decode(data, max_pixels=120_000).size == (400, 300)
    progressive = encoded(Image.new("L", (400, 300)), "JPEG", progressive=True)
    with pytest.raises(UndecodableError, match="too large"):
        decode(progressive, max_pixels=119_999)
    assert decode(encoded(Image.new("L", (400, 300)), "JPEG"), max_pixels=30_000).size == (200, 150)


def test_pillows_global_state_is_untouched_and_nothing_is_warned() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for make in [*GOOD.values(), *(make for make, _ in BAD.values())]:
            with suppress(UndecodableError):
                decode(make())
    assert caught == []
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_the_files_that_are_quiet_here_do_warn_in_pillow() -> None:
    with pytest.warns(UserWarning, match="Truncated"):
        Image.open(BytesIO(bad_files.broken_exif())).getexif()


def test_threads_decode_the_same() -> None:
    files = [make() for name, make in GOOD.items() if name != "large.jpg"] * 3
    alone = [decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data).tobytes(), files))
    assert together == alone


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(GOOD.keys() - {"large.jpg"})), st.data())
def test_any_damage_ends_in_a_picture_or_a_reason(name: str, draw: st.DataObject) -> None:
    data = bytearray(SMALL[name])
    if draw.draw(st.booleans(), label="cut"):
        del data[draw.draw(st.integers(0, len(data)), label="length") :]
    for _ in range(draw.draw(st.integers(0, 4), label="changes")):
        if data:
            data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with suppress(UndecodableError):
        assert decode(bytes(data), max_pixels=2**20).mode == "RGB"


SMALL = {name: make() for name, make in GOOD.items() if name != "large.jpg"}


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/caltech101-folder")
def test_real_photos_equal_pillows_own_pixels() -> None:
    for path in sorted(PHOTOS.rglob("*.jpg"))[::80]:
        with Image.open(path) as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
        assert decode(path.read_bytes()).tobytes() == expected.tobytes()


def test_reasons_do_not_repeat_the_words_of_the_decoder() -> None:
    reasons = []
    for make, _ in BAD.values():
        with pytest.raises(UndecodableError) as caught:
            decode(make())
        reasons.append(str(caught.value))
    assert all(re.match(r"[a-zA-Z]", reason) for reason in reasons)
    assert not any("b'" in reason or "0x" in reason for reason in reasons)


def damaged_tiffs() -> list[bytes]:
    whole = bad_files.encoded(picture(), "TIFF", compression="tiff_lzw")
    start = whole.index(b"\x80")  # the first code of LZW
    return [whole[:start] + bytes([k]) * 40 + whole[start + 40 :] for k in range(0, 256, 32)]


def test_libtiff_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    for data in damaged_tiffs():
        with suppress(Exception):
            Image.open(BytesIO(data)).load()
    assert capfd.readouterr().err, "Pillow alone lets it speak"
    for data in damaged_tiffs():
        with suppress(UndecodableError):
            decode(data)
    assert capfd.readouterr() == ("", "")
    for data in damaged_tiffs():
        with suppress(Exception):
            Image.open(BytesIO(data)).load()
    assert capfd.readouterr().err, "and so it does afterwards"
