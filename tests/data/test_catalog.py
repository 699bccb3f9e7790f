"""The benchmark table, and data sets laid out as CoOp lays them out, in miniature."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, picture

from modalign.core.errors import InputError, UndecodableError, UnknownNameError
from modalign.data.splits.benchmark_sets import DATASETS, dataset, open_dataset
from modalign.data.splits.coop_files import read_coop_split

JPEG = encoded(picture(8, 8), "JPEG")
SPLITS = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "splits"


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG)


def coop_file(path: Path, **change: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = {
        "train": [["Faces/1.jpg", 1, "face"], ["ants/1.jpg", 0, "ant"]],
        "val": [["ants/2.jpg", 0, "ant"]],
        "test": [["Faces/2.jpg", 1, "face"]],
    }
    path.write_text(json.dumps({**lists, **change}))
    return path


def test_names_are_unique_and_rows_are_whole() -> None:
    assert len({row.name for row in DATASETS}) == len(DATASETS)
    assert all(row.license and row.source and row.folder and row.n_test > 0 for row in DATASETS)
    assert not any("http" in row.source for row in DATASETS)


@pytest.mark.parametrize(
    ("name", "found"),
    [("OxfordPets", "oxford_pets"), ("flowers102", "oxford_flowers"), ("ImageNet-R", "imagenet_r"), ("DTD", "dtd"),
     ("Food-101", "food101"), ("CUB-200-2011", "cub"), ("imagenet v2", "imagenetv2")],
)  # fmt: skip
def test_names_of_the_literature(name: str, found: str) -> None:
    assert dataset(name).name == found


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'eurosat'"):
        dataset("euroset")


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs ../shared/data/text/splits")
@pytest.mark.parametrize("name", ["caltech101", "eurosat", "oxford_pets"])
def test_sizes_are_those_of_the_published_lists(name: str) -> None:
    row = dataset(name)
    items, split = read_coop_split(SPLITS / row.lists)
    assert len(items.class_names) == row.n_classes
    assert len(split.test) == row.n_test


def test_coop_layout(tmp_path: Path) -> None:
    coop_file(tmp_path / "caltech-101/split_zhou_Caltech101.json")
    images(tmp_path / "caltech-101/101_ObjectCategories", "Faces/1.jpg", "Faces/2.jpg", "ants/1.jpg")
    for root in (tmp_path, tmp_path / "caltech-101"):
        items, split = open_dataset("Caltech101", root)
        assert items.class_names == ("ant", "face")
        assert [items.ids[i] for i in split.train] == ["Faces/1.jpg", "ants/1.jpg"]
        assert items.read(int(split.test[0])) == JPEG
        assert any("usually has 100 classes" in note for note in items.notes)
        with pytest.raises(UndecodableError, match="file not found"):
            items.read(int(split.validation[0]))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder '.*caltech-101'.*CaltechDATA"):
        open_dataset("caltech101", tmp_path)
    (tmp_path / "caltech-101").mkdir()
    with pytest.raises(InputError, match=r"the folder of images '.*101_ObjectCategories'"):
        open_dataset("caltech101", tmp_path)
    (tmp_path / "caltech-101/101_ObjectCategories").mkdir()
    with pytest.raises(InputError, match=r"the file '.*split_zhou_Caltech101.json'.*CoOp"):
        open_dataset("caltech101", tmp_path)
    coop_file(tmp_path / "caltech-101/split_zhou_Caltech101.json")
    with pytest.raises(InputError, match=r"none of its 4 is there"):
        open_dataset("caltech101", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": [["a.jpg", "0", "ant"]]}, r"\[path, label, class name\].*'val' 0"),
        ({"val": [["a.jpg", 0]]}, "path, label"),
        ({"val": [["a.jpg", True, "ant"]]}, "path, label"),
        ({"val": [["a.jpg", 0, "bee"]]}, "'ant' and 'bee'"),
        ({"val": [["a.jpg", 7, "bee"]]}, "labels 0…2"),
        ({"val": 3}, "list"),
    ],
)
def test_coop_files_that_are_none(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_coop_split(coop_file(tmp_path / "x.json", **change))


def test_other_json_is_no_coop_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"train": []}')
    with pytest.raises(InputError, match="CoOp split file"):
        read_coop_split(tmp_path / "x.json")


def test_imagenet_layout_and_its_double_names(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    images(
        root / "images", *(f"{part}/n0000000{k}/{i}.JPEG" for part in ("train", "val") for k in (2, 1, 3) for i in "12")
    )
    (root / "classnames.txt").write_text("n00000001 crane\nn00000002 sunglasses\nn00000003 crane\n")
    items, split = open_dataset("imagenet", tmp_path)
    assert items.class_names == ("crane", "sunglasses", "crane (2)"), "two classes may have one name"
    assert len(split.train) == len(split.test) == 6
    assert len(split.validation) == 0
    assert {items.ids[i].split("/")[0] for i in split.test} == {"val"}
    assert items.labels[[items.ids.index("train/n00000003/1.JPEG")]] == 2

    images(tmp_path / "imagenet-rendition/imagenet-r", "n00000003/x.jpg", "n00000002/x.jpg")
    (tmp_path / "imagenet-rendition/imagenet-r/README.txt").write_text("hello")
    items, split = open_dataset("imagenet_r", tmp_path)
    assert items.class_names == ("sunglasses", "crane (2)"), "the number is that of the class in ImageNet"
    assert len(split.test) == 2

    images(tmp_path / "imagenetv2/imagenetv2-matched-frequency-format-val", "0/a.jpeg", "1/a.jpeg", "2/a.jpeg")
    items, _ = open_dataset("imagenetv2", tmp_path)
    assert items.class_names == ("crane", "sunglasses", "crane (2)")
    assert items.labels.tolist() == [0, 1, 2]
    images(tmp_path / "imagenetv2/imagenetv2-matched-frequency-format-val", "7/a.jpeg")
    with pytest.raises(InputError, match="among the 3 classes"):
        open_dataset("imagenetv2", tmp_path)


def test_aircraft_lists(tmp_path: Path) -> None:
    root = tmp_path / "fgvc_aircraft"
    images(root, "images/0001.jpg", "images/0002.jpg", "images/0003.jpg")
    (root / "variants.txt").write_text("707-320\nBAE 146-200\n")
    for part, line in (("train", "0001 BAE 146-200"), ("val", "0002 707-320"), ("test", "0003 707-320")):
        (root / f"images_variant_{part}.txt").write_text(line + "\n")
    items, split = open_dataset("aircraft", tmp_path)
    assert items.class_names == ("707-320", "BAE 146-200")
    assert items.labels[split.train].tolist() == [1]
    assert items.ids[split.test[0]] == "images/0003.jpg"
    (root / "images_variant_val.txt").write_text("0002 Concorde\n")
    with pytest.raises(InputError, match="'Concorde'"):
        open_dataset("aircraft", tmp_path)


def test_cub_lists(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    images(root, "images/001.Black_footed_Albatross/a.jpg", "images/002.Crow/b.jpg")
    (root / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Crow\n")
    (root / "images.txt").write_text("1 001.Black_footed_Albatross/a.jpg\n2 002.Crow/b.jpg\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 2\n")
    (root / "train_test_split.txt").write_text("1 1\n2 0\n")
    items, split = open_dataset("cub", tmp_path)
    assert items.class_names == ("Black footed Albatross", "Crow")
    assert split.train.tolist() == [0]
    assert split.test.tolist() == [1]
    assert items.read(1) == JPEG


def test_class_folders_with_and_without_division(tmp_path: Path) -> None:
    images(tmp_path, *(f"aid/{c}/{i}.jpg" for c in ("airport", "beach") for i in range(10)))
    items, split = open_dataset("aid", tmp_path)
    assert (len(split.train), len(split.test)) == (14, 6)
    assert np.bincount(items.labels[split.train]).tolist() == [7, 7]
    images(tmp_path, *(f"cifar100/{part}/{c}/{i}.png" for part in ("train", "test") for c in "ab" for i in range(3)))
    items, split = open_dataset("cifar100", tmp_path)
    assert items.class_names == ("a", "b")
    assert len(split.train) == len(split.test) == 6
    assert all(re.match("test/", items.ids[i]) for i in split.test)
