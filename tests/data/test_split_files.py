"""Split files are found or given, matched by name, and either honored or named; never passed over."""

from __future__ import annotations

import json
import shutil
import unicodedata
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
from modalign.data.splits.coop_files import read_coop_split
from modalign.data.splits.drawing import few_shot
from modalign.data.splits.official import OfficialLists
from modalign.data.splits.split import Split, images_to_test_on, mark, official_split
from modalign.data.splits.split_files import split_by_names

JPEG = encoded(picture(8, 8), "JPEG")
NAMES = {"AnnualCrop": "Annual Crop Land", "SeaLake": "Sea or Lake"}
KEYS = {"train": "train", "val": "validation", "test": "test"}


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG + name.encode())


def coop(flat: bool = False, each: int = 6) -> dict[str, list]:
    """Six images of each of two classes: three to learn from, one to validate, two to test on."""
    rows = {
        (folder, i): [f"{folder}_{i}.jpg" if flat else f"{folder}/{folder}_{i}.jpg", label, name]
        for label, (folder, name) in enumerate(NAMES.items())
        for i in range(each)
    }
    share = {"train": range(3), "val": (3,), "test": range(4, each)}
    return {key: [rows[folder, i] for folder in reversed(NAMES) for i in share[key]] for key in KEYS}


def data_set(root: Path, below: str = "2750", *, flat: bool = False, **change: object) -> dict:
    lists = coop(flat) | change
    images(root / below, *(row[0] for rows in coop(flat).values() for row in rows))
    (root / "split_zhou_EuroSAT.json").write_text(json.dumps(lists))
    return lists


def parts_of(items: Items) -> dict[str, str]:
    return {Path(name).name: str(part) for name, part in zip(items.ids, items.parts, strict=True)}


def check(items: Items, lists: dict) -> None:
    """Parts, classes, class order and the order of the images are those of the lists."""
    listed = [(Path(path).name, KEYS[key], name) for key in KEYS for path, _, name in lists[key]]
    found = [items.class_names[k] if k >= 0 else None for k in items.labels]
    assert items.class_names == tuple(NAMES.values())
    assert [
        (Path(n).name, p, c) for n, p, c in zip(items.ids, items.parts, found, strict=True) if p
    ] == listed  # fmt: skip
    assert official_split(items).description == items.division != ""


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("source", [".", "2750"])
def test_as_coop_lays_it_out(tmp_path: Path, source: str, flat: bool) -> None:
    lists = data_set(tmp_path, flat=flat)
    items = load_items(tmp_path / source)
    check(items, lists)
    assert not any("skipped" in note for note in items.notes)


@pytest.mark.parametrize("flat", [False, True])
def test_beside_the_images(tmp_path: Path, flat: bool) -> None:
    lists = data_set(tmp_path, "", flat=flat)
    check(load_items(tmp_path), lists)


def test_above_the_images(tmp_path: Path) -> None:
    lists = data_set(tmp_path / "a", "")
    (tmp_path / "a/split_zhou_EuroSAT.json").rename(tmp_path / "split_zhou_EuroSAT.json")
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "a").rename(tmp_path / "b/c/images")
    check(load_items(tmp_path / "b/c/images"), lists)


def test_lists_that_are_not_read_are_named(tmp_path: Path) -> None:
    data_set(tmp_path, "")
    (tmp_path / "split_zhou_EuroSAT.json").rename(tmp_path / "notes.json")
    assert not any("not read" in note for note in load_items(tmp_path).notes)
    for name in ("trainlist01.txt", "test.csv"):
        (tmp_path / name).write_text("")
    (note,) = (note for note in load_items(tmp_path).notes if "not read" in note)
    assert note.startswith("'test.csv', 'trainlist01.txt' may be lists of training")


def test_elsewhere_in_the_source(tmp_path: Path) -> None:
    lists = data_set(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "split_zhou_EuroSAT.json").rename(tmp_path / "lists/split_zhou_EuroSAT.json")
    check(load_items(tmp_path), lists)


@pytest.mark.parametrize("inside", [True, False])
def test_in_an_archive_or_beside_it(tmp_path: Path, inside: bool) -> None:
    lists = data_set(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "2750.zip", "w") as file:
        for path in sorted((tmp_path / "x").rglob("*.jpg")):
            file.write(path, path.relative_to(tmp_path / "x").as_posix())
        if inside:
            file.write(tmp_path / "x/split_zhou_EuroSAT.json", "split_zhou_EuroSAT.json")
        else:
            shutil.copy(tmp_path / "x/split_zhou_EuroSAT.json", tmp_path)
    check(load_items(tmp_path / "2750.zip"), lists)


@pytest.mark.parametrize("kind", ["folder", "list", "items", "table"])
def test_a_given_file_serves_any_source(tmp_path: Path, kind: str) -> None:
    lists = data_set(tmp_path, "photos")
    file = (tmp_path / "split_zhou_EuroSAT.json").rename(tmp_path / "mine.json")
    paths = sorted((tmp_path / "photos").rglob("*.jpg"))
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{p.as_posix()},{p.parent.name}\n" for p in paths))
    source = {"folder": tmp_path / "photos", "list": paths, "items": load_items(tmp_path / "photos"),
              "table": tmp_path / "list.csv"}[kind]  # fmt: skip
    assert official_split(load_items(source)) is None
    check(load_items(source, split=file), lists)


def test_shots_are_those_that_coop_draws(tmp_path: Path) -> None:
    data_set(tmp_path)
    ours = load_items(tmp_path)
    theirs, official = read_coop_split(tmp_path / "split_zhou_EuroSAT.json", tmp_path / "2750")
    for seed in range(4):
        a, b = few_shot(ours, 2, seed), few_shot(theirs, 2, seed, official=official)
        for part in ("train", "validation", "test"):
            names = [Path(ours.ids[i]).name for i in getattr(a, part)]
            assert names == [Path(theirs.ids[i]).name for i in getattr(b, part)]


def test_images_that_are_not_listed_are_not_used(tmp_path: Path) -> None:
    data_set(tmp_path)
    images(tmp_path / "2750", "BACKGROUND/1.jpg", "AnnualCrop/extra.jpg")
    items = load_items(tmp_path)
    extra = [i for i, name in enumerate(items.ids) if "extra" in name or "BACK" in name]
    assert (items.labels[extra] == UNLABELED).all()
    assert (items.parts[extra] == "").all()
    assert not set(extra) & {i for part in ("train", "validation", "test") for i in getattr(few_shot(items, 2), part)}


def test_images_that_are_gone_are_counted(tmp_path: Path) -> None:
    data_set(tmp_path)
    (tmp_path / "2750/SeaLake/SeaLake_0.jpg").unlink()
    items = load_items(tmp_path)
    assert len(items) == 11
    assert any("1 of the 12 images of 'split_zhou_EuroSAT.json' are not here" in note for note in items.notes)


def test_a_list_without_validation_gives_it_from_train(tmp_path: Path) -> None:
    data_set(tmp_path, val=[])
    split = few_shot(load_items(tmp_path), "all")
    assert (len(split.train), len(split.validation), len(split.test)) == (4, 2, 4)


def test_an_image_in_two_lists_is_for_testing(tmp_path: Path) -> None:
    lists = coop()
    data_set(tmp_path, train=[*lists["train"], lists["test"][0]])
    items = load_items(tmp_path)
    assert parts_of(items)[Path(lists["test"][0][0]).name] == "test"
    assert any("in several lists" in note for note in items.notes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSON"),
        ("{}", "CoOp split file"),
        (json.dumps(coop() | {"val": [["AnnualCrop/AnnualCrop_0.jpg", 1, "Sea or Lake"]]}), "one class per image"),
        (json.dumps({key: [["x/1.png", 0, "x"]] for key in KEYS}), "found 0 of 1"),
        (json.dumps({key: [[row[0], row[1], "x"] for row in rows] for key, rows in coop().items()}), "class name once"),
        ('{"format": "modalign-split-1", "train": 3}', "lists of ids"),
        ('{"format": "modalign-split-9", "train": []}', "of modalign-split-9; update modalign"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_or_refused(tmp_path: Path, content: str, reason: str) -> None:
    data_set(tmp_path)
    file = tmp_path / "split_zhou_EuroSAT.json"
    file.write_text(content)
    items = load_items(tmp_path)
    assert official_split(items) is None
    assert items.class_names == tuple(NAMES)
    assert any("'split_zhou_EuroSAT.json' is not used" in note and reason in note for note in items.notes)
    with pytest.raises(InputError, match=reason):
        load_items(tmp_path, split=file)


def test_of_several_files_one_must_be_chosen(tmp_path: Path) -> None:
    lists = data_set(tmp_path)
    (tmp_path / "split_fewer.json").write_text(json.dumps(lists | {"val": []}))
    items = load_items(tmp_path)
    assert len(items) == 12, "predicting needs no division"
    for use in (official_split, images_to_test_on, lambda items: few_shot(items, 1)):
        with pytest.raises(InputError, match=r"'split_fewer.json', 'split_zhou_EuroSAT.json'; choose with split="):
            use(items)
    check(load_items(tmp_path, split=tmp_path / "split_zhou_EuroSAT.json"), lists)


def test_class_names_of_the_user_come_first(tmp_path: Path) -> None:
    data_set(tmp_path)
    items = load_items(tmp_path, classes=["sea or lake", "annual crop land"])
    assert items.class_names == ("sea or lake", "annual crop land")
    assert items.labels[items.ids.index("2750/SeaLake/SeaLake_0.jpg")] == 0
    by_folder = load_items(tmp_path, classes={"AnnualCrop": "crop", "SeaLake": "water"})
    assert by_folder.class_names == ("crop", "water")
    assert parts_of(by_folder) == parts_of(items)


def test_a_found_file_never_takes_from_a_test_folder(tmp_path: Path) -> None:
    lists = {key: [[f"{part}/cat/{i}.jpg", 0, "cat"] for i in range(2)] for key, part in KEYS.items()}
    images(tmp_path, *(row[0] for rows in lists.values() for row in rows))
    lists["train"], lists["test"] = lists["test"], lists["train"]
    (tmp_path / "split_mine.json").write_text(json.dumps(lists))
    found, asked = load_items(tmp_path), load_items(tmp_path, split=tmp_path / "split_mine.json")
    assert ((found.parts == "test").sum(), (asked.parts == "test").sum()) == (4, 2)
    for items, stay in ((found, True), (asked, False)):
        (note,) = (note for note in items.notes if "2 images of the test folder are listed" in note)
        assert ("stay for testing" in note) == stay


# -- our own files and splits -----------------------------------------------------------------------------------------


def test_a_saved_split_is_found_or_given(tmp_path: Path) -> None:
    images(tmp_path / "photos", *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(6)))
    items = load_items(tmp_path / "photos")
    drawn = few_shot(items, 2, seed=5, test=0.3)
    file = drawn.save(tmp_path / "chosen.json", items)
    given_ = load_items(tmp_path / "photos", split=file)
    shutil.copy(file, tmp_path / "photos/split.json")
    for again in (given_, load_items(tmp_path / "photos")):
        split = official_split(again)
        for part in ("train", "validation", "test", "unlabeled"):
            assert [again.ids[i] for i in getattr(split, part)] == [items.ids[i] for i in getattr(drawn, part)]
        assert again.class_names == items.class_names
        assert {n: int(k) for n, k in zip(again.ids, again.labels, strict=True)} == dict(
            zip(items.ids, items.labels.tolist(), strict=True)
        )


def test_a_split_of_the_items_marks_them(tmp_path: Path) -> None:
    images(tmp_path, *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(3)))
    split = Split([0, 3], [1], [2, 4], description="mine")
    for source in (tmp_path, load_items(tmp_path)):
        items = load_items(source, split=split)
        assert items.parts.tolist() == ["train", "validation", "test", "train", "test", ""]
        assert items.division == "mine"
    with pytest.raises(InputError, match=r"split of these 6 images, its test list holds image 6"):
        mark(load_items(tmp_path), Split([0], test=[6]))


# -- data sets with text files, folders of data sets ------------------------------------------------------------------


@pytest.mark.parametrize("source", [".", "images"])
def test_aircraft_by_its_text_files(tmp_path: Path, source: str) -> None:
    images(tmp_path, *(f"images/000{i}.jpg" for i in range(6)))
    (tmp_path / "variants.txt").write_text("707-320\nBAE 146-200\n")
    for k, part in enumerate(("train", "val", "test")):
        (tmp_path / f"images_variant_{part}.txt").write_text(f"000{2 * k} BAE 146-200\n000{2 * k + 1} 707-320\n")
    items = load_items(tmp_path / source)
    assert items.class_names == ("707-320", "BAE 146-200")
    assert items.labels.tolist() == [1, 0] * 3
    assert items.parts.tolist() == ["train", "train", "validation", "validation", "test", "test"]


def test_birds_by_their_text_files(tmp_path: Path) -> None:
    images(tmp_path, "images/001.Black_footed_Albatross/a.jpg", "images/002.Crow/b.jpg")
    (tmp_path / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Crow\n")
    (tmp_path / "images.txt").write_text("1 001.Black_footed_Albatross/a.jpg\n2 002.Crow/b.jpg\n")
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 2\n")
    (tmp_path / "train_test_split.txt").write_text("1 0\n2 1\n")
    items = load_items(tmp_path)
    assert items.class_names == ("Black footed Albatross", "Crow")
    assert items.parts.tolist() == ["train", "test"]
    (tmp_path / "image_class_labels.txt").write_text("1 1\n")
    assert any("'2' lacks it" in note for note in load_items(tmp_path).notes)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("named", [("eurosat", "caltech-101"), ("mine", "yours"), ("eurosat", "other")])
def test_a_folder_of_data_sets_is_refused(tmp_path: Path, named: tuple[str, str], flat: bool) -> None:
    for name in named:
        data_set(tmp_path / name, "images", flat=flat) if name != "other" else images(tmp_path, "other/x.jpg")
    items = load_items(tmp_path)
    held = [name for name in sorted(named) if name != "other"]
    assert any(all(f"'{name}'" in note for name in held) for note in items.notes)
    with pytest.raises(InputError, match=f"folder of data sets: {', '.join(map(repr, held))}; give one of them"):
        official_split(items)


def test_known_folders_without_lists_are_data_sets_too_but_not_one_class_called_so(tmp_path: Path) -> None:
    images(tmp_path / "a", "dtd/banded/1.jpg", "dtd/dotted/1.jpg", "sun397/abbey/1.jpg")
    with pytest.raises(InputError, match="folder of data sets: 'dtd', 'sun397'"):
        official_split(load_items(tmp_path / "a"))
    images(tmp_path / "b", "dtd/1.jpg", "aid/1.jpg", "eurosat/1.jpg")
    assert official_split(load_items(tmp_path / "b")) is None


# -- matching ---------------------------------------------------------------------------------------------------------

FOLDER = st.text("abÄ", min_size=1, max_size=2)
PATHS = st.lists(st.builds("{}/{}/{}".format, FOLDER, FOLDER, st.text("xy1é", min_size=1, max_size=3)), min_size=2,
                 max_size=12, unique_by=lambda path: unicodedata.normalize("NFC", path).casefold())  # fmt: skip


def lists_of(paths: list[str]) -> OfficialLists:
    return OfficialLists("'x'", tuple(paths), ("train",) * len(paths), np.zeros(len(paths), dtype=np.int64), ("a",))


@given(PATHS, FOLDER, st.randoms(use_true_random=False), st.sampled_from(["NFC", "NFD"]))
def test_order_and_beginnings_do_not_matter(paths: list[str], folder: str, random, form: str) -> None:
    shuffled = random.sample(paths, len(paths))
    for ours in (shuffled, [f"{folder}/{path}" for path in shuffled]):
        ids = [unicodedata.normalize(form, name).swapcase() for name in ours]
        found = lists_of(paths).find(ids)
        assert [shuffled[i] for i in found] == paths
    back = lists_of([f"{folder}/{path}" for path in paths]).find(shuffled)
    assert [shuffled[i] for i in back] == paths


def test_files_with_distinct_paths_are_never_confused() -> None:
    lists = lists_of(["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"])
    assert lists.find(["x/b/2.jpg", "x/b/1.jpg", "x/a/1.jpg"]).tolist() == [2, -1, 1, 0]
    with pytest.raises(InputError, match="found 0 of 4"):
        lists.find(["1.jpg", "2.jpg"])


def test_case_counts_where_names_differ_by_it_alone() -> None:
    assert lists_of(["A.jpg", "a.jpg"]).find(["a.jpg", "A.jpg"]).tolist() == [1, 0]


def test_names_alone_are_divided_too(tmp_path: Path) -> None:
    ids = ["test/cat/1.jpg", "train/cat/1.jpg", "train/dog/1.jpg"]
    assert split_by_names(ids).test.tolist() == [0]
    assert split_by_names(["cat/1.jpg", "dog/1.jpg"]) is None
    with pytest.raises(InputError, match="holds image 3"):
        split_by_names(ids, Split([3]))
