"""What a source marks as test is never drawn to learn from or to validate, wherever and however it marks it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, picture
from hypothesis import given
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.items import Items, load_items
from modalign.data.splits.division import divide_folders, part_called
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.split import images_to_test_on, official_split

JPEG = encoded(picture(8, 8), "JPEG")
SPELLINGS = {
    "train": ("train", "Train", "training", "TRAINING_SET", "train2017", "trainset", "images_train", "ｔｒａｉｎ"),
    "validation": ("val", "valid", "Validation", "dev", "val_images", "2_val", "validate"),
    "test": ("test", "Testing", "test_set", "testset", "evaluation", "tests", "holdout", "images-test"),
}
LAYOUTS = ("{part}/{name}/{i}.jpg", "{name}/{part}/{i}.jpg", "my data/{part}/images/{name}/{i}.jpg",
           "a/b/{part}/{name}/deeper/{i}.jpg", "{part}/{part}/{name}/{i}.jpg")  # fmt: skip


def layout_of(layout: str, parts: dict[str, str], images: int = 3, names: tuple[str, ...] = ("cat", "dog")) -> dict:
    """Path → part, for every part, class and image."""
    return {
        layout.format(part=folder, name=name, i=i): part
        for part, folder in parts.items()
        for name in names
        for i in range(images)
    }


def write(root: Path, paths: dict | list, kind: str) -> Path:
    """The images as a folder or as an archive, each with bytes of its own."""
    contents = {path: JPEG + path.encode() for path in paths}
    if kind == "folder":
        for path, data in contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root
    root.mkdir(exist_ok=True)
    if kind == "zip":
        with zipfile.ZipFile(root / "data.zip", "w") as file:
            for path, data in contents.items():
                file.writestr(path, data)
        return root / "data.zip"
    with tarfile.open(root / f"data.{kind}", "w:gz" if kind.endswith("gz") else "w") as file:
        for path, data in contents.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return root / f"data.{kind}"


def ids(items: Items, indices: np.ndarray) -> set[str]:
    return {items.ids[i] for i in indices}


@given(
    st.sampled_from(LAYOUTS),
    st.sets(st.sampled_from(["train", "validation", "test"]), min_size=2).flatmap(
        lambda parts: st.fixed_dictionaries({part: st.sampled_from(SPELLINGS[part]) for part in sorted(parts)})
    ),
)
def test_every_spelling_and_layout_is_recognized(layout: str, parts: dict[str, str]) -> None:
    paths = layout_of(layout, parts)
    found = divide_folders(path.split("/")[:-1] for path in paths)
    default = "train" not in parts
    for path, part in paths.items():
        placed, folders = found.place(path.split("/")[:-1])
        assert placed == part
        assert not any(part_called(folder) for folder in folders)
        assert {"cat", "dog"} & set(folders)
    assert {p: set(n) for p, n in found.names.items()} == {p: {folder} for p, folder in parts.items()}
    assert default or found.default == ""


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [("train", "validation", "test"), ("train", "test"), ("train", "validation")])
def test_each_list_is_drawn_from_its_own_part(tmp_path: Path, layout: str, parts: tuple[str, ...], kind: str) -> None:
    paths = layout_of(layout, {part: SPELLINGS[part][0] for part in parts})
    items = load_items(write(tmp_path / "x", paths, kind))
    part_of = dict(zip(items.ids, items.parts.tolist(), strict=True))
    assert part_of == paths
    assert items.class_names == ("cat", "dog")
    assert (items.labels != UNLABELED).all()
    for shots in (1, 2, "all"):
        split = few_shot(items, shots, seed=3)
        assert {part_of[name] for name in ids(items, split.train)} == {"train"}
        source = "validation" if "validation" in parts else "train"
        assert {part_of[name] for name in ids(items, split.validation)} == {source}
        assert ids(items, split.test) == {path for path, part in paths.items() if part == "test"}
        assert not ids(items, split.unlabeled) & ids(items, split.test)
    if "validation" in parts:
        assert len(few_shot(items, "all").validation) == len(few_shot(items, "all").train) == 6, "all of both lists"
        assert np.bincount(items.labels[few_shot(items, 2).validation]).tolist() == [2, 2]
    assert set(images_to_test_on(items).ids) == (ids(items, split.test) or set(items.ids))


@pytest.mark.parametrize(
    "parts",
    [
        {"digits_train": "train", "digits_test": "test"},
        {"train.X1": "train", "train.X2": "train", "val.X": "validation"},
        {"ILSVRC2012_img_train": "train", "ILSVRC2012_img_val": "validation"},
        {"train": "train", "test_seen": "test", "test_unseen": "test"},
        {"2019 train v1": "train", "2019 val v1": "validation", "2019 test v1": "test"},
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_longer_names_of_parts_divide_if_they_hold_the_same_classes(tmp_path: Path, parts: dict, kind: str) -> None:
    paths = {f"{folder}/{name}/{i}.jpg": part for folder, part in parts.items() for name in "ab" for i in range(2)}
    items = load_items(write(tmp_path / "x", paths, kind))
    assert dict(zip(items.ids, items.parts.tolist(), strict=True)) == paths
    assert items.class_names == ("a", "b")


@pytest.mark.parametrize("layout", ["test/images/{name}/{i}.jpg", "test/{name}/{i}.jpg"])
def test_a_folder_around_the_classes_of_one_part_alone_is_no_class(tmp_path: Path, layout: str) -> None:
    paths = layout_of("train/{name}/{i}.jpg", {"train": "train"}) | layout_of(layout, {"test": "test"})
    items = load_items(write(tmp_path, paths, "folder"))
    assert dict(zip(items.ids, items.parts.tolist(), strict=True)) == paths
    assert items.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("paths", "note"),
    [
        (["cat/1.jpg", "test/1.jpg", "dog/1.jpg"], "'test' is taken for a class, not for a part of the data"),
        (["my test/1.jpg", "my train/1.jpg"], "'my test', 'my train' are taken for classes"),
        (["a/train/x/1.jpg", "b/test/x/1.jpg"], "training images and test images have no class in common"),
    ],
)
def test_folders_that_resemble_parts_are_reported(tmp_path: Path, paths: list[str], note: str) -> None:
    assert note in " ".join(load_items(write(tmp_path, paths, "folder")).notes)


def test_the_note_names_the_purpose_of_each_folder(tmp_path: Path) -> None:
    paths = layout_of(LAYOUTS[0], {"train": "train", "test": "test"}) | {"all/cat/7.jpg": "", "cover.jpg": ""}
    items = load_items(write(tmp_path, paths, "folder"))
    (note,) = (note for note in items.notes if "divided" in note)
    assert note == (
        "divided by the folders 'train' (learning), 'test' (testing): 6 images to learn from, 6 images to test on, "
        "2 of no part, which are not used"
    )


def test_images_of_no_part_are_neither_learned_from_nor_tested_on(tmp_path: Path) -> None:
    paths = layout_of(LAYOUTS[0], {"train": "train", "test": "test"}) | dict.fromkeys(["all/cat/7.jpg", "1.jpg"], "")
    items = load_items(write(tmp_path, paths, "folder"))
    assert items.class_names == ("cat", "dog")
    split = few_shot(items, "all")
    assert not {"all/cat/7.jpg", "1.jpg"} & {name for part in vars(split).values() if isinstance(part, np.ndarray)
                                             for name in ids(items, part)}  # fmt: skip
    assert set(images_to_test_on(items).ids) == {path for path, part in paths.items() if part == "test"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["cat/1.jpg", "dog/1.jpg", "test/cat/2.jpg"], ["train", "train", "test"]),
        (["cat/1.jpg", "dog/1.jpg", "cat/test/2.jpg"], ["train", "test", "train"]),
        (["train/1.jpg", "test/1.jpg"], ["test", "train"]),
        (["test/cat/1.jpg", "test/dog/1.jpg"], ["test", "test"]),
    ],
)
def test_where_only_some_folders_name_a_part(tmp_path: Path, paths: list[str], expected: list[str]) -> None:
    items = load_items(write(tmp_path, paths, "folder"))
    assert items.parts.tolist() == expected
    assert not {"train", "test"} & set(items.class_names)


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/1.jpg", "dog/1.jpg"],
        ["train/1.jpg", "bus/1.jpg", "car/1.jpg"],  # vehicles
        ["test tube/new/1.jpg", "train station/new/1.jpg", "station/new/1.jpg"],
        ["test tube/small/1.jpg", "train station/big/1.jpg"],
        ["valid/1.jpg", "invalid/1.jpg"],
        ["train/cat/1.jpg", "train/dog/1.jpg"],
        ["crash test/1.jpg", "train station/1.jpg"],
    ],
)
def test_what_divides_nothing(tmp_path: Path, paths: list[str]) -> None:
    items = load_items(write(tmp_path, paths, "folder"))
    assert official_split(items) is None
    assert not any("divided" in note for note in items.notes)


def test_a_folder_beside_the_divided_one_is_no_class(tmp_path: Path) -> None:
    paths = layout_of("data/{part}/{name}/{i}.jpg", {"train": "train", "test": "test"})
    items = load_items(write(tmp_path, [*paths, "figures/plot.jpg"], "folder"))
    assert items.class_names == ("cat", "dog")
    assert items.parts[items.ids.index("figures/plot.jpg")] == ""


def test_an_empty_part_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, ["train/cat/1.jpg", "train/dog/1.jpg"], "folder")
    (tmp_path / "val").mkdir()
    items = load_items(tmp_path)
    assert items.class_names == ("cat", "dog")
    assert len(official_split(items).train) == 2


def test_parts_stay_with_their_images(tmp_path: Path) -> None:
    paths = layout_of(LAYOUTS[0], {"train": "train", "validation": "val", "test": "test"})
    items = load_items(write(tmp_path, paths, "folder"))
    order = np.random.default_rng(0).permutation(len(items))
    chosen = items.select(order)
    assert all(paths[name] == part for name, part in zip(chosen.ids, chosen.parts, strict=True))
    assert few_shot(chosen, "all").test.size == 6
    assert (items.unlabeled().parts == items.parts).all()
    assert (load_items(items, classes=["dog", "cat"]).parts == items.parts).all()


def test_several_data_sets_are_not_one(tmp_path: Path) -> None:
    paths = [f"{data}/{part}/{name}/1.jpg" for data in ("pets", "food") for part in ("train", "test") for name in "ab"]
    items = load_items(write(tmp_path, paths, "folder"))
    assert any("data sets: 'food', 'pets'" in note for note in items.notes)
    for use in (official_split, images_to_test_on, lambda items: few_shot(items, 1)):
        with pytest.raises(InputError, match=r"one data set, got a folder of data sets: 'food', 'pets'"):
            use(items)
