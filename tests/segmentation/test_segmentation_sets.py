"""The data sets of segmentation on small roots in their published layout, and their label rules word for word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalign.core.errors import InputError, UnknownNameError
from modalign.segmentation.class_words import read_class_words
from modalign.segmentation.sets.label_maps import apply_rule, lookup
from modalign.segmentation.sets.scene_pairs import open_segmentation_set, training_photos
from modalign.segmentation.sets.segmentation_sets import SEGMENTATION_SETS, SegmentationSet, segmentation_set

RAW = {  # values in the files → class numbers, from the definitions of the data sets
    "voc20": {0: 255, 1: 0, 20: 19, 255: 255},
    "voc21": {0: 0, 1: 1, 20: 20, 255: 255},
    "context59": {0: 255, 1: 0, 59: 58},
    "context60": {0: 0, 59: 59},
    "ade20k": {0: 255, 1: 0, 150: 149},
    "cityscapes": {0: 0, 18: 18, 255: 255},
    "coco_stuff164k": {0: 0, 170: 170, 255: 255},
    "coco_object": {0: 0, 80: 80},
}
STUFF_IDS = {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: 255}
OBJECT_IDS = {0: 1, 10: 11, 12: 12, 89: 80, 91: 0, 181: 0, 255: 0}
CITYSCAPES_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
                  27: 14, 28: 15, 31: 16, 32: 17, 33: 18, 0: 255, 9: 255, 29: 255, 30: 255, 34: 255}  # fmt: skip


def fill(root: Path, row: SegmentationSet, raw: list[int], form: int = 0, n: int = 3) -> None:
    """``n`` photos and masks in each part of a data set; the masks have the given values."""
    for part in row.parts:
        names = [f"2008_00000{i}" for i in range(n)]
        for name in names:
            keys = {"part": part, "id": name, "group": "aachen"}
            photo, mask = root / row.images.format(**keys), root / row.truths[form][0].format(**keys)
            for path in (photo, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (len(raw), 2), (9, 99, 200)).save(photo)
            pixels = Image.fromarray(np.array([raw, raw], dtype=np.uint8))
            pixels.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
            pixels.save(mask)  # with a palette, which must not matter
        if row.lists:
            path = root / row.lists.format(part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n")


@pytest.mark.parametrize("row", SEGMENTATION_SETS, ids=lambda row: row.name)
def test_photos_and_truths_are_found_in_the_published_layout(row: SegmentationSet, tmp_path: Path) -> None:
    values = RAW[row.name]
    fill(tmp_path, row, list(values))
    pairs = open_segmentation_set(row.name, tmp_path)
    assert len(pairs) == len(pairs.items) == 3
    assert [p.stem[:11] for p in pairs.masks] == [Path(i).stem[:11] for i in pairs.items.ids]
    for i in range(3):
        assert pairs.truth(i).tolist() == [list(values.values())] * 2
        assert pairs.items.open(i).size == (len(values), 2)
    assert f"the usual list has {row.n_images:,}" in pairs.note
    assert len(training_photos(row.name, tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "values"), [("coco_stuff164k", STUFF_IDS), ("coco_object", OBJECT_IDS), ("cityscapes", CITYSCAPES_IDS)]
)
def test_the_other_form_of_the_masks_is_read_by_its_own_rule(name: str, values: dict, tmp_path: Path) -> None:
    fill(tmp_path, segmentation_set(name), list(values), form=1)
    assert open_segmentation_set(name, tmp_path).truth(0)[0].tolist() == list(values.values())


def test_the_numbers_of_coco_are_all_used_and_only_the_known_gaps_are_refused() -> None:
    stuff = lookup("stuff_ids", 171)
    gaps = [raw for raw in range(182) if stuff[raw] == 254]
    assert gaps == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
    assert sorted(set(stuff[:182].tolist()) - {254}) == list(range(171))
    objects = lookup("object_ids", 81)
    assert sorted(set(objects.tolist())) == list(range(81))
    np.testing.assert_array_equal(objects[:91][stuff[:91] < 80], stuff[:91][stuff[:91] < 80] + 1)


def test_a_value_that_is_no_class_is_refused_with_the_rule() -> None:
    for rule, n, value in (("plain", 21, 21), ("zero_ignored", 20, 21), ("stuff_ids", 171, 25)):
        with pytest.raises(InputError, match=f"by the rule '{rule}', got the value {value}"):
            apply_rule(np.array([[value]], dtype=np.uint8), rule, n)
    with pytest.raises(InputError, match="up to 255 in the mask, got 300"):
        apply_rule(np.array([[300]]), "plain", 21)


@pytest.mark.parametrize("row", SEGMENTATION_SETS, ids=lambda row: row.name)
def test_every_class_has_a_name_and_no_name_two_classes(row: SegmentationSet) -> None:
    words = read_class_words(row.classes, row.settings("sclip")["background"])
    assert len(words.words) == row.n_classes
    assert words.background == bool(row.background)
    assert row.license
    assert row.settings("sclip")["short_side"] in (336, 448, 560)


def test_settings_are_those_of_the_public_code() -> None:
    voc21 = segmentation_set("VOC-21").settings("scclip")
    assert (voc21["logit_scale"], voc21["prob_threshold"], voc21["area_threshold"]) == (50, 0.15, 0.1)
    assert segmentation_set("ADE").settings("sclip")["logit_scale"] == 40
    assert segmentation_set("COCO-Stuff164k").settings("sclip")["short_side"] == 448
    assert segmentation_set("coco_stuff164k").settings("scclip")["short_side"] == 336
    assert segmentation_set("cityscapes").settings("maskclip")["short_side"] == 560
    assert [segmentation_set(name).settings("proxy")["window"] for name in ("voc20", "cityscapes")] == [336, 224]
    assert "window" not in segmentation_set("voc20").settings("scclip")


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    row = segmentation_set("voc20")
    with pytest.raises(InputError, match=r"Expected the folder '.*JPEGImages' of VOC20.*get the data set from: host"):
        open_segmentation_set("voc20", tmp_path)
    fill(tmp_path, row, [1, 2])
    mask = tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2008_000001.png"
    mask.unlink()
    with pytest.raises(InputError, match=r"a mask for each of the 3 photos of VOC20, '.*2008_000001\.png' is not"):
        open_segmentation_set("voc20", tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/2008_000002.jpg").unlink()
    with pytest.raises(InputError, match=r"Expected every photo of '.*val\.txt'"):
        open_segmentation_set("voc20", tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(InputError, match=r"Expected the list '.*val\.txt'"):
        open_segmentation_set("voc20", tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("2008_000000\n")
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2008_000000.png").unlink()
    with pytest.raises(InputError, match="Expected the mask"):
        open_segmentation_set("voc20", tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'cityscapes'"):
        segmentation_set("cityscape")
