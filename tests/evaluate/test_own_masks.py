"""Folders of masks against true ones of a user's own: pairs, value maps, and a sentence for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_scenes import ColorSegmenter, draw_scenes, scene
from PIL import Image

from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.evaluate.masks.confusion_counts import segmentation_scores
from modalign.evaluate.masks.own_masks import evaluate_masks
from modalign.segmentation.mask_png import mask_png, voc_palette
from modalign.segmentation.mask_run import segment_to_folder


def truth(i: int) -> np.ndarray:
    labels = scene(i, (50 + 3 * (i % 5), 70))[0]
    labels[:2] = 255
    return labels


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos with masks, of which one color is not known."""
    folder = tmp_path_factory.mktemp("own")
    items = load_items(draw_scenes(folder / "photos", 5))
    segment_to_folder(ColorSegmenter(radius=40), items, folder / "masks")
    return folder / "masks"


def write_truth(folder: Path, change: object = None, n: int = 5) -> Path:
    folder.mkdir()
    for i in range(n):
        labels = truth(i)
        Image.fromarray(labels if change is None else change(labels)).save(folder / f"photo{i:03d}.png")
    return folder


def expected(masks: Path, n: int = 5) -> np.ndarray:
    found = [np.asarray(Image.open(masks / f"photo{i:03d}.png")) for i in range(n)]
    return segmentation_scores(found, [truth(i) for i in range(n)], n_classes=3).confusion


def test_masks_are_paired_by_name_and_counted(masks: Path, tmp_path: Path) -> None:
    result = evaluate_masks(masks, write_truth(tmp_path / "truth"))
    np.testing.assert_array_equal(result.scores.confusion, expected(masks))
    assert result.scores.names == ("cat", "grass", "sky")
    assert result.scores.missed.sum() > 0
    assert result.scores.n_images == 5
    assert not result.notes
    assert result.worst(2) == np.argsort(result.scores.image_miou)[:2].tolist()


def test_values_in_another_order_colors_and_sixteen_bits_give_the_same_counts(masks: Path, tmp_path: Path) -> None:
    turned = write_truth(tmp_path / "turned", lambda m: np.where(m == 255, 0, 30 - 10 * m.astype(int)).astype(np.uint8))
    (tmp_path / "lines.txt").write_text("0 ignore\n10 sky\n20 Grass\n30 cat\n")
    (tmp_path / "names.json").write_text(json.dumps({"0": "ignore", "10": "sky", "20": "grass", "30": "cat"}))
    deep = write_truth(tmp_path / "deep", lambda m: m.astype(np.uint16))
    zero = write_truth(tmp_path / "zero", lambda m: np.where(m == 255, 0, m + 1).astype(np.uint8))
    (tmp_path / "from_one.txt").write_text("ignore\ncat\ngrass\nsky\n")
    rgb = write_truth(tmp_path / "rgb", lambda m: voc_palette()[m])
    colors = "\n".join(" ".join(map(str, color)) for color in voc_palette().tolist())
    (tmp_path / "palette.txt").write_text(colors)
    for folder, options in (
        (turned, {"mask_classes": tmp_path / "lines.txt"}),
        (turned, {"mask_classes": tmp_path / "names.json"}),
        (deep, {}),
        (zero, {"mask_classes": tmp_path / "from_one.txt"}),
        (zero, {"mask_classes": tmp_path / "from_one.txt", "ignore": 0}),
        (rgb, {"palette": tmp_path / "palette.txt"}),
    ):
        result = evaluate_masks(masks, folder, **options)
        np.testing.assert_array_equal(result.scores.confusion, expected(masks), err_msg=f"{folder.name} {options}")


def test_another_value_may_be_ignored(masks: Path, tmp_path: Path) -> None:
    other = write_truth(tmp_path / "truth", lambda m: np.where(m == 255, 9, m).astype(np.uint8))
    np.testing.assert_array_equal(evaluate_masks(masks, other, ignore=9).scores.confusion, expected(masks))


def test_partners_that_lack_are_noted_and_folders_do_not_matter(masks: Path, tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "truth", n=3)
    (folder / "deeper").mkdir()
    (folder / "photo001.png").rename(folder / "deeper" / "photo001.png")
    (folder / "stranger.png").write_bytes(mask_png(truth(0), 3))
    result = evaluate_masks(masks, folder)
    np.testing.assert_array_equal(result.scores.confusion, expected(masks, 3))
    assert result.notes == (
        "2 photos without a true mask: 'photo003.png', 'photo004.png'", "1 true masks without a photo: 'stranger.png'"
    )  # fmt: skip


def test_a_class_without_a_true_pixel_is_noted_where_it_is_predicted(masks: Path, tmp_path: Path) -> None:
    result = evaluate_masks(masks, write_truth(tmp_path / "truth", lambda m: np.where(m == 2, 0, m).astype(np.uint8)))
    assert result.scores.iou[2] == 0
    assert result.notes == ("no true pixel of 'sky', predicted for others: IoU 0 in the mean",)


@pytest.mark.parametrize(
    ("change", "files", "options", "message"),
    [
        (lambda m: m[:-1], {}, {}, r"the size of its photo, 70 × 50 pixels, '.*photo000.png' has 70 × 49"),
        (lambda m: np.where(m == 2, 3, m).astype(np.uint8), {}, {}, "values 0…2 in the truth of 'photo000.png'.*got 3"),
        (lambda m: voc_palette()[m], {}, {}, "is RGB"),
        (lambda m: voc_palette()[m], {"p": "0 0 0\n1 1 1\n"}, {"palette": "p"}, "Expected only colors of the palette"),
        (None, {"c": "cat\ngras\nsky\n"}, {"mask_classes": "c"}, "got 'gras' for the value 1. Did you mean 'grass'"),
        (None, {"c": "cat\ngrass\n"}, {"mask_classes": "c"}, "Expected only values of mask_classes=….*got 2"),
        (None, {"c.json": "3"}, {"mask_classes": "c.json"}, "Expected lines 'value name'"),
        (None, {}, {"ignore": 7}, "Expected class numbers or 7 in .*, got 255"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(
    masks: Path, tmp_path: Path, change: object, files: dict, options: dict, message: str
) -> None:
    folder = write_truth(tmp_path / "truth", change)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = {key: tmp_path / value if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(InputError, match=message):
        evaluate_masks(masks, folder, **given)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_a_true_mask_that_is_no_image_is_named(masks: Path, tmp_path: Path, content: bytes) -> None:
    folder = write_truth(tmp_path / "truth")
    (folder / "photo001.png").write_bytes(content)
    with pytest.raises(InputError, match=r"photo001.png' cannot be decoded: it is no such image\.$"):
        evaluate_masks(masks, folder)


@pytest.mark.parametrize("missing", ["classes", "images", "mask"])
def test_a_damaged_document_is_refused(masks: Path, tmp_path: Path, missing: str) -> None:
    document = json.loads((masks / "masks.json").read_text())
    (document if missing in document else document["images"][0]).pop(missing)
    (tmp_path / "masks.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="some are missing; run segment again"):
        evaluate_masks(tmp_path, write_truth(tmp_path / "truth"))


def test_folders_that_are_none_are_refused(masks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no masks\.json"):
        evaluate_masks(tmp_path, tmp_path)
    with pytest.raises(InputError, match="is not one"):
        evaluate_masks(masks, tmp_path / "lacking")
    with pytest.raises(InputError, match=r"with the names of the photos, such as 'photo000\.png'"):
        evaluate_masks(masks, tmp_path)
    (tmp_path / "masks.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="Expected the format modalign-masks-1"):
        evaluate_masks(tmp_path, tmp_path)
