"""Masks are read back as they were written, by Pillow and by COCO's own rules; a killed run loses nothing."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_scenes import NAMES, ColorSegmenter, draw_scenes, scene
from PIL import Image

from modalign.core.errors import InputError
from modalign.core.files import sole_use
from modalign.data.decoding import decode as decode_module
from modalign.data.items import load_items
from modalign.segmentation import mask_folder
from modalign.segmentation.mask_folder import check_mask_folder, image_entry, mask_names
from modalign.segmentation.mask_png import class_colors, mask_png, read_mask, read_palette, voc_palette
from modalign.segmentation.mask_run import segment_to_folder
from modalign.segmentation.overlay import colored, legend_entries, overlay
from modalign.segmentation.photos import pixels_of, read_photos
from modalign.segmentation.rle import class_runs, compress_counts
from modalign.segmentation.windows import Sliding

maps = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 7, 255]))


def decode_counts(counts: list[int], size: list[int] | tuple[int, ...]) -> np.ndarray:
    """The binary mask (H, W) of run lengths of zeros and ones in turn, column by column."""
    height, width = size
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def expand_counts(text: str) -> list[int]:
    """The counts of COCO's compressed form."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)  # sign extension
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts


@given(labels=maps)
@settings(max_examples=30)
def test_run_lengths_are_those_of_a_literal_reading_column_by_column(labels: np.ndarray) -> None:
    found = dict(class_runs(labels))
    assert list(found) == np.unique(labels).tolist()
    for value, counts in found.items():
        literal, state = [0], 0
        for pixel in (labels == value).ravel(order="F"):
            if pixel != state:
                literal.append(0)
                state = int(pixel)
            literal[-1] += 1
        assert counts == literal
        np.testing.assert_array_equal(decode_counts(counts, labels.shape), labels == value)
        assert expand_counts(compress_counts(counts)) == counts


@given(counts=st.lists(st.integers(0, 2**31), max_size=12))
def test_compressed_run_lengths_come_back(counts: list[int]) -> None:
    assert expand_counts(compress_counts(counts)) == counts


def test_compressed_run_lengths_are_those_of_coco() -> None:
    """Worked out by hand: 5, 3, 17 as they are; 40 − 3 = 37 is 5 + 32 and 1; 2 − 17 = −15 is 17 with its sign bit."""
    assert compress_counts([5, 3, 17, 40, 2]) == "53a0U1A"
    api = pytest.importorskip("pycocotools.mask", reason="compared with pycocotools where it is installed")
    for seed in range(20):
        labels = scene(seed, (31, 47), 5)[0]
        for value, counts in class_runs(labels):
            own = api.encode(np.asfortranarray((labels == value).astype(np.uint8)))
            assert compress_counts(counts) == own["counts"].decode()


def test_the_palette_is_that_of_pascal_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128),
             8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    assert {k: tuple(voc_palette()[k].tolist()) for k in known} == known
    assert len(np.unique(voc_palette(), axis=0)) == 256
    assert class_colors(3).tolist() == voc_palette()[1:4].tolist()
    assert class_colors(3, background=True).tolist() == voc_palette()[:3].tolist()
    assert len(np.unique(class_colors(255), axis=0)) == 255


@pytest.mark.parametrize(("n_classes", "mode", "none"), [(2, "P", 255), (255, "P", 255), (256, "I;16", 65535)])
def test_pillow_reads_the_labels_that_were_written(n_classes: int, mode: str, none: int) -> None:
    dtype = np.uint8 if none == 255 else np.uint16
    labels = np.random.default_rng(0).integers(0, n_classes, (13, 29)).astype(dtype)
    labels[2, 3], labels[0, 0] = none, n_classes - 1
    image = Image.open(BytesIO(mask_png(labels, n_classes)))
    assert image.mode == mode
    assert image.size == (29, 13)
    np.testing.assert_array_equal(np.asarray(image), labels)


def test_masks_of_every_kind_are_read_and_others_refused(tmp_path: Path) -> None:
    values = np.array([[0, 3], [255, 1]], dtype=np.uint8)
    colors = np.array([[[0, 0, 0], [9, 9, 9]], [[1, 2, 3], [0, 0, 0]]], dtype=np.uint8)
    for name, image in {
        "gray": Image.fromarray(values),
        "deep": Image.fromarray(values.astype(np.uint16) * 257),
        "bits": Image.fromarray(values > 2),
        "rgb": Image.fromarray(colors),
        "cmyk": Image.new("CMYK", (2, 2)),
    }.items():
        image.save(tmp_path / f"{name}.png" if name != "cmyk" else tmp_path / "cmyk.tif")
    (tmp_path / "text.png").write_text("no picture")
    palette = tmp_path / "palette.txt"
    palette.write_text("# r g b\n0 0 0 nothing\n1, 2, 3 dog\n9 9 9\n")
    np.testing.assert_array_equal(read_mask(tmp_path / "gray.png"), values)
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), values.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), values > 2)
    assert read_mask(tmp_path / "rgb.png", read_palette(palette)).tolist() == [[0, 2], [1, 0]]
    for name, palette_given, message in (
        ("rgb.png", None, "is RGB; give its colors in class order"),
        ("rgb.png", ((0, 0, 0), (9, 9, 9)), r"got \(1, 2, 3\) in row 1, column 0, and in 0 more"),
        ("cmyk.tif", None, "has the mode CMYK"),
        ("text.png", None, "cannot be decoded"),
        ("lacking.png", None, "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            read_mask(tmp_path / name, palette_given)
    for text, message in (("0 0\n", "three numbers"), ("0 0 256", "three numbers"), ("1 1 1\n1 1 1", "once")):
        palette.write_text(text)
        with pytest.raises(InputError, match=message):
            read_palette(palette)


def test_an_overlay_colors_the_classes_and_leaves_the_rest() -> None:
    labels, photo = scene(0)
    labels[0, :5] = 255
    colors = class_colors(3)
    mixed = colored(photo, labels, colors)
    np.testing.assert_array_equal(mixed[0, :5], photo[0, :5])
    expected = np.floor(photo[30, 40] / 2 + colors[labels[30, 40]] / 2 + 0.5)
    np.testing.assert_array_equal(mixed[30, 40], expected)
    picture = overlay(photo, labels, NAMES, colors)
    assert picture.width >= photo.shape[1]
    assert picture.height > photo.shape[0]
    np.testing.assert_array_equal(np.asarray(picture)[:60, :80], mixed)


def test_a_legend_folds_tiny_classes_and_adds_up() -> None:
    labels = np.zeros((100, 100), dtype=np.uint8)
    labels[0, :30], labels[1, :40], labels[2:30] = 1, 2, 255
    entries = legend_entries(labels, NAMES, class_colors(3))
    assert [name for name, _, _ in entries] == ["cat", "other", "none"]
    assert sum(share for _, share, _ in entries) == pytest.approx(1)


def test_an_entry_has_the_values_of_the_labels() -> None:
    pixels = scene(3)[1]
    result = ColorSegmenter().result("a.png", pixels)
    entry = image_entry(result)
    assert (entry["width"], entry["height"]) == (80, 60)
    for segment in entry["segments"]:
        mask = result.labels == segment["class_id"]
        rows, columns = np.nonzero(mask)
        left, top, width, height = segment["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
        assert segment["share"] == pytest.approx(mask.mean(), abs=1e-6)
        assert segment["mean_confidence"] == pytest.approx(result.confidence[mask].astype(float).mean(), abs=1e-4)
        np.testing.assert_array_equal(decode_counts(segment["rle"]["counts"], segment["rle"]["size"]), mask)
        assert expand_counts(segment["rle_compressed"]) == segment["rle"]["counts"]
    assert sum(s["share"] for s in entry["segments"]) + entry["none_share"] == pytest.approx(1, abs=1e-5)


def test_photos_with_one_stem_and_paths_that_lead_out_get_places_of_their_own() -> None:
    places = mask_names(["a.jpg", "A.png", "b/a.jpg", "b/a.overlay.jpg", "../../c.jpg", "/d/e.jpg", "x" * 240 + ".jpg"])
    assert list(places.values())[:6] == ["a.jpg", "A.png", "b/a.jpg", "b/a.overlay.jpg", "c", "d/e"]
    assert len(places["x" * 240 + ".jpg"]) <= 200
    assert len(set(places.values())) == 7


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_masks_of_a_turned_photo_have_its_upright_size_and_broken_files_none(tmp_path: Path) -> None:
    photos = draw_scenes(tmp_path / "photos", 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(9)[1]).save(photos / "turned.jpg", exif=exif, quality=95)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    run = segment_to_folder(ColorSegmenter(), load_items(photos), tmp_path / "out")
    with Image.open(tmp_path / "out" / "turned.png") as mask:
        assert mask.size == (60, 80)
    assert [q["id"] for q in run.quarantined] == ["broken.jpg"]
    assert not (tmp_path / "out" / "broken.png").exists()
    document = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert document["format"] == "modalign-masks-1"
    assert [c["name"] for c in document["classes"]] == list(NAMES)
    assert [i["file"] for i in document["images"]] == ["photo000.png", "turned.jpg"]


def test_a_jpeg_that_is_decoded_at_reduced_size_keeps_the_size_of_its_mask(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(decode_module, "DRAFT_PIXELS", 1500)
    rgb = scene(3, (61, 93), 3)[1]
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(rgb).save(tmp_path / "b.jpg", quality=95, exif=turned)
    items, sizes = load_items([tmp_path / "a.jpg", tmp_path / "b.jpg"]), [(61, 93), (93, 61)]
    assert items.open(0).width < 93
    assert [
        size for _, _, size in read_photos(items, Sliding(window=32, stride=16, short_side=32, patch=16), [], "")
    ] == sizes
    for i, size in enumerate(sizes):
        assert pixels_of(items, i).shape == (*size, 3)


def test_a_second_run_into_the_same_folder_is_refused_and_a_stale_lock_is_taken_over(tmp_path: Path) -> None:
    photos = draw_scenes(tmp_path / "photos", 2)
    out = tmp_path / "masks"
    out.mkdir()
    with sole_use(out / mask_folder.LOCK, "another run writes masks"):
        with pytest.raises(InputError, match="another run writes masks"):
            segment_to_folder(ColorSegmenter(), load_items(photos), out)
        assert [path.name for path in out.iterdir()] == [mask_folder.LOCK]
    (out / mask_folder.LOCK).touch()  # of a run that was killed
    assert segment_to_folder(ColorSegmenter(), load_items(photos), out).n_new == 2
    assert not (out / mask_folder.LOCK).exists()


def test_only_changed_photos_and_settings_are_computed_again(tmp_path: Path) -> None:
    photos, out = draw_scenes(tmp_path / "photos", 4), tmp_path / "out"
    first = ColorSegmenter()
    assert segment_to_folder(first, load_items(photos), out).n_new == 4
    before = contents(out)
    Image.fromarray(scene(77)[1]).save(photos / "photo002.png")
    (out / "photo003.overlay.png").unlink()
    again = ColorSegmenter()
    run = segment_to_folder(again, load_items(photos), out)
    assert again.segmented == ["photo002.png", "photo003.png"]
    assert (run.n_new, run.n_kept) == (2, 2)
    assert {name for name, data in contents(out).items() if before[name] != data} == {
        "masks.json", "photo002.png", "photo002.overlay.png"}  # fmt: skip
    other = ColorSegmenter(radius=20)
    assert segment_to_folder(other, load_items(photos), out).n_new == 4


@pytest.mark.parametrize("stop", [1, 3])  # before the line of the first photo, and of the third
def test_masks_of_a_stopped_run_are_not_taken_for_those_of_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    photos, out = draw_scenes(tmp_path / "photos", 4), tmp_path / "out"
    segment_to_folder(ColorSegmenter(), load_items(photos), out)
    before, append, lines = contents(out), mask_folder.append_line, []

    def stopping(path: Path, line: bytes) -> None:
        lines.append(line)
        if len(lines) > stop:
            raise KeyboardInterrupt
        append(path, line)

    monkeypatch.setattr(mask_folder, "append_line", stopping)
    with pytest.raises(KeyboardInterrupt):
        segment_to_folder(ColorSegmenter(radius=20), load_items(photos), out)
    monkeypatch.setattr(mask_folder, "append_line", append)
    changed = contents(out)
    assert changed["photo000.png"] != before["photo000.png"]
    assert "masks.json" not in changed
    segment_to_folder(ColorSegmenter(), load_items(photos), out)
    assert contents(out) == before


def test_a_folder_with_other_files_is_refused_before_any_work(tmp_path: Path) -> None:
    photos = draw_scenes(tmp_path / "photos", 1)
    with pytest.raises(InputError, match=r"holds other files, such as 'photo000\.png'"):
        check_mask_folder(photos)
    segmenter = ColorSegmenter()
    with pytest.raises(InputError, match="Expected an empty folder or one with masks of an earlier run"):
        segment_to_folder(segmenter, load_items(photos), photos)
    assert not segmenter.segmented


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, which this system has not")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """The process is killed inside its n-th write of a mask, an overlay, a line of the journal or ``masks.json``."""
    photos, out = draw_scenes(tmp_path / "photos", 9), tmp_path / "out"
    segment_to_folder(ColorSegmenter(), load_items(photos), tmp_path / "whole")
    log = tmp_path / "log"
    kills = [1, 4, 5, 6, 3, 7, 11]
    for n in [*kills, 10**6]:
        child = os.fork()
        if child == 0:
            _run_and_die(photos, out, log, n)
        _, status = os.waitpid(child, 0)
        assert (os.WTERMSIG(status) == signal.SIGKILL) == (n in kills)
    assert contents(out) == contents(tmp_path / "whole")
    times = Counter(log.read_text().split())
    assert sum(times.values()) <= len(times) + len(kills)  # a kill costs at most the photo that it hits


def _run_and_die(photos: Path, out: Path, log: Path, n: int) -> None:
    """In a child: segment the photos and be killed in the n-th write, every second time when half of it is done."""
    left = [n]

    def dying(real: object) -> object:
        def call(path: Path, data: bytes) -> object:
            left[0] -= 1
            if left[0] == 0:
                if n % 2:
                    with (
                        path.open("ab")
                        if real is append
                        else (path.parent / ".modalign-0123456789abcdef.tmp").open("wb") as file
                    ):
                        file.write(data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(path, data)

        return call

    write, append = mask_folder.write, mask_folder.append_line
    mask_folder.write, mask_folder.append_line = dying(write), dying(append)
    segmenter = ColorSegmenter()
    try:
        segmenter.segmented = _Log(log)
        segment_to_folder(segmenter, load_items(photos), out, progress=False)
    finally:
        os._exit(0)


class _Log(list):
    """A list that survives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, file: str) -> None:
        with self.path.open("a") as out:
            out.write(f"{file}\n")
