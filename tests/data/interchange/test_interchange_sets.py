"""Images that show several classes keep all of them in every format that has them; one class per image is asked for."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import as_bytes, picture

from modalign import InputError, load_items
from modalign.core.label_matrix import UNKNOWN
from modalign.data.interchange.writing_labels import convert_labels
from modalign.data.label_sets import LabeledSets, load_label_sets
from modalign.model.adaptation.images import read_items
from modalign.model.multi_label.multi_label_answers import MultiLabelPredictions

NAMES = ("otter", "sea lion", "zebra ü")
NEEDS = {"pandas": "pandas", "polars": "polars", "datasets": "datasets", "parquet": "pyarrow"}
PLACES = {"coco": "a.json", "label_studio": "b.json", "parquet": "a.parquet", "webdataset": "a.tar", "fiftyone": "f",
          "roboflow": "r", "pandas": None, "polars": None, "datasets": None}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> LabeledSets:
    """20 photos with every subset of three classes, some of them without any, and two that are unlabeled."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(as_bytes(picture(i), "PNG"))
    matrix = np.array([[i >> k & 1 for k in range(3)] for i in range(20)], dtype=np.int8)
    matrix[[5, 11]] = UNKNOWN
    parts = np.array([("train", "validation", "test")[i % 3] for i in range(20)])
    return LabeledSets(replace(load_items(folder), parts=parts), matrix, NAMES)


def written(sets: LabeledSets, format: str, tmp_path: Path) -> Any:
    """The images in a format; documents are beside the images."""
    pytest.importorskip(NEEDS.get(format, "numpy"))
    place = PLACES[format]
    if format in ("coco", "label_studio"):
        for i, name in enumerate(sets.items.ids):
            (tmp_path / name).write_bytes(sets.items.read(i))
    return convert_labels(sets, format, None if place is None else tmp_path / place)


def content(sets: LabeledSets) -> list[tuple[bytes, tuple[int, ...], str]]:
    rows = zip(sets.matrix.tolist(), sets.items.parts.tolist(), strict=True)
    return sorted((sets.items.read(i), tuple(row), part) for i, (row, part) in enumerate(rows))


@pytest.mark.parametrize("format", PLACES)
def test_twenty_images_keep_their_sets(format: str, sets: LabeledSets, tmp_path: Path) -> None:
    expected = content(sets)
    if format == "fiftyone":
        expected = [(data, row, "") for data, row, _ in expected]
    with warnings.catch_warnings(record=True) as said:
        source = written(sets, format, tmp_path)
    assert not any("of none of the classes" in str(warning.message) for warning in said)
    again = load_label_sets(source)
    assert again.class_names == NAMES
    assert content(again) == expected
    with pytest.raises(
        InputError, match=r"Expected one class per image, .* gives .*; images of several classes"
    ) as caught:
        load_items(source)
    assert "\n" not in str(caught.value)
    assert PLACES[format] is None or str(PLACES[format]) in str(caught.value)
    assert len(load_items(source, labels=-1)) == 20  # for which labels do not matter
    if format == "label_studio":
        assert content(load_label_sets(convert_labels(source, "webdataset", tmp_path / "again.tar"))) == expected


@pytest.mark.parametrize("format", PLACES)
@pytest.mark.parametrize("alone", [False, True])
def test_a_class_called_minus_one_is_kept(format: str, alone: bool, sets: LabeledSets, tmp_path: Path) -> None:
    few = sets.select(slice(8))
    matrix = few.matrix.copy()
    if alone:  # it is in no set with others
        matrix[matrix.sum(axis=1) > 1, 0] = 0
    few = replace(few, items=replace(few.items, parts=np.full(8, "train")), matrix=matrix, class_names=("-1", "a", "b"))
    again = load_label_sets(written(few, format, tmp_path))
    assert set(again.class_names) == set(few.class_names)
    expected = content(few)
    if format == "fiftyone":
        expected = [(data, row, "") for data, row, _ in expected]
    assert content(again.for_classes(few.class_names)) == expected


@pytest.mark.parametrize("format", ["yolo", "imagefolder"])
def test_folders_of_one_class_take_no_sets(format: str, sets: LabeledSets, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected one class per image for this format"):
        convert_labels(sets, format, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_classes_that_are_known_in_part_are_not_written(sets: LabeledSets, tmp_path: Path) -> None:
    matrix = sets.matrix.copy()
    matrix[3, 0] = UNKNOWN
    with pytest.raises(InputError, match=r"'03\.png' and 0 others are known in part"):
        convert_labels(replace(sets, matrix=matrix), "pandas")


def test_the_categories_of_boxes_are_a_set(sets: LabeledSets, tmp_path: Path) -> None:
    """Several boxes of one category count once; a separator in a name would make other classes of it."""
    (tmp_path / "a.png").write_bytes(sets.items.read(0))
    boxes = [{"id": i, "image_id": 7, "category_id": k, "bbox": [0, 0, 1, 1]} for i, k in enumerate([1, 2, 1])]
    document = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "zebra"}, {"id": 2, "name": "otter"}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": k, "bbox": [0, 0, 1, 1]} for i, k in enumerate([1, 2, 1])
        ],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document))
    found = load_label_sets(file)
    assert found.class_names == ("otter", "zebra")
    assert found.matrix.tolist() == [[1, 1]]
    assert load_label_sets(file, classes=["zebra", "otter", "cat"]).matrix.tolist() == [[1, 1, 0]]
    names = [{"id": 1, "name": "zebra;cat"}, {"id": 2, "name": "otter"}]
    for some in (boxes, boxes[:1]):
        file.write_text(json.dumps({**document, "categories": names, "annotations": some}))
        with pytest.raises(InputError, match="Expected class names without"):
            load_label_sets(file)


@pytest.mark.parametrize("format", ["coco", "label_studio", "fiftyone", "webdataset"])
def test_predicted_sets_are_written_with_their_scores(format: str, sets: LabeledSets, tmp_path: Path) -> None:
    """The score of a set is that of the class of which the model is least sure; in COCO each class has its own."""
    P = np.where(sets.matrix == 1, 0.9, 0.2)
    P[4] = (0.4, 0.2, 0.8)
    made = MultiLabelPredictions(sets.items.ids, NAMES, P, (P > 0.5).astype(np.int8))
    place = tmp_path / str(PLACES[format])
    for i, name in enumerate(sets.items.ids if format in ("coco", "label_studio") else ()):
        (tmp_path / name).write_bytes(sets.items.read(i))
    convert_labels(sets.items, format, place, predictions=made)
    if format == "label_studio":  # where predictions are no labels
        tasks = json.loads(place.read_text())
        assert tasks[4]["predictions"][0]["score"] == pytest.approx(0.6)
        assert tasks[7]["predictions"][0]["result"][0]["value"]["choices"] == list(NAMES)
        return
    if format == "coco":  # likewise
        written = json.loads(place.read_text())["annotations"]
        found = {(entry["image_id"] - 1, entry["category_id"] - 1): entry["score"] for entry in written}
        assert found == {(i, k): P[i, k] for i, k in np.argwhere(made.answers == 1).tolist()}
        assert (load_label_sets(place).matrix == UNKNOWN).all()
        return
    found = load_label_sets(place)
    if format == "fiftyone":  # likewise
        assert (found.matrix == UNKNOWN).all()
        return
    shown = {sets.items.read(i): row for i, row in enumerate(made.answers.tolist())}
    assert {found.items.read(i): row for i, row in enumerate(found.matrix.tolist())} == shown


def test_an_image_without_annotation_is_unlabeled_unless_all_categories_are_named_as_absent(
    sets: LabeledSets, tmp_path: Path
) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(sets.items.read(i))
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    document = {
        "images": [images[0], {**images[1], "neg_category_ids": [1]}, {**images[2], "neg_category_ids": [2, 1]}],
        "categories": [{"id": 1, "name": "otter"}, {"id": 2, "name": "zebra"}],
        "annotations": [{"id": k, "image_id": 0, "category_id": k} for k in (1, 2)],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert load_label_sets(tmp_path / "a.json").matrix.tolist() == [[1, 1], [UNKNOWN, UNKNOWN], [0, 0]]


def test_a_row_of_zeros_shows_no_class_only_where_others_show_several(sets: LabeledSets, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(sets.items.read(i))
    table = tmp_path / "_classes.csv"
    table.write_text("filename,otter,zebra\n0.png,1,1\n1.png,0,0\n2.png,,\n")
    assert load_label_sets(tmp_path).matrix.tolist() == [[1, 1], [0, 0], [UNKNOWN, UNKNOWN]]
    table.write_text("filename,otter,zebra\n0.png,1,0\n1.png,0,0\n2.png,,\n")
    assert load_items(tmp_path).labels.tolist() == [0, -1, -1]


def table_of_columns(folder: Path, last: str = "1") -> Path:
    """A table of 18 images with a column per class; the last cell of the last column is ``last``."""
    rows = [f"{i}.png,{i % 2},{int(i % 3 == 0)},{last if i == 17 else int(i % 4 == 0)}" for i in range(18)]
    for i in range(18):
        (folder / f"{i}.png").write_bytes(as_bytes(picture(i), "PNG"))
    (folder / "table.csv").write_text("\n".join(["path,one,two,zero", *rows]))
    return folder / "table.csv"


def test_a_column_per_class_is_written_and_named_where_one_class_is_expected(tmp_path: Path) -> None:
    path = table_of_columns(tmp_path)
    sets = load_label_sets(path)
    assert not sets.items.notes
    assert convert_labels(path, "coco", tmp_path / "out.json")
    back = load_label_sets(tmp_path / "out.json")
    assert (back.class_names, back.matrix.tolist()) == (("one", "two", "zero"), sets.matrix.tolist())
    assert any("'one', 'two', 'zero' hold 1 and 0, a column per class" in note for note in load_items(path).notes)
    assert not load_items(path, labels=-1).notes
    with pytest.raises(InputError, match=r"got 0; the columns 'one', .*--multi-label"):
        read_items(path, None, False)


@pytest.mark.parametrize("last", ["x", "2", "yes", "tRue"])
def test_a_mistyped_cell_of_a_class_is_named(last: str, tmp_path: Path) -> None:
    path = table_of_columns(tmp_path, last)
    with pytest.raises(InputError, match=rf"in the column 'zero', .* got '{last}' for '17.png'"):
        load_label_sets(path)
    assert load_label_sets(path, classes=["one", "two"]).class_names == ("one", "two")


def test_columns_that_hold_something_else_are_noted(tmp_path: Path) -> None:
    path = table_of_columns(tmp_path)
    path.write_text("".join(f"{row},{i or 'width'}\n" for i, row in enumerate(path.read_text().split("\n"))))
    sets = load_label_sets(path)
    assert sets.class_names == ("one", "two", "zero")
    assert sets.items.notes == ("not read as classes: 'width'; a column of a class holds 1, 0, -1 or nothing",)


def test_cells_of_sets_are_sets_and_minus_one_beside_them_is_no_label() -> None:
    pandas = pytest.importorskip("pandas")
    images = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(4)]
    for kind in (list, tuple, set, frozenset, np.array):
        cells = [kind(["a", "-1"]), kind(["b"]), -1, kind([])]
        sets = load_label_sets(pandas.DataFrame({"image": images, "label": cells}))
        assert sets.class_names == ("-1", "a", "b")
        assert sets.matrix.tolist() == [[1, 1, 0], [0, 0, 1], [UNKNOWN] * 3, [0, 0, 0]]
