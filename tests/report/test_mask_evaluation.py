"""The page, the figure and the command about masks and their truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_scenes import ColorSegmenter, draw_scenes, scene
from PIL import Image
from typer.testing import CliRunner

from modalign.cli import app, run
from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.evaluate.masks.own_masks import evaluate_masks
from modalign.report.masks.mask_columns import MaskColumns, MaskRow
from modalign.report.masks.mask_evaluation import (
    mask_columns,
    pixel_confusion,
    save_columns_figure,
    save_mask_evaluation,
)
from modalign.segmentation.mask_png import class_colors
from modalign.segmentation.mask_run import segment_to_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos, their truth, masks, and masks of which fewer pixels have a class."""
    made = tmp_path_factory.mktemp("masks")
    items = load_items(draw_scenes(made / "photos", 12))
    segment_to_folder(ColorSegmenter(radius=40), items, made / "masks")
    segment_to_folder(ColorSegmenter(radius=15), items, made / "fewer")
    (made / "truth").mkdir()
    for i in range(12):
        labels = scene(i, (50 + 3 * (i % 5), 70))[0]
        labels[:, :20] = (labels[:, :20] + (i % 3 == 0)) % 3  # some truths that the colors do not tell
        Image.fromarray(labels).save(made / "truth" / f"photo{i:03d}.png")
    return made


def test_columns_show_each_map_in_the_colors_of_its_classes() -> None:
    labels = np.array([[0, 1], [255, 1]], dtype=np.uint8)
    colors = class_colors(2)
    photo = np.full((2, 2, 3), (200, 0, 0), dtype=np.uint8)
    bare, over = MaskRow("a", [labels, labels]), MaskRow("b", [labels, labels], photo)
    (first, _), (mixed, _) = (row.pictures(colors) for row in (bare, over))
    assert first.getpixel((0, 0)) == tuple(colors[0])
    assert first.getpixel((0, 1)) == (235, 235, 235)
    assert mixed.getpixel((0, 1)) == (60, 60, 60)  # 0.299 · 200: the photo in gray
    columns = MaskColumns(["one", "two"], [bare, over], ["cat", "<b>"], colors)
    assert columns.occurring == [("cat", "#800000"), ("<b>", "#008000")]
    html = columns.html()
    assert html.count("<img") == 4
    assert "<b>" not in html
    with pytest.raises(InputError, match="rows of 1 label maps"):
        MaskColumns(["one"], [bare], ["cat", "dog"], colors)


def test_the_matrix_of_pixels_has_a_column_for_no_class(folder: Path) -> None:
    result = evaluate_masks(folder / "fewer", folder / "truth")
    picture = pixel_confusion(result.scores)
    assert "4 classes" in picture.alt
    assert "pixels right" in picture.alt
    assert ">none<" in picture.svg


def test_the_figure_spans_losses_and_gains_and_has_three_columns(folder: Path, tmp_path: Path) -> None:
    result, fewer = (evaluate_masks(folder / name, folder / "truth") for name in ("masks", "fewer"))
    path = save_columns_figure(result, tmp_path / "three.png", baseline=fewer, photos=load_items(folder / "photos"))
    with Image.open(path) as figure:
        assert figure.width == 3 * 330 + 10
    gain = result.scores.image_miou - fewer.scores.image_miou
    columns = mask_columns(result, [int(gain.argmin()), int(gain.argmax())], baseline=fewer)
    assert columns.headings == ["baseline: pixels", "pixels", "truth"]
    assert all(row.photo is None for row in columns.rows)
    with pytest.raises(InputError, match=r"ends in \.png"):
        save_columns_figure(result, tmp_path / "three.svg")


def test_the_page_shows_the_worst_photos_first(folder: Path, tmp_path: Path) -> None:
    result = evaluate_masks(folder / "masks", folder / "truth")
    page = save_mask_evaluation(result, tmp_path / "page.html").read_text(encoding="utf-8")
    worst = [f"{result.pairs[i].file}, {100 * result.scores.image_miou[i]:.1f}" for i in result.worst(10)]
    places = [page.index(text) for text in worst]
    assert places == sorted(places)
    assert "The 10 worst photos" in page
    assert f"{100 * result.scores.miou:.1f}\u00a0%" in page


def test_the_command_takes_masks_and_their_truth(folder: Path, tmp_path: Path) -> None:
    arguments = ["--truth", str(folder / "truth"), "--baseline", str(folder / "fewer"), "--json"]
    files = {"--page": "p.html", "--figure": "f.png", "--confusion": "c.svg"}
    pictures = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    found = CliRunner().invoke(app, ["evaluate", str(folder / "masks"), *arguments, *pictures])
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    result = evaluate_masks(folder / "masks", folder / "truth")
    assert answer["miou"] == result.scores.miou
    assert answer["baseline"]["miou"] < answer["miou"]
    assert len(answer["worst"]) == 10
    assert all((tmp_path / name).stat().st_size > 1000 for name in files.values())
    other = CliRunner().invoke(
        app, ["evaluate", "--masks", str(folder / "truth"), "--segments", str(folder / "masks"), "--json"]
    )
    assert json.loads(other.stdout)["confusion"] == answer["confusion"]


def test_the_command_prints_a_table(folder: Path) -> None:
    found = CliRunner().invoke(app, ["evaluate", str(folder / "masks"), "--truth", str(folder / "truth")])
    assert "mIoU: " in found.stdout
    assert found.stdout.splitlines()[0].split()[:4] == ["class", "IoU", "precision", "recall"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "Expected a model and labeled images, or masks and --truth"),
        (["evaluate", "--truth", "x"], "Expected a folder of masks"),
        (["evaluate", "x", "--truth", "y", "--figure", "f.svg"], "ends in .png"),
        (["evaluate", ".", "--truth", "y"], "has no masks.json"),
    ],
)
def test_what_is_missing_is_reported(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert run(arguments) == 2
    assert message in capsys.readouterr().err
