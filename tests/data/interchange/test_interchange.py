"""What is written for another program is read again as it was, and what is malformed is refused in one sentence."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from checkpoints import as_bytes, picture

from modalign import Features, InputError, Items, load_items
from modalign.core.features import UNLABELED
from modalign.data.interchange.feature_arrays import read_feature_arrays, write_feature_arrays
from modalign.data.interchange.labeled_rows import file_names, rows_of
from modalign.data.interchange.writing_labels import convert_labels
from modalign.model.predictions import Predictions

NEEDS = {"pandas": "pandas", "polars": "polars", "datasets": "datasets", "parquet": "pyarrow"}
NAMES, PARTS = ("otter", "sea lion", "zebra ü"), ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 photos in folders of parts and classes; one without a class."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(20):
        place = root / ("train", "val", "test")[i % 3] / NAMES[i % 4 - 1 if i % 4 else 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:02}.{'jpg' if i % 2 else 'png'}").write_bytes(as_bytes(picture(i), "JPEG" if i % 2 else "PNG"))
    return root


@pytest.fixture(scope="module")
def items(folder: Path) -> Items:
    found = load_items(folder)
    assert found.class_names == NAMES
    assert len(found) == 20
    return found


def content(items: Items) -> list[tuple[bytes, str | None, str]]:
    """Bytes, class and part of the images, in an order that does not depend on names."""
    labels = [None if k == UNLABELED else items.class_names[k] for k in items.labels.tolist()]
    return sorted((items.read(i), labels[i], items.parts[i]) for i in range(len(items)))


@pytest.mark.parametrize(
    ("format", "out"),
    [
        ("parquet", "a.parquet"),
        ("webdataset", "a.tar"),
        ("fiftyone", "folder"),
        ("yolo", "folder"),
        ("imagefolder", "folder"),
        ("roboflow", "folder"),
        ("pandas", None),
        ("polars", None),
        ("datasets", None),
        ("coco", "beside"),
        ("label_studio", "beside"),
    ],
)
def test_twenty_images_make_the_round_trip(
    format: str, out: str | None, items: Items, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip(
        {"pandas": "pandas", "polars": "polars", "datasets": "datasets", "parquet": "pyarrow"}.get(format, "numpy")
    )
    place = None if out is None else folder / f"{format}.json" if out == "beside" else tmp_path / out
    try:
        written = convert_labels(items, format, place)
        again = load_items(written)
        assert again.class_names == NAMES
        expected, found = content(items), content(again)
        if format == "fiftyone":  # which has no parts
            expected = [(*row[:2], "") for row in expected]
        assert found == expected
        assert again.quarantined == ()
    finally:
        if out == "beside" and place is not None:
            place.unlink(missing_ok=True)


def test_ids_are_kept_where_the_format_has_them(items: Items) -> None:
    assert load_items(convert_labels(items, "pandas")).ids == items.ids


def test_a_torchvision_folder_is_read_by_its_samples(folder: Path) -> None:
    root = folder / "train"
    paths = sorted(root.rglob("*.*"))
    classes = sorted({path.parent.name for path in paths})
    made = SimpleNamespace(
        root=str(root), classes=classes, samples=[(str(path), classes.index(path.parent.name)) for path in paths]
    )
    found = load_items(made)
    assert found.class_names == tuple(classes)
    assert [found.class_names[k] for k in found.labels] == [path.parent.name for path in paths]
    assert found.ids[0] == paths[0].relative_to(root).as_posix()


def test_an_image_without_a_class_stays_without(items: Items, tmp_path: Path) -> None:
    labels = items.labels.copy()
    labels[3] = UNLABELED
    partly = Items(items.ids, items.blobs, labels, items.class_names)
    for format, out in (("parquet", "a.parquet"), ("fiftyone", "f"), ("roboflow", "r"), ("webdataset", "a.tar")):
        again = load_items(convert_labels(partly, format, tmp_path / out))
        assert int((again.labels == UNLABELED).sum()) == 1, format
        assert len(again) == 20


@pytest.mark.parametrize(
    ("format", "out", "said"),
    [
        ("fiftyone", "f", ["no parts, so that 'train'"]),
        ("imagefolder", "i", ["1 image of no part", "1 image without a class", "'a/b' as 'a_b'"]),
        ("yolo", "y", ["1 image of no part", "1 image without a class", "'a/b' as 'a_b'"]),
        ("roboflow", "r", ["1 image of no part"]),
        ("coco", "a.json", ["4 of 4 images are not at their names beside"]),
        ("label_studio", "b.json", ["4 of 4 images are not at their names beside"]),
        ("parquet", "a.parquet", []),
        ("webdataset", "a.tar", []),
    ],
)
def test_what_a_format_does_not_hold_is_said(
    format: str, out: str, said: list[str], items: Items, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    parts, labels = np.array(["train", "", "train", "train"]), np.array([0, 1, UNLABELED, 1])
    some = replace(items.select(range(4)), labels=labels, class_names=("a/b", "c"), parts=parts)
    convert_labels(some, format, tmp_path / out)
    found = [str(warning.message) for warning in recwarn]
    assert len(found) == len(said)
    assert all(text in note for text, note in zip(said, found, strict=True))


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_where_nothing_is_lost(items: Items, folder: Path, tmp_path: Path) -> None:
    for format, out in (("parquet", "a.parquet"), ("yolo", "y"), ("roboflow", "r")):
        convert_labels(items, format, tmp_path / out)
    document = convert_labels(items, "coco", folder / "labels.json")
    document.unlink()


def test_predictions_are_written_with_their_scores(items: Items, tmp_path: Path) -> None:
    probabilities = np.full((20, 3), 0.2)
    probabilities[np.arange(20), np.arange(20) % 3] = 0.6
    rejected = np.arange(20) == 0
    made = Predictions(items.ids, NAMES, probabilities, rejected=rejected)
    coco = json.loads(convert_labels(items, "coco", tmp_path / "a.json", predictions=made).read_text())
    assert [c["name"] for c in coco["categories"]] == [*NAMES, "none of these"]
    assert coco["annotations"][1] == {"id": 2, "image_id": 2, "category_id": 2, "score": 0.6}
    for name in items.ids:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(items.read(items.ids.index(name)))
    again = load_items(tmp_path / "a.json")
    assert (again.labels == UNLABELED).all()  # predictions are no labels
    assert "20 annotations with a score are predictions and not read as labels" in again.notes
    tasks = json.loads(convert_labels(items, "label_studio", tmp_path / "b.json", predictions=made).read_text())
    assert tasks[2]["predictions"][0]["score"] == 0.6
    assert "annotations" not in tasks[2]
    told = json.loads((convert_labels(items, "fiftyone", tmp_path / "f", predictions=made) / "labels.json").read_text())
    assert next(iter(told["labels"].values()))["confidence"] == 0.6
    again = load_items(tmp_path / "f")
    assert (again.labels == UNLABELED).all()
    assert "20 labels with a confidence are predictions and not read as labels" in again.notes
    with pytest.raises(InputError, match="predictions of these images"):
        convert_labels(items.select([0]), "coco", tmp_path / "c.json", predictions=made)


def test_file_names_never_meet(items: Items) -> None:
    rows = rows_of(Items(("a/b.png", "a_b.png", "A_B.png", "c"), items.blobs[:4]))
    assert file_names(rows) == ["a_b.png", "a_b-2.png", "A_B-3.png", file_names(rows[3:])[0]]


@pytest.mark.parametrize("layout", ["arrays", "clip-retrieval"])
def test_vectors_make_the_round_trip(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow" if layout == "clip-retrieval" else "numpy")
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = Features(
        vectors, ids=tuple(f"{i}.jpg" for i in range(20)), labels=np.arange(20) % 4 - 1, class_names=NAMES[::-1]
    )
    again = read_feature_arrays(write_feature_arrays(features, tmp_path / "f", layout=layout))
    assert np.allclose(again.vectors, vectors, atol=1e-6)
    assert (again.ids, again.class_names) == (features.ids, features.class_names)
    assert np.array_equal(again.labels, features.labels)
    with pytest.raises(InputError, match="new or empty folder"):
        write_feature_arrays(features, tmp_path / "f", layout=layout)


def test_arrays_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features(np.eye(3, dtype=np.float32), labels=np.arange(3), class_names=NAMES[:3])
    save = np.save
    monkeypatch.setattr(np, "save", lambda path, array: save(path, array) if path.name == "features.npy" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_feature_arrays(features, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_the_parts_of_clip_retrieval_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    vectors = np.eye(12, dtype=np.float16)
    (tmp_path / "img_emb").mkdir()
    (tmp_path / "metadata").mkdir()
    for number, rows in ((0, slice(0, 4)), (2, slice(4, 8)), (10, slice(8, 12))):
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", vectors[rows])
        frame = pandas.DataFrame({"image_path": [f"{i}.jpg" for i in range(12)[rows]]})
        frame.to_parquet(tmp_path / "metadata" / f"metadata_{number}.parquet")
    found = read_feature_arrays(tmp_path)
    assert np.array_equal(found.vectors.argmax(axis=1), np.arange(12))
    assert found.ids[4] == "4.jpg"


def _json(content: Any) -> Callable[[Path], Any]:
    def make(folder: Path) -> Path:
        (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return folder / "a.json"

    return make


def _folder(**files: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> Path:
        (folder / "data").mkdir()
        for name, text in files.items():
            (
                folder / {"labels": "labels.json", "classes": "_classes.csv", "coco": "_annotations.coco.json"}[name]
            ).write_text(text)
        return folder

    return make


def _frame(columns: dict[str, list[Any]]) -> Callable[[Path], Any]:
    return lambda folder: pytest.importorskip("pandas").DataFrame(columns)


def _parquet(folder: Path) -> Path:
    pytest.importorskip("pyarrow")
    (folder / "a.parquet").write_bytes(b"PAR1 no table PAR1")
    return folder / "a.parquet"


def _archive(files: dict[str, bytes] | None) -> Callable[[Path], Any]:
    def make(folder: Path) -> Path:
        path = folder / "a.tar"
        if files is None:
            path.write_bytes(b"x" * 1000)
            return path
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
        return path

    return make


def _boxes(folder: Path) -> Path:
    """An export of YOLO for detection."""
    for name in ("images/0.png", "labels/0.txt"):
        (folder / "train" / name).parent.mkdir(parents=True)
        (folder / "train" / name).write_bytes(b"0 0.5 0.5 1 1")
    return folder


def _saved_dataset(folder: Path) -> Path:
    pytest.importorskip("datasets")
    for name in ("dataset_info.json", "state.json"):
        (folder / name).write_text("{}")
    return folder


def _image_folder(sample: tuple[Any, ...]) -> Any:
    return SimpleNamespace(root="", classes=["a"], samples=[sample])


def _choose(*names: str) -> dict[str, Any]:
    return {"result": [{"value": {"choices": list(names)}}]}


TWO = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_json("{"), "a.json"),
        (_json({"a": 1}), "got other JSON"),
        (_json({**TWO, "annotations": [{"image_id": 1, "category_id": 3}]}), "known category"),
        (_json({"images": [{"id": 1}], "annotations": [], "categories": []}), "images with a file_name"),
        (_json({**TWO, "annotations": []}), "none of them is there"),
        (_json({**TWO, "images": None, "annotations": []}), "a list of objects as images"),
        (_json({**TWO, "categories": 3, "annotations": []}), "a list of objects as categories"),
        (_json({**TWO, "annotations": None}), "a list of objects as annotations"),
        (_json({**TWO, "annotations": [{"image_id": [1], "category_id": 1}]}), "known category"),
        (_json({**TWO, "categories": TWO["categories"][:1] * 2, "annotations": []}), "every id once in categories"),
        (_json({**TWO, "images": TWO["images"] * 2, "annotations": []}), "every id once in images"),
        (_json({**TWO, "images": [{"file_name": "a.png"}], "annotations": []}), "images with an id"),
        (_json({**TWO, "images": [{**TWO["images"][0], "split": 5}], "annotations": []}), "split of an image as text"),
        (_json([{"data": {"image": "a.png"}, "annotations": [{"result": 5}]}]), "a list of results"),
        (
            _json([{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"choices": [" "]}}]}]}]),
            "a class",
        ),
        (_json([{"data": {}}]), "tasks with an image"),
        (
            _json([{"data": {"image": "a.png"}, "annotations": [_choose("a"), _choose("a", "b")]}]),
            "annotators who agree on task",
        ),
        (_json([{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"choices": "a"}}]}]}]), "choices"),
        (_folder(labels="[]"), "a mapping of labels"),
        (_folder(labels='{"classes": [1], "labels": {}}'), "a list of class names"),
        (_folder(classes="name,a\nx.png,1\n"), "the columns filename"),
        (_folder(classes="filename,a,b\nx.png,1\n"), "3 columns in line 2"),
        (_folder(classes="filename,a,b\nx.png,1,2\n"), "0 and 1 in line 2"),
        (_folder(coco="[]"), "the keys images, annotations and categories"),
        (_frame({"photo": ["a"]}), "a column named image"),
        (_frame({"path": ["a.png"]}), "none of them is there"),
        (_frame({"image": [b"x"], "label": [[["a"]]]}), "the name or the number of a class"),
        (_frame({"image": [b"x"], "label": [{"a": 1}]}), "the name or the number of a class"),
        (_folder(labels="{"), "labels.json' is not valid JSON.*write it again"),
        (_parquet, "a.parquet' cannot be read as one.*write it again"),
        (_archive(None), "a.tar' cannot be read as one.*pack it again"),
        (_archive({"a.png": b"x", "a.json": b"{"}), "Expected JSON in '.*a.tar: a.json'.*leave it out"),
        (_archive({"a.png": b"x", "a.cls": b"\xff"}), "Expected text in '.*a.tar: a.cls'.*leave it out"),
        (
            _archive({"a.png": b"x", "a.json": b'{"label": {"a": 1}}'}),
            "of these, in '.*a.json'.*export it again",
        ),
        (_boxes, "'.*' has boxes in '.*labels'; export it for classification"),
        (_saved_dataset, "save_to_disk wrote, '.*' cannot be read as one.*save it again"),
        (lambda _: _image_folder(("a.png", 1)), "class number below 1.*torchvision.datasets.ImageFolder"),
        (lambda _: _image_folder(("a.png",)), "class number below 1.*torchvision.datasets.ImageFolder"),
    ],
)
def test_what_is_malformed_is_refused_in_one_sentence(
    make: Callable[[Path], Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load_items(make(tmp_path))
    assert "\n" not in str(caught.value)


def _coco_of(name: str) -> object:
    return {**TWO, "images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "category_id": 1}]}


def _task_of(name: str) -> object:
    return [{"data": {"image": name}, "annotations": [{"result": [{"value": {"choices": ["a"]}}]}]}]


@pytest.mark.parametrize("document", [_coco_of, _task_of, lambda name: _task_of(f"/data/local-files/?d={quote(name)}")])
@pytest.mark.parametrize("name", ["../secret.png", "{}/secret.png", "a/../../secret.png", "{}/labels-2/secret.png"])
def test_a_document_reaches_no_image_outside_of_its_folder(
    document: Callable[[str], object], name: str, items: Items, tmp_path: Path
) -> None:
    """The image exists, so that only the rule can refuse it; inside the folder every spelling is accepted."""
    folder = tmp_path / "labels"
    for place in (tmp_path, folder, tmp_path / "labels-2"):
        place.mkdir(exist_ok=True)
        (place / "secret.png").write_bytes(items.read(0))
    file = folder / "a.json"
    file.write_text(json.dumps(document(name.format(tmp_path))))
    with pytest.raises(InputError, match=r"Expected images in the folder of .*elsewhere; put the file"):
        load_items(file)
    for inside in ("secret.png", "./a/../secret.png", f"{folder}/secret.png"):
        file.write_text(json.dumps(document(inside)))
        assert load_items(file).open(0).size == items.open(0).size


def test_a_number_of_fiftyone_outside_the_classes_is_refused(items: Items, tmp_path: Path) -> None:
    folder = convert_labels(items, "fiftyone", tmp_path / "f")
    told = json.loads((folder / "labels.json").read_text())
    told["labels"] = dict.fromkeys(told["labels"], 9)
    (folder / "labels.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="labels below 3"):
        load_items(folder)


def test_no_place_or_the_wrong_one_is_refused(items: Items, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected the format .*coco, .* got 'cocoo'"):
        convert_labels(items, "cocoo", tmp_path / "a")
    with pytest.raises(InputError, match=r"ends in \.tar for webdataset"):
        convert_labels(items, "webdataset", tmp_path / "a")
    with pytest.raises(InputError, match=r"Expected images with labels for yolo.* give predictions=…"):
        convert_labels(replace(items, labels=np.full(len(items), UNLABELED)), "yolo", tmp_path / "a")
    with pytest.raises(InputError, match="a place to write to"):
        convert_labels(items, "coco")
    with pytest.raises(InputError, match="an object is returned"):
        convert_labels(items, "pandas", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        convert_labels(items, "yolo", tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        read_feature_arrays(tmp_path)
    np.save(tmp_path / "features.npy", np.eye(3))
    np.save(tmp_path / "labels.npy", np.arange(2))
    with pytest.raises(InputError, match="3 labels, one per vector"):
        read_feature_arrays(tmp_path)
    np.save(tmp_path / "features.npy", np.zeros(3))
    with pytest.raises(InputError, match="numbers of 2 dimensions"):
        read_feature_arrays(tmp_path)


def test_heic_is_decoded_with_its_extra() -> None:
    pytest.importorskip("pillow_heif", reason="HEIC is decoded by pillow-heif").register_heif_opener()
    photo = picture(0, 64, 48)
    found = load_items([as_bytes(photo, "HEIF")]).open(0)
    assert found.size == (64, 48)
    assert np.abs(np.asarray(found, dtype=int) - np.asarray(photo, dtype=int)).mean() < 12
