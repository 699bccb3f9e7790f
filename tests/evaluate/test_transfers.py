"""Cross-dataset and domain protocols: targets and label spaces, on the digits and on features with real names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_roots import write_imagenet_root

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import Features
from modalign.data.digit_shifts import DIGIT_SHIFTS
from modalign.data.drawn_sets import DRAWN_SETS
from modalign.data.items import load_items
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark import library_sets
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import TaskKey, draw_task
from modalign.evaluate.comparison.compare import compare


@pytest.fixture(autouse=True)
def cache(own_cache: None) -> None:
    """Vectors are computed once for all of these tests."""


def test_each_protocol_has_its_targets_of_the_digits() -> None:
    source = BenchmarkSource("digits", encoder=load_encoder("tiny"))
    assert source.names == ("digits",)
    for protocol, targets in (("domain", DIGIT_SHIFTS), ("cross-dataset", DRAWN_SETS)):
        task = draw_task(TaskKey(protocol, "digits", 1, 1), source)
        assert [part.name for part in task.parts] == ["digits", *targets]
        for part in task.parts[1:]:
            assert set(part.data.labels[part.rows]) == set(part.classes)
            assert len(part.rows) == len(part.data.labels)
        learned = np.concatenate([task.split.train, task.split.validation, task.split.unlabeled])
        assert not set(learned) & set(task.parts[0].rows)
    noise = draw_task(TaskKey("domain", "digits", 1, 1), source).parts[3]
    assert [noise.data.class_names[k] for k in noise.classes] == ["zero", "two", "four", "six", "eight"]


def test_a_protocol_of_one_data_set_makes_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load_shifted_digits", "load_drawn_set"):
        monkeypatch.setattr(library_sets, name, lambda name: pytest.fail(f"{name} was made"))
    result = run_benchmark("digits", protocol=("few-shot", "base-to-new"), methods=["zero_shot"], seeds=1)
    assert {run.dataset for run in result.runs} == {"digits"}


def test_methods_of_both_kinds_are_tested_on_the_targets() -> None:
    quick = {"coop": {"epochs": 1, "augmentation": "center"}}
    result = run_benchmark(
        "digits", protocol=("domain", "cross-dataset"), methods=["gda", "lfa", "coop"], shots=1, seeds=1,
        datasets=["digits", "digits_noise", "textures"], hyperparameters=quick,
    )  # fmt: skip
    tested = {(run.protocol, run.run.method, run.part) for run in result.runs}
    everywhere = {("domain", "digits"), ("domain", "digits_noise"), ("cross-dataset", "digits")}
    assert tested == {(p, m, part) for m in ("gda", "lfa", "coop") for p, part in everywhere} | {
        ("cross-dataset", m, "textures") for m in ("lfa", "coop")
    }
    (reason,) = result.reasons
    assert "fitted on only" in reason
    assert any("not to tiny" in note for note in result.notes)


def test_data_sets_of_the_library_are_known_by_name() -> None:
    with pytest.raises(UnknownNameError, match="digits_blurred"):
        BenchmarkSource("digits", ["digits", "digits_blured"])
    with pytest.raises(InputError, match=r"Expected a train list in data set 'letters', .*first in datasets=…"):
        run_benchmark("digits", methods=["gda"], datasets=["letters"], shots=1, seeds=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features called as the benchmarks: ImageNet, two variants, and EuroSAT, which has other classes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("features")
    text = rng.standard_normal((8, 16)).astype(np.float32)
    names = np.array(list("abcdefgh"))

    def images(classes: list[int], each: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(classes)), each)
        return (text[classes][labels] + 0.4 * rng.standard_normal((len(labels), 16))).astype(np.float32), labels

    def write(name: str, classes: list[int], **lists: int) -> None:
        arrays: dict[str, np.ndarray] = {}
        for part, each in lists.items():
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = images(classes, each)
        np.savez(path / f"{name}.npz", text=text[classes], text_names=names[classes], **arrays)

    write("imagenet", [0, 1, 2, 3, 4], train=6, test=10)
    write("imagenetv2", [0, 1, 2, 3, 4], test=4)
    write("imagenet_a", [3, 1], test=7)  # in another order
    write("eurosat", [5, 6, 7], train=6, val=2, test=5)
    return path


def test_features_with_text_per_class_are_variants_or_other_data_sets_by_their_classes(folder: Path) -> None:
    call = {"methods": ["zero_shot", "gda", "lfa"], "datasets": ["imagenet", "eurosat", "imagenetv2", "imagenet_a"]}
    result = run_benchmark(folder, protocol=("domain", "cross-dataset"), shots=2, seeds=1, **call)
    tested = {(run.protocol, run.run.method, run.part): run.run.accuracy for run in result.runs}
    assert {part for protocol, _, part in tested if protocol == "domain"} == {"imagenet", "imagenetv2", "imagenet_a"}
    assert {(m, p) for protocol, m, p in tested if protocol == "cross-dataset"} == {
        ("zero_shot", "imagenet"), ("zero_shot", "eurosat"), ("gda", "imagenet"), ("lfa", "imagenet"),
        ("lfa", "eurosat"),
    }  # fmt: skip
    assert tested["domain", "gda", "imagenet_a"].n == 14
    assert tested["cross-dataset", "lfa", "eurosat"].n == 15
    assert tested["domain", "gda", "imagenet_a"].top1 > 0.8, "columns are matched by name, not by place"
    assert not any("train list" in note for note in result.notes if "imagenet" in note)


def test_embedded_variants_are_tested_on_all_of_their_images(folder: Path, tmp_path: Path) -> None:
    """As ``modalign embed`` saves them: all images marked as test, or none marked."""
    X = np.random.default_rng(1).standard_normal((30, 16)).astype(np.float32)
    whole = Features(X, labels=np.arange(30) % 3, class_names=["a", "b", "c"], parts=("train", "test") * 15)
    whole.save(tmp_path / "imagenet.npz")
    variant = replace(whole.select(np.flatnonzero(whole.labels < 2)), class_names=("a", "b"))
    replace(variant, parts=("test",) * 20).save(tmp_path / "imagenet_r.npz")
    replace(variant, parts=()).save(tmp_path / "imagenet_a.npz")
    result = run_benchmark(
        tmp_path,
        protocol="domain",
        methods=["gda"],
        datasets=["imagenet", "imagenet_r", "imagenet_a"],
        shots=2,
        seeds=1,
    )
    assert {run.part: run.run.accuracy.n for run in result.runs} == {"imagenet": 15, "imagenet_r": 20, "imagenet_a": 20}
    assert not any("divided anew" in note for note in result.notes)


def test_two_classes_of_imagenet_with_one_name_are_told_apart(tmp_path: Path) -> None:
    names = write_imagenet_root(tmp_path) / "imagenet/classnames.txt"
    names.write_text(names.read_text().replace("four", "one"))
    encoder = load_encoder("tiny")
    images = BenchmarkSource(tmp_path, ["imagenet", "imagenet_a"], encoder)
    (tmp_path / "features").mkdir()
    for name in images.names:
        encoder.embed_images(load_items(f"{tmp_path}:{name}")).save(tmp_path / f"features/{name}.npz")
    for source in (images, BenchmarkSource(tmp_path / "features", encoder=encoder)):
        variant = source.open("imagenet_a")
        assert variant.class_names == ("one", "one (2)")
        assert variant.class_text is not None
        one, two = variant.class_text.sentences
        assert one == two
        assert "(2)" not in " ".join(two)
        task = draw_task(TaskKey("domain", "imagenet", 2, 1), source)
        assert [part.name for part in task.parts] == ["imagenet", "imagenet_a"]
    accuracy = [
        [run.run.accuracy.top1 for run in run_benchmark(
            path, protocol="domain", methods=["gda"], shots=2, seeds=1, datasets=["imagenet", "imagenet_a"]
        ).runs]
        for path in (tmp_path, tmp_path / "features")
    ]  # fmt: skip
    assert accuracy[0] == accuracy[1]
    assert accuracy[0][1] > 0.8, "the images of the second class are not taken for those of the first"


@pytest.mark.parametrize(
    ("protocol", "datasets", "words"),
    [
        ("cross-dataset", ["imagenet", "imagenet_a"], "with other classes than 'imagenet' .* got imagenet_a; .*domain"),
        ("domain", ["imagenet", "eurosat"], "no other class than 'imagenet' .* got eurosat; .*cross-dataset"),
    ],
)
def test_a_transfer_without_a_target_says_which_protocol_has_one(
    protocol: str, datasets: list[str], words: str, folder: Path
) -> None:
    with pytest.raises(InputError, match=words):
        run_benchmark(folder, protocol=protocol, methods=["gda"], datasets=datasets, shots=2, seeds=1)


def test_a_variant_that_spells_its_classes_differently_is_tested_by_their_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 3
    X = (5 * np.eye(3, 8)[labels] + rng.standard_normal((60, 8))).astype(np.float32)
    names = ("Big dog", "cat", "owl")
    Features(X, labels=labels, class_names=names, parts=("train", "test") * 30).save(tmp_path / "source.npz")
    other = ("OWL", "big_dog", "Cat")
    place = np.array([1, 2, 0])
    Features(X, labels=place[labels], class_names=other, parts=("test",) * 60).save(tmp_path / "aimed.npz")
    Features(X, labels=labels, class_names=tuple("xyz"), parts=("test",) * 60).save(tmp_path / "letters.npz")
    call = {"protocol": "domain", "methods": ["gda"], "shots": 4, "seeds": 1}
    by_default = run_benchmark(tmp_path, **call)
    assert [run.dataset for run in by_default.runs] == ["source", "source"], "the only set with a train list"
    assert next(run for run in by_default.runs if run.part == "aimed").run.accuracy.top1 > 0.9
    assert not any("not tested" in note for note in by_default.notes)
    named = run_benchmark(tmp_path, **call, datasets=["source", "letters", "aimed"])
    assert "letters is not tested by domain: it has other classes than source" in named.notes


def test_one_template_is_no_sequence_of_characters_and_numbers_may_be_an_array(folder: Path) -> None:
    call = {"methods": ["zero_shot"], "datasets": ["imagenet"], "seeds": np.array([1])}
    result = run_benchmark(folder, templates="a {}", shots=np.array([0, 1]), **call)
    assert [run.templates for run in result.runs] == [("a {}",)]
    with pytest.raises(InputError, match="half of a surrogate pair"):
        run_benchmark(folder, templates=["a \ud800 {}"], **call)
    vectors = Features(np.eye(30, 4, dtype=np.float32), labels=np.arange(30) % 3)
    compared = compare(vectors, text=np.eye(3, 4), methods=["zero_shot"], shots=np.array([0, 1]), seeds=1)
    assert {run.shots for run in compared.runs} == {0}
