"""Items: whatever a user has becomes the same ordered list of images, and nothing is lost in silence."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, make_bad_folder, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import UNLABELED
from modalign.data.items import Items, load_items
from modalign.data.splits.division import DIVISIONS
from modalign.data.splits.drawing import few_shot, official_split

JPEG = encoded(picture(), "JPEG")


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(JPEG if not name.endswith((".txt", ".xml")) else b"text")
    return root


def labeled(items: Items) -> dict[str, str | None]:
    return {
        name: None if label == UNLABELED else items.class_names[label]
        for name, label in zip(items.ids, items.labels, strict=True)
    }


def test_a_folder_of_folders_in_natural_order(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "dog/img10.jpg", "dog/img2.jpg", "cat/b.jpg", "cat/deeper/still/a.PNG"))
    assert items.ids == ("cat/b.jpg", "cat/deeper/still/a.PNG", "dog/img2.jpg", "dog/img10.jpg")
    assert items.class_names == ("cat", "dog")
    assert items.labels.tolist() == [0, 0, 1, 1]
    assert items.labels.dtype == np.int64
    assert len(items) == 4
    assert items.read(2) == JPEG
    assert items.open(0).size == (48, 32)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(f"{c}/{i}.jpg" for c in "abc" for i in range(12)))
    expected = load_items(tmp_path).ids
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: sorted(scandir(path), key=lambda e: e.name[::-1], reverse=True))
    assert load_items(tmp_path).ids == expected


def test_paths_of_a_list_may_begin_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    items = load_items(["~/x.png"])
    assert (items.ids, items.read(0)) == (("x.png",), (tmp_path / "x.png").read_bytes())


def test_a_flat_folder_is_unlabeled(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "2.jpg", "1.jpg"))
    assert items.ids == ("1.jpg", "2.jpg")
    assert items.labels.tolist() == [UNLABELED, UNLABELED]
    assert items.class_names == ()
    assert load_items(str(tmp_path), classes=["x", "y"]).class_names == ("x", "y")


def test_loose_images_beside_class_folders_are_unlabeled_and_reported(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "cat/1.jpg", "dog/1.jpg", "who.jpg"))
    assert labeled(items) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog", "who.jpg": None}
    assert any("1 image lies outside" in note for note in items.notes)


def test_an_empty_class_folder_stays_a_class_and_is_reported(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "cat/1.jpg", "dog/1.jpg", "emu/", "labels/a.xml"))
    assert items.class_names == ("cat", "dog", "emu")
    assert any("emu" in note for note in items.notes)
    assert "labels" not in items.class_names


def test_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "a/1.jpg", "b/1.jpg", "b/x.txt", "b/y.txt", "c.xml", "b/.hidden.jpg"))
    assert len(items) == 2
    assert any(".txt (2)" in note and ".xml (1)" in note for note in items.notes)
    assert any("1 hidden file" in note for note in items.notes)


def test_folders_around_everything_are_skipped(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "data/images/cat/1.jpg", "data/images/dog/1.jpg", "data/readme.txt"))
    assert items.class_names == ("cat", "dog")
    assert items.ids[0] == "data/images/cat/1.jpg"


def test_one_class_is_a_class_and_not_a_wrapping(tmp_path: Path) -> None:
    assert load_items(write(tmp_path, "cat/1.jpg", "cat/2.jpg")).class_names == ("cat",)
    assert load_items(write(tmp_path, "dog/")).class_names == ("cat", "dog")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val", "test"), ("training", "validation")])
def test_train_and_test_folders_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    items = load_items(
        write(tmp_path, *(f"{part}/{c}/{i}.jpg" for part in names for c in ("cat", "dog") for i in "12"))
    )
    assert items.class_names == ("cat", "dog")
    assert any("divided by" in note for note in items.notes)
    split = official_split(items)
    for part in names:
        indices = getattr(split, DIVISIONS[part.lower()])
        assert {items.ids[i].split("/")[0] for i in indices} == {part}
        assert len(indices) == 4


def test_a_folder_without_division_has_no_official_split(tmp_path: Path) -> None:
    assert official_split(load_items(write(tmp_path, "cat/train/x/1.jpg", "dog/train/x/1.jpg"))) is None
    items = load_items(write(tmp_path / "vehicles", "train/1.jpg", "bus/1.jpg", "car/1.jpg"))
    assert official_split(items) is None
    assert items.class_names == ("bus", "car", "train")


def test_names_that_differ_only_by_case_are_kept_apart_and_reported(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "Cat/1.jpg", "cat/1.jpg", "dog/1.jpg"))
    assert items.class_names == ("Cat", "cat", "dog")
    assert any("'Cat', 'cat'" in note for note in items.notes)


def test_classes_fix_names_and_order(tmp_path: Path) -> None:
    root = write(tmp_path / "x", "grand_piano/1.jpg", "owl/1.jpg", "Red Fox/1.jpg")
    items = load_items(root, classes=["red fox", "unicorn", "owl", "Grand Piano"])
    assert items.class_names == ("red fox", "unicorn", "owl", "Grand Piano")
    assert labeled(items)["grand_piano/1.jpg"] == "Grand Piano"
    assert any("unicorn" in note for note in items.notes)

    names = tmp_path / "names.txt"
    names.write_text("Red Fox\nowl\n\ngrand piano\n")
    assert load_items(root, classes=names).class_names == ("Red Fox", "owl", "grand piano")

    mapping = {"owl": "bird", "grand_piano": "instrument", "Red Fox": "mammal"}
    (tmp_path / "names.json").write_text(json.dumps(mapping))
    items = load_items(root, classes=tmp_path / "names.json")
    assert items.class_names == ("bird", "instrument", "mammal")
    assert labeled(items)["Red Fox/1.jpg"] == "mammal"


def test_a_mapping_merges_two_folders(tmp_path: Path) -> None:
    root = write(tmp_path, "Cat/1.jpg", "kitten/1.jpg", "dog/1.jpg")
    items = load_items(root, classes={"Cat": "cat", "kitten": "cat", "dog": "dog"})
    assert items.class_names == ("cat", "dog")
    assert items.labels.tolist() == [0, 1, 0]


def test_a_folder_that_is_in_no_class_list_is_an_error_with_a_hint(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/1.jpg", "dgo/1.jpg")
    with pytest.raises(InputError, match=r"'dgo'.*Did you mean 'dog'\?"):
        load_items(root, classes=["cat", "dog"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "cat"], "twice"),
        ([], "at least one"),
        (["cat", " "], "non-empty"),
        (3, "list of names"),
        ([1, 2], "text"),
    ],
)
def test_class_lists_that_are_none(tmp_path: Path, classes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_items(write(tmp_path, "cat/1.jpg"), classes=classes)


def test_a_missing_class_file_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    root = write(tmp_path / "x", "cat/1.jpg")
    (tmp_path / "names.txt").write_text("cat")
    with pytest.raises(InputError, match=r"does not exist\. Did you mean 'names.txt'"):
        load_items(root, classes=tmp_path / "nmaes.txt")


def test_a_wrong_path_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "photos/1.jpg")
    with pytest.raises(InputError, match=r"Did you mean 'photos'\?"):
        load_items(tmp_path / "photo")
    with pytest.raises(InputError, match="does not exist"):
        load_items(tmp_path / "nothing" / "like" / "it")


def test_the_error_for_a_folder_without_images_lists_its_content(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found none.*\.txt \(1\)"):
        load_items(write(tmp_path, "a.txt"))


def test_minus_one_ignores_the_labels_of_any_source(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/1.jpg", "dog/1.jpg")
    items = load_items(root, classes=["red", "green"], labels=UNLABELED)
    assert items.class_names == ("red", "green")
    assert items.labels.tolist() == [-1, -1]
    hidden = load_items(load_items(root), labels=UNLABELED)
    assert hidden.labels.tolist() == [-1, -1]
    assert hidden.class_names == ("cat", "dog")


def test_lists_of_everything(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg")
    pixels = np.asarray(picture())
    source = [tmp_path / "1.jpg", str(tmp_path / "1.jpg"), picture(), pixels, pixels[..., 0], encoded(picture(), "PNG")]
    items = load_items(source, labels=["b", "a", "a", None, "b", -1])
    assert items.class_names == ("a", "b")
    assert items.labels.tolist() == [1, 0, 0, -1, 1, -1]
    for i in (2, 3, 5):
        assert items.open(i).tobytes() == picture().tobytes()
        assert items.identity(i) is None
    assert items.open(4).getpixel((0, 0)) == (20, 20, 20)
    assert items.read(2) == items.read(3), "equal pixels have equal bytes, whatever they came in"


def test_a_list_is_the_same_in_an_array(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/2.jpg")
    paths = [str(tmp_path / "cat/1.jpg"), str(tmp_path / "dog/2.jpg")]
    for same in (np.array(paths), np.array(paths, dtype=object), np.array(paths, dtype=np.dtypes.StringDType())):
        assert load_items(same).ids == ("cat/1.jpg", "dog/2.jpg")
    assert len(load_items(np.array([picture(), None], dtype=object)[:1])) == 1
    with pytest.raises(InputError, match=r"a list of folders: .*; give one folder"):
        load_items([tmp_path / "cat", tmp_path / "dog"])


def test_integer_labels_number_the_given_classes() -> None:
    items = load_items([picture()] * 3, labels=np.array([2, -1, 0]), classes=["a", "b", "c"])
    assert items.labels.tolist() == [2, -1, 0]
    assert items.class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="'3'"):
        load_items([picture()] * 2, labels=[3, 0], classes=["a", "b", "c"])


@pytest.mark.parametrize("labels", [[0], ["a", 1], [0, -2], [0.5, 1.0]])
def test_labels_that_do_not_fit(labels: list) -> None:
    with pytest.raises(InputError):
        load_items([picture(), picture()], labels=labels)


def test_batches_of_pixels() -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    items = load_items(batch)
    assert all((np.asarray(items.open(i)) == batch[i]).all() for i in range(3))
    assert load_items(batch[..., 0]).open(0).size == (7, 5)
    assert load_items(batch[..., :1]).open(0).size == (7, 5)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 5, 3), np.uint8), "one picture"),
        (np.zeros((4, 5), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 2), np.uint8), "shape"),
    ],
)
def test_batches_of_the_wrong_kind(batch: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_items(batch)


@pytest.mark.parametrize("source", [3, None, object(), [object()], [3]])
def test_things_that_hold_no_images(source: object) -> None:
    with pytest.raises(InputError, match="got"):
        load_items(source)


def test_missing_files_of_a_list_are_quarantined_unless_all_are(tmp_path: Path) -> None:
    write(tmp_path, "here.jpg", "folder/x.jpg")
    items = load_items([tmp_path / "gone.jpg", tmp_path / "here.jpg", tmp_path / "folder"], labels=["a", "b", "a"])
    assert len(items) == 1
    assert items.class_names[items.labels[0]] == "b"
    assert [(Path(q.id).name, q.reason) for q in items.quarantined] == [
        ("gone.jpg", "file not found"),
        ("folder", "a folder, not an image"),
    ]
    with pytest.raises(InputError, match=r"Did you mean 'here.jpg'"):
        load_items([tmp_path / "her.jpg"])


def test_identity_changes_exactly_when_the_file_may_have(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, "cat/1.jpg", "dog/1.jpg"))
    before = items.identity(0)
    status = os.stat(tmp_path / "cat/1.jpg")
    assert before == (str(tmp_path / "cat/1.jpg"), len(JPEG), status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert items.identity(0) == before
    same_size = bytes(len(JPEG))
    (tmp_path / "cat/1.jpg").write_bytes(same_size)
    os.utime(tmp_path / "cat/1.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert items.identity(0) != before, "a rewrite with size and time put back still changes ctime"
    (tmp_path / "cat/1.jpg").unlink()
    assert items.identity(0) is None
    with pytest.raises(UndecodableError, match="file not found"):
        items.read(0)


def test_select_takes_indices_masks_and_slices(tmp_path: Path) -> None:
    items = load_items(write(tmp_path, *(f"{c}/{i}.jpg" for c in "ab" for i in range(3))))
    assert items.select([4, 0]).ids == (items.ids[4], items.ids[0])
    assert items.select(items.labels == 1).labels.tolist() == [1, 1, 1]
    assert items.select(slice(1, 3)).ids == items.ids[1:3]
    assert len(items.select([])) == 0
    assert items.select(np.array([], dtype=np.int64)).class_names == items.class_names


@given(st.lists(st.integers(-5, 4), max_size=8))
def test_select_is_numpy_indexing(indices: list[int]) -> None:
    items = load_items(np.zeros((5, 2, 2), np.uint8), labels=[0, 1, 2, 1, 0])
    chosen = items.select(indices)
    assert chosen.ids == tuple(items.ids[i] for i in indices)
    assert chosen.labels.tolist() == [items.labels[i] for i in indices]


def test_items_pass_through_and_can_be_labeled_again() -> None:
    items = load_items([picture()] * 3, labels=["a", "b", "a"])
    assert load_items(items) is items
    assert load_items(items, labels=["x", "y", None]).class_names == ("x", "y")
    renamed = load_items(items, classes={"b": "bee", "a": "ant"})
    assert renamed.class_names == ("bee", "ant")
    assert renamed.labels.tolist() == [1, 0, 1]


def test_the_bad_folder(tmp_path: Path) -> None:
    folder = make_bad_folder(tmp_path / "photos")
    items = load_items(folder.root)
    reasons = {q.id: q.reason for q in items.quarantined}
    for i, name in enumerate(items.ids):
        try:
            items.open(i)
        except UndecodableError as error:
            reasons[name] = str(error)
    assert set(items.ids) - reasons.keys() == set(folder.good)
    assert reasons.keys() == folder.bad.keys()
    assert all(re.search(folder.bad[name], reason) for name, reason in reasons.items())


def test_threads_read_the_same(tmp_path: Path) -> None:
    items = load_items([tmp_path / "1.jpg", picture(), np.asarray(picture())] if write(tmp_path, "1.jpg") else [])
    order = [0, 1, 2] * 40
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(items.read, order)) == [items.read(i) for i in order]


def test_a_lazy_pillow_image_that_is_broken_is_undecodable_not_a_crash() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    lazy = Image.open(BytesIO(encoded(Image.fromarray(noise), "PNG")[:5000]))
    with pytest.raises(UndecodableError):
        load_items([lazy]).read(0)


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_file_names_that_are_no_utf8_are_read_and_can_be_written_down(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.jpg", "wb") as file:
        file.write(JPEG)
    Path(os.fsdecode(folder + b"/\xfe.jpg")).write_bytes(JPEG)
    assert load_items(tmp_path).ids == (r"caf\xe9/\xfe.jpg", r"caf\xe9/\xff.jpg")
    os.remove(folder + b"/\xfe.jpg")
    for items in (load_items(tmp_path), load_items([os.fsdecode(folder + b"/\xff.jpg")])):
        assert items.ids[0].endswith(r"\xff.jpg")
        assert items.read(0) == JPEG
        assert items.identity(0)[0].encode().endswith(rb"\xe9/\xff.jpg")
    split = few_shot(load_items(tmp_path), 1)
    assert split.save(tmp_path / "split.json", load_items(tmp_path)).is_file()


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "store", "many/1.jpg", "many/2.jpg")
    root = write(tmp_path / "photos", "dog/1.jpg")
    (root / "cat").symlink_to(tmp_path / "store" / "many", target_is_directory=True)
    assert load_items(root).ids == ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")


def test_a_single_image_and_an_unknown_file(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg")
    assert load_items(tmp_path / "1.jpg").ids == ("1.jpg",)
    assert load_items(JPEG).read(0) == JPEG
    (tmp_path / "x.docx").write_bytes(b"")
    with pytest.raises(InputError, match="Expected a folder, a table"):
        load_items(tmp_path / "x.docx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "dog").chmod(0)
    try:
        items = load_items(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o755)
    assert any(q.id == "dog" and "cannot be read" in q.reason for q in items.quarantined)


def test_a_folder_that_vanishes_while_listing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "cat/1.jpg", "dog/1.jpg")
    scandir = os.scandir

    def vanish(path: str | int) -> object:
        if str(path).endswith("dog"):
            (tmp_path / "dog" / "1.jpg").unlink()
            (tmp_path / "dog").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanish)
    items = load_items(tmp_path)
    assert items.ids == ("cat/1.jpg",)
    assert [q.id for q in items.quarantined] == ["dog"]


parts = st.lists(st.sampled_from(["a", "b", "c d"]), min_size=1, max_size=3).map("/".join)


@given(paths=st.lists(parts, min_size=1, max_size=6), as_path=st.booleans(), data=st.data())
def test_the_name_of_a_file_does_not_depend_on_how_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], as_path: bool, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("names")
    files = [root / f"{path}.jpg" for path in dict.fromkeys(paths)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(JPEG)
    kind = Path if as_path else str
    for file in files:
        assert load_items(kind(file)).ids == load_items([kind(file)]).ids == (file.name,)
    common = Path(os.path.commonpath([file.parent for file in files]))
    by_folder, by_list = load_items(common), load_items([kind(file) for file in files])
    assert set(by_list.ids) == set(by_folder.ids) == {file.relative_to(common).as_posix() for file in files}
    assert [common / name for name in by_list.ids] == files
    shuffled = data.draw(st.permutations(files))
    assert load_items(shuffled).ids == tuple(file.relative_to(common).as_posix() for file in shuffled)


@given(st.lists(st.sampled_from(["x.jpg", "y.jpg", "0", "x.jpg#2", "gone.jpg", None, b""]), min_size=1, max_size=8))
def test_every_entry_of_a_list_has_a_name_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, entries: list[str | bytes | None]
) -> None:
    root = tmp_path_factory.mktemp("entries")
    for name in ("x.jpg", "y.jpg", "0", "x.jpg#2"):
        (root / name).write_bytes(JPEG)
    source = [JPEG if not e else root / e for e in entries]
    if all(e == "gone.jpg" for e in entries):
        with pytest.raises(InputError, match="none of"):
            load_items(source)
        return
    items = load_items(source)
    assert len(set(items.given)) == len(entries)
    assert sorted(items.given) == sorted((*items.ids, *(q.id for q in items.quarantined)))
    assert [name in items.ids for name in items.given] == [e != "gone.jpg" for e in entries]


def test_labels_that_are_no_list_are_refused_in_one_sentence() -> None:
    pictures = [Image.new("RGB", (4, 4))] * 2
    for labels in (3, np.array(3)):
        with pytest.raises(InputError, match=r"^Expected one label per image \(2\), got"):
            load_items(pictures, labels=labels)
