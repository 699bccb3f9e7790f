"""``modalign segment``: photos to a folder of masks, from class names alone; one sentence for what does not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_scenes import scene
from PIL import Image
from typer.testing import CliRunner

from modalign.cli import app, run
from modalign.cli.exit_handling import what_is_kept

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = ["--features", "maskclip", "--window", "32", "--short-side", "32", "--template", "{}"]
CLASSES = ["--classes", "dots; horizontal stripes, lines; noise"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(scene(i, (40, 48 + i))[1]).save(folder / f"p{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def invoke(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_photos_become_masks_and_a_second_run_computes_nothing(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = json.loads(invoke("segment", pictures, *CLASSES, *QUICK, "--out", out, "--json"))
    assert (first["images"], first["segmented_now"]) == (3, 3)
    assert sum(first["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert [q["id"] for q in first["quarantined"]] == ["broken.png"]
    with Image.open(out / "p1.png") as mask:
        assert (mask.mode, mask.size) == ("P", (49, 40))
        assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    document = json.loads((out / "masks.json").read_text())
    assert document["classes"][1]["names"] == ["horizontal stripes", "lines"]
    before = (out / "masks.json").read_bytes()
    again = json.loads(invoke("segment", pictures, *CLASSES, *QUICK, "--out", out, "--json"))
    assert (again["segmented_now"], again["from_an_earlier_run"]) == (0, 3)
    assert (out / "masks.json").read_bytes() == before
    table = invoke("segment", pictures, *CLASSES, *QUICK, "--out", out)
    assert "3 finished before" in table
    assert str(out) in what_is_kept("segment", {"out": out})


def test_a_map_is_learned_once_and_read_again(pictures: Path, tmp_path: Path) -> None:
    fit_on = tmp_path / "more"
    fit_on.mkdir()
    for i in range(10, 13):
        Image.fromarray(scene(i, (40, 48))[1]).save(fit_on / f"f{i}.png")
    mapped = ["--gpua", "tiny-vision", "--fit-on", fit_on]
    out = tmp_path / "out"
    first = json.loads(invoke("segment", pictures, *CLASSES, *QUICK, *mapped, "--out", out, "--json"))
    assert first["settings"]["map"]["z"] == "vfm+clip"
    saved = {p.name: p.read_bytes() for p in (out / "model").iterdir()}
    assert sum(map(len, saved.values())) < 2 * 2**20
    again = json.loads(invoke("segment", pictures, *CLASSES, *QUICK, *mapped, "--out", out, "--json"))
    assert again["segmented_now"] == 0
    assert {p.name: p.read_bytes() for p in (out / "model").iterdir()} == saved
    other = json.loads(invoke("segment", pictures, "--model", out / "model", "--out", tmp_path / "other", "--json"))
    assert other["shares"] == first["shares"]


def test_background_and_thresholds_and_large_photos(pictures: Path, tmp_path: Path) -> None:
    options = ["--background", "noise, gradient", "--classes", "dots; grid", "--prob-threshold", "0.9"]
    found = json.loads(
        invoke("segment", pictures, *options, *QUICK, "--max-pixels", 49 * 40, "--out", tmp_path / "out", "--json")
    )
    assert next(iter(found["shares"])) == "background"
    assert found["none_share"] == 0
    assert {q["id"]: q["reason"] for q in found["quarantined"]}["p2.png"] == (
        "too large: 50 × 40 pixels, the limit is 1,960"
    )
    with Image.open(tmp_path / "out" / "p0.png") as mask:
        assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]


def test_a_data_set_is_measured_beside_its_published_number(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    for i in range(2):
        labels, pixels = scene(i, (40, 48))
        Image.fromarray(pixels).save(base / "JPEGImages" / f"{i}.jpg")
        Image.fromarray(labels).save(base / "SegmentationClass" / f"{i}.png")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("0\n1\n")
    options = ["--features", "maskclip,clip", "--window", "32", "--short-side", "32", "--template", "{}", "--json"]
    rows = json.loads(invoke("segment", "--dataset", "VOC20", "--root", tmp_path, *options))
    assert [row["method"] for row in rows] == ["MaskCLIP", "CLIP"]
    assert [row["published"]["value"] for row in rows] == [54.2, 49.1]
    assert all(0 <= row["scores"]["miou"] <= 1 for row in rows)
    assert rows[0]["scores"]["n_images"] == 2
    assert rows[0]["reason"] == (
        "not comparable: the published number is of CLIP ViT-B/16; class names are our own; 2 of 1,449 images"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected photos and a folder for their masks"),
        (["PHOTOS", "--out", "PHOTOS/masks", *CLASSES], "Expected --out outside of '.*', got '.*masks', where"),
        (["PHOTOS", "--out", "OUT", "--classes", "; ;"], "Expected a name for every class in classes, got an empty"),
        (["PHOTOS", "--out", "OUT"], 'Expected --classes, such as "cat; grass, lawn; sky"'),
        (["PHOTOS", "--out", "OUT", "--classes", "cat"], "one class needs no segmentation.*--background"),
        (["PHOTOS", "--out", "OUT", "--classes", "cat; dog; Cat"], "every name in one class, got 'Cat' in two"),
        (["PHOTOS", "--out", "OUT", "--classes", "cat; ; dog"], "empty"),
        (["PHOTOS", "--out", "PHOTOS", *CLASSES], "holds other files, such as"),
        (["PHOTOS", "--out", "OUT", *CLASSES, "--gpua", "tiny-vision"], "Expected --gpua and --fit-on together"),
        (["PHOTOS", "--out", "OUT", *CLASSES, "--gpua", "tiny-vision", "--fit-on", "PHOTOS"],
         "Expected photos that the map was not fitted on, got 4 of 4.*--transductive"),
        (["PHOTOS", "--out", "OUT", *CLASSES, "--features", "sclap"], "did you mean 'sclip'"),
        (["PHOTOS", "--out", "OUT", *CLASSES, "--model", "m"], "from --model 'm' alone, got --classes too"),
        (["nowhere", "--out", "OUT", *CLASSES], "'nowhere' does not exist"),
        (["--dataset", "voc20"], "Expected --root"),
        (["--dataset", "voc20", "--root", "PHOTOS"], "of VOC20, it is not there; get the data set from"),
        (["--dataset", "voc", "--root", "PHOTOS", "--features", "x"], "it is not there"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_sentence(
    arguments: list[str], message: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = {"PHOTOS": str(pictures), "PHOTOS/masks": str(pictures / "masks"), "OUT": str(tmp_path / "out")}
    assert run(["segment", *(place.get(word, word) for word in arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "out").exists()
