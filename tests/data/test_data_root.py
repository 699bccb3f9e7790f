"""A data root is inspected: what is whole, what is missing and where it comes from, and which counts are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_roots import write_coop_root, write_imagenet_root

from modalign.cli import run
from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.data.splits import data_root
from modalign.data.splits.benchmark_sets import open_dataset
from modalign.data.splits.benchmarks import DATASETS, dataset
from modalign.data.splits.data_root import DataSetFound, inspect_data_root
from modalign.evaluate.benchmark.library_sets import LIBRARY_SETS, LibrarySetSize, library_set_size, open_library_set


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coop_root(write_imagenet_root(tmp_path_factory.mktemp("data")))


def found(root: Path, name: str) -> DataSetFound:
    (entry,) = (entry for entry in inspect_data_root(root) if entry.name == name)
    return entry


def test_every_data_set_is_searched(root: Path) -> None:
    entries = inspect_data_root(root)
    assert [entry.name for entry in entries] == [row.name for row in DATASETS]
    there = {entry.name for entry in entries if entry.state != "missing"}
    assert there == {"eurosat", "dtd", "ucf101", "imagenet", "imagenet_a"}


def test_wrong_counts_are_named(root: Path) -> None:
    entry = found(root, "eurosat")
    assert entry.state == "incomplete"
    assert entry.found.startswith("6 classes, 36 / 18 / 30 images to train, validate and test; ")
    for sentence in (
        "expected 10 classes, not 6", "expected 8,100 test images, not 30", "expected 13,500 training images, not 36",
        "expected 5,400 validation images, not 18",
    ):  # fmt: skip
        assert sentence in entry.found
    assert "expected 7,500 test images, not 8" in found(root, "imagenet_a").found


def test_a_data_set_of_the_published_size_is_ready(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (replace(dataset("eurosat"), n_classes=6, n_test=30, coop=(36, 18)),)
    monkeypatch.setattr(data_root, "DATASETS", rows)
    (entry,) = inspect_data_root(root)
    assert (entry.state, entry.found) == ("ready", "6 classes, 36 / 18 / 30 images to train, validate and test")


def test_missing_files_are_counted(tmp_path: Path) -> None:
    write_coop_root(tmp_path)
    lost = sorted((tmp_path / "dtd/images").iterdir())[:2]
    for file in lost:
        file.unlink()
    (tmp_path / "ucf101/split_zhou_UCF101.json").unlink()
    assert "2 of 56 listed files are missing or empty" in found(tmp_path, "dtd").found
    entry = found(tmp_path, "ucf101")
    assert entry.state == "incomplete"
    assert "split_zhou_UCF101.json" in entry.found
    assert "CoOp's data instructions" in entry.found


def test_a_missing_data_set_has_its_download_address(root: Path) -> None:
    entry = found(root, "caltech101")
    assert entry.state == "missing"
    assert entry.found == (
        "no folder 'caltech-101' with '101_ObjectCategories' and 'split_zhou_Caltech101.json'; get the data set from: "
        "CaltechDATA, Caltech 101"
    )


def test_a_root_has_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected a data root"):
        inspect_data_root(tmp_path / "nowhere")


def test_the_doctor_of_a_data_root(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--data", str(root), "--json"]) == 1
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["dtd"]["state"] == "incomplete"
    assert entries["ade20k"]["state"] == "missing"
    assert run(["doctor", "--data", str(tmp_path)]) == 0  # nothing is there, and nothing is broken
    assert "no folder 'oxford_pets'" in capsys.readouterr().out
    assert run(["doctor", "--data", str(tmp_path / "nowhere")]) == 2


def test_data_sets_are_listed_with_both_test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "datasets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["caltech101"]["test images"], rows["caltech101"]["in VISSL's lists"]) == ("2,465", "6,645")
    assert rows["cifar10"]["classes"] == "10"
    assert rows["ade20k"]["task"] == "segmentation"
    assert {name: rows[name]["test images"] for name in ("digits", "digits_noise")} == {
        "digits": "539", "digits_noise": "266",
    }  # fmt: skip
    assert set(LIBRARY_SETS) <= set(rows)


@pytest.mark.parametrize("name", LIBRARY_SETS)
def test_listed_sizes_of_the_library_are_those_of_its_images(name: str) -> None:
    items, lists, templates = open_library_set(name)
    assert lists is not None
    assert library_set_size(name) == LibrarySetSize(len(items.class_names), len(lists.test), templates)


def test_a_data_set_of_a_root_is_a_source_of_images(root: Path) -> None:
    items = load_items(f"{root}:EuroSAT")
    expected, split = open_dataset("eurosat", root)
    assert items.ids == expected.ids
    assert items.class_names == expected.class_names
    np.testing.assert_array_equal(items.labels, expected.labels)
    np.testing.assert_array_equal(np.flatnonzero(items.parts == "test"), np.sort(split.test))
    unlabeled = load_items(f"{root}:eurosat", labels=-1)
    assert (unlabeled.labels == -1).all()


def test_other_names_with_a_colon_stay_paths(root: Path, tmp_path: Path) -> None:
    (tmp_path / "photos:dtd").mkdir()
    with pytest.raises(InputError, match="found none"):
        load_items(tmp_path / "photos:dtd")
    with pytest.raises(InputError, match="does not exist"):
        load_items(f"{root}:no_such_set")
    with pytest.raises(InputError, match=r"Expected the folder '.*caltech-101' of caltech101"):
        load_items(f"{root}:caltech101")
