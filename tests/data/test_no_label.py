"""A label that means "none" is no class, and what may be meant as classes or parts is noted."""

from __future__ import annotations

import json
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import encoded, picture

import modalign as ma
from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.data.label_sets import load_label_sets
from modalign.model.adaptation.images import read_items

JPEG = encoded(picture(), "JPEG")


def table(folder: Path, labels: list[str], header: str = "path,label") -> Path:
    for i in range(len(labels)):
        (folder / f"{i}.jpg").write_bytes(JPEG + bytes([i]))
    path = folder / "list.csv"
    path.write_text(header + "\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels)))
    return path


def test_minus_one_among_other_labels_is_no_class(tmp_path: Path) -> None:
    items = load_items(table(tmp_path, ["cat", "-1", "dog", "-1"]))
    assert items.class_names == ("cat", "dog")
    assert items.labels.tolist() == [0, -1, 1, -1]
    assert any("'-1' means no label: 2 images" in note for note in items.notes)
    files = [tmp_path / f"{i}.jpg" for i in range(4)]
    assert load_items(files, labels=["cat", "-1", "dog", " "]).labels.tolist() == [0, -1, 1, -1]


def test_minus_one_against_one_is_a_class(tmp_path: Path) -> None:
    assert load_items(table(tmp_path, ["1", "-1", "1"])).class_names == ("1", "-1")


def test_minus_one_is_the_class_that_given_names_say(tmp_path: Path) -> None:
    path = table(tmp_path, ["1", "-1", "0", "-1"])
    names = tmp_path / "names.txt"
    names.write_text("-1\n0\n1\n")
    for classes in (["-1", "0", "1"], names):
        items = load_items(path, classes=classes)
        assert items.class_names == ("-1", "0", "1")
        assert items.labels.tolist() == [2, 0, 1, 0]
        assert not items.notes


def test_no_row_gets_another_label_by_the_order_of_a_split_file_or_where_labels_are_ignored(tmp_path: Path) -> None:
    path, names = table(tmp_path, ["1", "-1", "0", "-1"]), ["-1", "0", "1"]
    split = tmp_path / "split.json"
    lists = {
        "train": [["3.jpg", 0, "-1"], ["0.jpg", 2, "1"]],
        "val": [],
        "test": [["2.jpg", 1, "0"], ["1.jpg", 0, "-1"]],
    }
    split.write_text(json.dumps(lists))
    items = load_items(path, classes=names, split=split)
    found = {name: items.class_names[label] for name, label in zip(items.ids, items.labels, strict=True)}
    assert found == {"0.jpg": "1", "1.jpg": "-1", "2.jpg": "0", "3.jpg": "-1"}
    assert (load_items(path, classes=names, labels=-1).labels == -1).all()


def test_minus_one_beside_other_negative_labels_is_a_class(tmp_path: Path) -> None:
    assert load_items(table(tmp_path, ["-1", "-2", "-3", "-1"])).class_names == ("-1", "-2", "-3")


def test_words_for_a_missing_label_are_noted(tmp_path: Path) -> None:
    items = load_items(table(tmp_path, ["cat", "nan", "NULL", "dog"]))
    assert any("'NULL', 'nan' are classes" in note for note in items.notes)


@pytest.mark.parametrize("header", ["path,Class Name", "File Name,category"])
def test_headers_may_have_blanks(tmp_path: Path, header: str) -> None:
    assert load_items(table(tmp_path, ["cat", "dog"], header)).class_names == ("cat", "dog")


def test_columns_that_are_not_read_as_labels_are_named(tmp_path: Path) -> None:
    notes = load_items(table(tmp_path, ["cat", "dog"], "path,species")).notes
    assert any("'species'" in note and "unlabeled" in note for note in notes)
    two = load_items(table(tmp_path, ["cat,x", "cat,y", "dog,x"], "path,class,label"))
    assert any("column 'class'; 'label' holds others" in note for note in two.notes)
    same = load_items(table(tmp_path, ["0,cat", "1,dog", "0,cat"], "path,label,class_name"))
    assert same.class_names == ("cat", "dog")
    assert not same.notes


@pytest.mark.parametrize(
    ("columns", "rows", "noted"),
    [
        ("path,cat,dog", ["1.0,0.0", "0.0,", ",1.0"], False),  # as a column with gaps is written
        ("path,cat,is_train", ["1,1", "0,0", "1,1"], True),  # one column of a class is none
        ("path,species,", ["a,", "b,", "a,"], True),
        ("path,split", ["train", "test", "train"], False),
    ],
)
def test_columns_of_classes_are_not_noted(tmp_path: Path, columns: str, rows: list[str], noted: bool) -> None:
    source = table(tmp_path, rows, columns)
    assert any("unlabeled" in note for note in load_items(source).notes) == noted
    assert bool(load_label_sets(source).class_names) == ("dog" in columns)


def test_a_path_out_of_an_archive_makes_no_class(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("../../evil/1.jpg", "/etc/2.jpg", "cat/3.jpg", "dog/4.jpg"):
            archive.writestr(name, JPEG)
    items = load_items(tmp_path / "a.zip")
    assert items.class_names == ("cat", "dog")
    assert len(items.quarantined) == 2


def nested(folder: Path, outer: tuple[str, ...], inner: tuple[str, ...]) -> Path:
    for i, name in enumerate(outer):
        for below in inner:
            (folder / name / below).mkdir(parents=True)
            (folder / name / below / "1.jpg").write_bytes(JPEG + bytes([i]))
    return folder


def test_folders_that_hold_the_same_folders_may_be_meant_otherwise(tmp_path: Path) -> None:
    folds = load_items(nested(tmp_path / "a", ("fold1", "fold2"), ("cat", "dog")))
    assert any("'cat', 'dog', which may be meant instead" in note for note in folds.notes)
    other = load_items(nested(tmp_path / "b", ("cat", "dog"), ("images",)))
    assert not other.notes


def test_a_folder_called_test_beside_folders_with_the_same_classes_is_not_learned_from(tmp_path: Path) -> None:
    source = nested(tmp_path, ("labeled", "unlabeled", "test"), ("cat", "dog"))
    with pytest.raises(InputError, match="rename the parts"):
        read_items(source, None, unlabeled=False)
    assert np.unique(load_items(source).labels).tolist() == [0, 1, 2]  # to predict, all are images


def in_every_form(folder: Path, columns: dict[str, list[object]]) -> dict[str, object]:
    """The same rows as a CSV file, as data frames and as a Parquet file; paths are those of ``table``."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    table(folder, ["x"] * 4)
    absolute = {"path": [str(folder / f"{i}.jpg") for i in range(4)]} | columns
    pandas.DataFrame(absolute).to_csv(folder / "rows.csv", index=False)
    pandas.DataFrame(absolute).to_parquet(folder / "rows.parquet")
    frames = {"pandas": pandas.DataFrame(absolute), "polars": polars.DataFrame(absolute)}
    return {"csv": folder / "rows.csv", "parquet": folder / "rows.parquet"} | frames


@pytest.mark.parametrize(
    ("columns", "names", "labels", "parts"),
    [
        ({"label": ["cat", "-1", "dog", " "]}, ("cat", "dog"), [0, -1, 1, -1], ""),
        ({"label": ["cat ", " cat", "dog", None]}, ("cat", "dog"), [0, 0, 1, -1], ""),
        ({"label": [0, -1, 2, 0]}, ("0", "2"), [0, -1, 1, 0], ""),
        ({"label": [1, -1, 1, -1]}, ("1", "-1"), [0, 1, 0, 1], ""),
        ({"label": [0.0, -1.0, 2.0, None]}, ("0", "2"), [0, -1, 1, -1], ""),
        ({"label": [0.5, 1.0, 2.0, None]}, ("0.5", "1.0", "2.0"), [0, 1, 2, -1], ""),
        ({"Class Name": ["b", "a", "b", "a"]}, ("a", "b"), [1, 0, 1, 0], ""),
        ({"tags": ["b", "a", "b", "a"]}, ("a", "b"), [1, 0, 1, 0], ""),
        ({"label": ["b", "a", "b", "a"], "is_test": [True, False, False, True]}, ("a", "b"), [1, 0, 1, 0], "TttT"),
        ({"label": ["b", "a", "b", "a"], "is_test": [1, 0, 0, 1]}, ("a", "b"), [1, 0, 1, 0], "TttT"),
    ],
)
def test_a_column_means_the_same_in_a_table_and_in_a_frame(tmp_path: Path, columns, names, labels, parts) -> None:
    notes = []
    for form, source in in_every_form(tmp_path, columns).items():
        items = load_items(source)
        assert items.class_names == names, form
        assert items.labels.tolist() == labels, form
        assert items.parts.tolist() == [{"T": "test", "t": "train"}[c] for c in parts] or not parts, form
        notes.append([note for note in items.notes if not note.startswith("divided by")])
    assert notes == notes[:1] * 4


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["1", "2", "2", "1"], ["1", "2", "3"], [0, 1, 1, 0]),  # text is the name of a class
        ([1, 2, 2, 1], ["a", "b", "c"], [1, 2, 2, 1]),  # numbers count
    ],
)
def test_numbers_as_text_are_names_where_the_classes_have_such(tmp_path: Path, labels, classes, expected) -> None:
    for form, source in in_every_form(tmp_path, {"label": labels}).items():
        assert load_items(source, classes=classes).labels.tolist() == expected, form


def test_a_frame_without_labels_says_which_columns_are_not_read(tmp_path: Path) -> None:
    for form, source in in_every_form(tmp_path, {"species": ["a", "b", "a", "b"]}).items():
        assert any("'species'" in note and "unlabeled" in note for note in load_items(source).notes), form


@pytest.mark.parametrize("empty", [0, None])
@pytest.mark.parametrize(("yes", "no"), [(1, 0), (True, False)])
def test_columns_of_classes_mean_the_same_in_every_form(tmp_path: Path, empty: int | None, yes: Any, no: Any) -> None:
    empty = None if empty is None else no
    columns = {"cat": [yes, no, empty, yes], "split": ["train", "train", "test", "train"], "dog": [no, yes, yes, yes]}
    for form, source in in_every_form(tmp_path, columns).items():
        found = load_label_sets(source)
        assert found.class_names == ("cat", "dog"), form
        assert found.matrix.tolist() == [[1, 0], [0, 1], [-1 if empty is None else 0, 1], [1, 1]], form
        assert len(found.part("test")) == 1
        assert not any("unlabeled" in note for note in found.items.notes), form
    assert load_label_sets((tmp_path / "rows.csv").as_uri()).class_names == ("cat", "dog")


def test_columns_of_classes_belong_to_the_rows_of_a_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table(tmp_path, ["x"] * 2)
    files = [str(tmp_path / name) for name in ("none.jpg", "1.jpg", "0.jpg", "1.jpg")]
    frame = pandas.DataFrame({"path": files, "cat": [0, 1, 1, 0], "dog": [0, 0, 1, 1]})
    assert load_label_sets(frame).matrix.tolist() == [[1, 0], [1, 1], [0, 1]]
    frame["id"] = ["a", "a", "b", "c"]
    found = load_label_sets(frame)
    assert dict(zip(found.items.ids, found.matrix.tolist(), strict=True)) == {"a#2": [1, 0], "b": [1, 1], "c": [0, 1]}


def test_missing_values_and_arrays_in_frames(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table(tmp_path, ["x"] * 4)
    files = [str(tmp_path / f"{i}.jpg") for i in range(4)]
    known = pandas.DataFrame({"path": files, "label": pandas.array([0, None, 2, 0], dtype="Int64")})
    assert load_items(known).labels.tolist() == [0, -1, 1, 0]
    arrays = pandas.DataFrame({"image": [np.full((8, 8, 3), i, np.uint8) for i in range(3)], "label": ["a", None, "b"]})
    assert load_items(arrays).labels.tolist() == [0, -1, 1]
    sets = load_label_sets(pandas.DataFrame({"path": files, "labels": [["a", "b"], [], [None], [-1]]}))
    assert sets.matrix.tolist() == [[1, 1], [0, 0], [-1, -1], [-1, -1]]
    twice = pandas.DataFrame([[files[0], "a", "b"]], columns=["path", "label", "label"])
    with pytest.raises(InputError, match="'label' twice"):
        load_items(twice)


@pytest.mark.parametrize(
    ("told", "names", "labels"),
    [
        ([{"label": 0}, {"label": -1}, {"label": 2}], ("0", "2"), [0, -1, 1]),
        ([{"label": "cat"}, {"label": " "}, {"label": "dog"}], ("cat", "dog"), [0, -1, 1]),
        ([{"label": "cat"}, {"label": " cat "}, {"label": ["dog "]}], ("cat", "dog"), [0, 0, 1]),
        ([{"label": 0.0}, {"label": None}, {"label": 2.0}], ("0", "2"), [0, -1, 1]),
        ([{"label": True}, {"label": False}], ("False", "True"), [1, 0]),
    ],
)
def test_minus_one_and_blanks_are_no_class_in_samples_of_an_archive(tmp_path: Path, told, names, labels) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i, fields in enumerate(told):
            for name, data in ((f"{i}.jpg", JPEG + bytes([i])), (f"{i}.json", json.dumps(fields).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
    items = load_items(tmp_path / "a.tar")
    assert items.class_names == names
    assert items.labels.tolist() == labels


@pytest.mark.parametrize(
    ("argument", "value"), [("split", {"train": [0]}), ("mirror", "yes"), ("descriptions", {"cat": ["a cat"]})]
)
def test_an_argument_of_a_wrong_kind_is_not_ignored(tmp_path: Path, argument: str, value: object) -> None:
    source = table(tmp_path, ["cat", "dog", "cat", "dog"])
    with pytest.raises(InputError, match=argument):
        ma.adapt(source, method="zero_shot", **{argument: value})


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    model = ma.adapt(table(tmp_path, ["cat", "dog", "cat", "dog"]), method="zero_shot", validation="none")
    model.class_names = ("cat", "cat")
    with pytest.raises(InputError, match=r"^Expected a model that can be loaded again, but it has a class name twice"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_minus_one_in_a_set_is_a_class_of_a_table(tmp_path: Path) -> None:
    found = load_label_sets(table(tmp_path, ["cat", "-1;dog", "-1", ";"]))
    matrix = found.for_classes(("-1", "cat", "dog")).matrix
    assert matrix.tolist() == [[0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]]
