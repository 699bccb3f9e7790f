"""``convert``: labels and the answers of models as files of other programs, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import modalign as ma
from modalign import cli
from modalign.data.digit_pairs import load_digit_pairs
from modalign.data.digits import load_digits
from modalign.data.interchange.writing_labels import WRITTEN
from modalign.model.multi_label import adapt_multi_label


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 digits in a folder per class, and a file that is no image."""
    folder, source = tmp_path_factory.mktemp("digits"), load_digits()
    for i in range(20):
        place = folder / source.class_names[source.labels[i]]
        place.mkdir(exist_ok=True)
        (place / f"{i}.png").write_bytes(source.read(i))
    return folder


def test_labels_are_read_again_from_what_was_written(digits: Path, tmp_path: Path, capsys) -> None:
    before = ma.load_items(digits)
    places = {"coco": digits / "labels.json", "webdataset": tmp_path / "a.tar", "yolo": tmp_path / "b"}
    for format, name in places.items():
        assert cli.run(["convert", str(digits), format, "--out", str(name)]) == 0
        assert f"{name}, 20 images of 10 classes\n" in capsys.readouterr().out
        after = ma.load_items(name)
        found = sorted(after.class_names[label] for label in after.labels)
        assert found == sorted(before.class_names[label] for label in before.labels)
    (digits / "labels.json").unlink()


def test_the_answers_of_a_model_replace_the_labels(digits: Path, tmp_path: Path, own_cache: None, capsys) -> None:
    model = ma.adapt(digits, encoder="tiny", method="zero_shot", templates=["a photo of the digit {}."])
    model.save(tmp_path / "model")
    broken = digits / "zero" / "broken.png"
    broken.write_bytes(b"nothing")
    out = tmp_path / "tasks.json"
    command = ["convert", str(digits), "label_studio", "-m", str(tmp_path / "model"), "-o", str(out)]
    assert cli.run(command) == 0
    broken.unlink()
    printed = capsys.readouterr()
    assert "answers for 20 images" in printed.out
    assert "broken.png" in printed.err
    expected = {prediction.id: prediction.name for prediction in model.predict(ma.load_items(digits))}
    tasks = json.loads(out.read_text())
    assert len(tasks) == 20
    for task in tasks:
        assert "annotations" not in task or not task["annotations"]
        (choice,) = task["predictions"][0]["result"][0]["value"]["choices"]
        assert choice == next(name for key, name in expected.items() if task["data"]["image"].endswith(key))


def test_sets_of_a_model_of_several_classes(tmp_path: Path, own_cache: None) -> None:
    pairs = load_digit_pairs(40, 20)
    adapt_multi_label(pairs, encoder="tiny", method="gda").save(tmp_path / "model")
    (tmp_path / "new").mkdir()
    for i in range(3):
        (tmp_path / "new" / f"{i}.png").write_bytes(pairs.items.read(i))
    out = tmp_path / "new" / "labels.json"
    assert cli.run(["convert", str(tmp_path / "new"), "coco", "-m", str(tmp_path / "model"), "-o", str(out)]) == 0
    assert [image["file_name"] for image in json.loads(out.read_text())["images"]] == ["0.png", "1.png", "2.png"]


def test_images_without_labels_are_counted_and_no_folder_is_left_empty(digits: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "0.png").write_bytes(load_digits().read(0))
    with pytest.warns(UserWarning, match="no image has a class"):
        assert cli.run(["convert", str(tmp_path / "new"), "coco", "-o", str(tmp_path / "new" / "labels.json")]) == 0
    assert "1 image of 0 classes, 1 of them unlabeled" in capsys.readouterr().out
    (tmp_path / "new" / "labels.json").unlink()
    assert cli.run(["convert", str(tmp_path / "new"), "yolo", "-o", str(tmp_path / "yolo")]) == 2
    assert "give --model for the answers" in capsys.readouterr().err
    assert not (tmp_path / "yolo").exists()


def test_the_help_names_every_format(capsys) -> None:
    assert cli.run(["convert", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(format in shown for format in WRITTEN)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pandas", "-o", "OUT"], "coco, label_studio, parquet or webdataset, got 'pandas'"),
        (["parquet", "-o", "OUT"], "ends in .parquet"),
        (["coco", "-o", "OUT", "--encoder", "tiny"], "with --model"),
        (["coco", "-o", "OUT", "-m", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    arguments: list[str], words: str, digits: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "labels.json"
    assert cli.run(["convert", str(digits), *(str(out) if a == "OUT" else a for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("error: ") == 1
    assert not out.exists()
