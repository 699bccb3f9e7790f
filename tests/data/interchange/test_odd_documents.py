"""What a document of another program leaves open never gives an image the label or the place of another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalign import InputError, Items, load_items
from modalign.core.features import UNLABELED
from modalign.data.digits import load_digits
from modalign.data.interchange.feature_arrays import read_feature_arrays
from modalign.data.interchange.writing_labels import convert_labels
from modalign.data.label_sets import load_label_sets

CLASSES = {"categories": [{"id": 1, "name": "a"}]}


@pytest.fixture(scope="module")
def items() -> Items:
    return load_digits().select(range(4))


def json_file(content: Any, folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def test_a_skipped_task_has_no_label_and_a_label_without_its_image_is_noted(items: Items, tmp_path: Path) -> None:
    photo = str(tmp_path / "photo.png")
    Path(photo).write_bytes(items.read(0))
    chosen = {"result": [{"value": {"choices": ["a"]}}]}
    tasks = [{"data": {"image": photo, "split": None}, "annotations": [{"was_cancelled": True} | chosen]}]
    assert load_items(json_file(tasks, tmp_path)).labels.tolist() == [UNLABELED]
    images = [{"id": "1", "file_name": photo}]
    found = load_items(
        json_file({**CLASSES, "images": images, "annotations": [{"image_id": 1, "category_id": 1}]}, tmp_path)
    )
    assert found.labels.tolist() == [UNLABELED]
    assert any("1 image ids" in note for note in found.notes)


def test_images_that_differ_in_their_endings_alone_keep_their_own_labels(items: Items, tmp_path: Path) -> None:
    pair = replace(items.select([0, 1]), ids=("a.png", "a.jpg"), class_names=("x", "y"), labels=np.array([0, 1]))
    for format in ("fiftyone", "yolo", "roboflow"):
        found = load_items(convert_labels(pair, format, tmp_path / format))
        assert {found.read(i): found.class_names[k] for i, k in enumerate(found.labels.tolist())} == {
            pair.read(0): "x", pair.read(1): "y",
        }  # fmt: skip
    folder = tmp_path / "fiftyone"
    (folder / "data" / "a.bmp").write_bytes(b"")
    with pytest.raises(InputError, match=r"'a' is the name of 'a.bmp' and of"):
        load_items(folder)
    (folder / "data" / "a.bmp").unlink()
    (folder / "labels.json").write_text(json.dumps({"classes": ["b"], "labels": {"a": "c"}}))
    with pytest.raises(InputError, match="one of the 1 classes"):
        load_items(folder)


def test_names_of_classes_and_images_lead_nowhere_and_stay_apart(items: Items, tmp_path: Path) -> None:
    names, ids = ("..", "a/b", "a_b", "n" * 300), ("", "..", "x\0\n" * 200, "/")
    odd = replace(items.select(range(4)), ids=ids, class_names=names, labels=np.arange(4), parts=np.array([""] * 4))
    convert_labels(odd, "yolo", tmp_path / "y")
    found = load_items(tmp_path / "y")
    assert sorted(path.name for path in (tmp_path / "y").iterdir()) == ["train"]
    assert len(found.class_names) == len(set(found.labels.tolist())) == 4


@pytest.mark.parametrize(
    ("labels", "names", "known"),
    [
        (np.array([0.0, 1.0, np.nan]), ["a", "b"], [0, 1, UNLABELED]),
        (np.array([0.5, 1.0, 0.0]), ["a", "b"], "whole numbers below 2"),
        (np.array([0, 1, 2**40]), None, "whole numbers below 1000000"),
    ],
)
def test_numbers_are_labels_whatever_their_type(labels, names, known, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.eye(3))
    np.save(tmp_path / "labels.npy", labels)
    if names:
        (tmp_path / "classes.json").write_text(json.dumps(names))
    if isinstance(known, str):
        with pytest.raises(InputError, match=known):
            read_feature_arrays(tmp_path)
    else:
        assert read_feature_arrays(tmp_path).labels.tolist() == known


def test_vectors_of_any_length_become_unit_vectors_and_others_are_refused(tmp_path: Path) -> None:
    for scale in (1e200, 1e-200, 1e30, 1e-40):
        np.save(tmp_path / "features.npy", np.eye(3) * scale)
        np.testing.assert_allclose(read_feature_arrays(tmp_path).vectors, np.eye(3), rtol=1e-6)
    for odd in (np.nan, np.inf):
        np.save(tmp_path / "features.npy", np.array([[1.0, 0], [odd, 1]]))
        with pytest.raises(InputError, match=r"finite vectors.*1 that are not"):
            read_feature_arrays(tmp_path)


def test_json_min_is_read_as_its_tasks(items: Items, tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(items.read(i))
    about = {"annotator": 1, "annotation_id": 7, "created_at": "2026", "updated_at": "2026", "lead_time": 1.5}
    one = [{"image": f"{i}.png", "id": i, "choice": "ab"[i % 2], **about} for i in range(4)]
    assert load_items(json_file(one, tmp_path)).labels.tolist() == [0, 1, 0, 1]
    assert load_items(json_file([{**entry, "note": "x"} for entry in one], tmp_path)).class_names == ("a", "b")
    several = [*one[:3], {"image": "3.png", "id": 3, "choice": {"choices": ["a", "b"]}, **about}]
    assert load_label_sets(json_file(several, tmp_path)).matrix.tolist() == [[1, 0], [0, 1], [1, 0], [1, 1]]
    with pytest.raises(InputError, match="annotators who agree on task 1"):
        load_items(json_file([*one, {**one[1], "choice": "a"}], tmp_path))
    with pytest.raises(InputError, match="one kind of choices"):
        load_items(json_file([{**one[0], "label": "b"}], tmp_path))


def test_the_choices_of_json_min_have_one_key_in_all_entries(items: Items, tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(items.read(i))

    def document(first: dict[str, object], second: dict[str, object]) -> Path:
        entries = [{"id": i, "annotation_id": i, "image": f"{i}.png"} | own for i, own in enumerate((first, second))]
        return json_file(entries, tmp_path)

    skipped = load_items(document({"source": "camera"}, {"source": "camera", "choice": "b"}))
    assert (skipped.class_names, skipped.labels.tolist()) == (("b",), [-1, 0])
    assert load_items(document({"choice": ["a"]}, {"choice": "b"})).labels.tolist() == [0, 1]
    for first, second in (({"animal": "cat"}, {"note": "a photo"}), ({"animal": "a", "by": "x"}, {"animal": "b"})):
        with pytest.raises(InputError, match="one kind of choices"):
            load_items(document(first, second))
    with pytest.raises(InputError, match="ids that are numbers or text"):
        load_items(document({"id": [1], "choice": "a"}, {"choice": "b"}))


def test_an_image_of_label_studio_stands_for_one_address(items: Items, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(items.read(0))

    def tasks(*addresses: str) -> Path:
        result = [{"value": {"choices": ["a"]}}]
        return json_file([{"data": {"image": a}, "annotations": [{"result": result}]} for a in addresses], tmp_path)

    with pytest.raises(InputError, match=r"one image for each address; 'x\.png' stands for two"):
        load_items(tasks("/data/upload/1/aaaaaaaa-x.png", "/data/upload/1/bbbbbbbb-x.png"))
    found = load_items(tasks("x.png", "http://host/none.png", "http://["))
    assert [entry.id for entry in found.quarantined] == ["http://host/none.png", "http://["]


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/0123abcd-photo.png",
        "http://localhost:8080/data/upload/3/0123abcd-photo.png",
        "/data/local-files/?d=files/here/photo.png",
        "http://localhost:8080/data/local-files/?d=some%2Fhere%2Fphoto.png",
        "s3://bucket/some/here/photo.png",
        "https://example.org/photo.png",
        "here/photo.png",
    ],
)
def test_addresses_of_a_server_stand_for_files_beside_the_document(address: str, items: Items, tmp_path: Path) -> None:
    place = tmp_path / "here" / "photo.png" if "here" in address else tmp_path / "photo.png"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(items.read(0))
    tasks = [{"data": {"image": address}, "annotations": [{"result": [{"value": {"choices": ["a"]}}]}]}]
    found = load_items(json_file(tasks, tmp_path))
    assert found.ids == (place.relative_to(tmp_path).as_posix(),)
    assert found.read(0) == items.read(0)
