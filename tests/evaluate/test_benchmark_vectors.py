"""Benchmarks of what ``modalign embed`` wrote: text of the class names, and numbers of labels that cannot be had."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from modalign.cli import app
from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.data.splits.split import EMPTY
from modalign.data.text.descriptions import class_sentences
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_grid import BenchmarkPlan
from modalign.evaluate.benchmark.benchmark_learners import task_learner
from modalign.evaluate.benchmark.benchmark_tasks import TaskKey, draw_task
from modalign.evaluate.benchmark.benchmark_vectors import vector_files
from modalign.evaluate.benchmark.parameter_sweep import sweep_parameter
from modalign.methods import method_class
from modalign.methods.baselines.zero_shot import ZeroShot

PER_CLASS = 12  # 6 for training, 2 for validation, 4 for testing
TEMPLATE = "a photo of the number {}."


@pytest.fixture(autouse=True)
def cache(own_cache: None) -> None:
    """Sentences are embedded once for all of these tests."""


@pytest.fixture(scope="module")
def features() -> Features:
    """Four classes of digits with their encoder, as ``modalign embed`` saves them, in three parts."""
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.labels == k)[:PER_CLASS] for k in range(4)])
    embedded = load_encoder("tiny", cache=False).embed_images(digits.select(rows))
    parts = tuple((["train"] * 6 + ["validation"] * 2 + ["test"] * 4) * 4)
    return replace(embedded, class_names=digits.class_names[:4], parts=parts)


def without(features: Features, **left: int) -> Features:
    """The features with ``left`` training images of the named classes."""
    labels, parts = features.labels, np.array(features.parts)
    dropped = [
        row
        for name, count in left.items()
        for row in np.flatnonzero((labels == features.class_names.index(name)) & (parts == "train"))[count:]
    ]
    return features.select(np.setdiff1d(np.arange(len(features)), dropped))


def test_parts_that_are_no_division_are_noted(features: Features, tmp_path: Path) -> None:
    path = replace(features, parts=tuple("validation" if p == "train" else p for p in features.parts)).save(
        tmp_path / "digits.npz"
    )
    result = run_benchmark(path, protocol="few-shot", methods=["gda"], shots=[1], seeds=1, templates=[TEMPLATE])
    assert any("marks images as test and validation, not as train and test" in note for note in result.notes)


def test_a_class_without_a_labeled_image_and_without_text_is_a_reason(features: Features, tmp_path: Path) -> None:
    names, parts = features.class_names, np.array(features.parts)
    kept = np.flatnonzero((features.labels != 3) | (parts == "test"))
    path = replace(features.select(kept), class_names=names, spec=None).save(tmp_path / "digits.npz")
    with pytest.raises(InputError, match="where there is no class text, got images of 3 of 4"):
        run_benchmark(path, protocol="few-shot", methods=["gda"], shots=[1], seeds=1)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_class_names_are_embedded_by_the_encoder_of_the_vectors(
    features: Features, ending: str, tmp_path: Path
) -> None:
    path = features.save(tmp_path / f"digits.{ending}")
    result = run_benchmark(path, protocol="inductive", methods=["zero_shot", "gda"], seeds=1, templates=[TEMPLATE])
    assert not result.left_out
    assert not result.notes
    text = load_encoder("tiny").embed_texts(class_sentences(features.class_names, [TEMPLATE]))
    tested = features.select(np.array(features.parts) == "test")
    right = ZeroShot().fit(tested.vectors, text=text.vectors).predict(tested.vectors) == tested.labels
    (found,) = (run.run for run in result.runs if run.run.method == "zero_shot")
    np.testing.assert_array_equal(found.correct, right)
    assert {run.encoder for run in result.runs} == {"tiny"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train.npz", "test.npz"), "'test.npz' and 'train.npz' are parts of one"),
        (("digits-train.npz", "digits_Test.safetensors", "pets.npz"), "parts of one"),
        (("digits.npz", "digits_test.npz", "digits_train.npz"), "'digits_test.npz' and 'digits_train.npz' are parts"),
        (("digits.npz", "digits.safetensors"), "one file per data set"),
        (("digits-train.npz", "pets-test.npz", "test.npz"), ""),
    ],
)
def test_files_of_parts_and_of_one_name_are_no_data_sets(
    features: Features, names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    for name in names:
        features.save(tmp_path / name)
    if not said:
        assert len(vector_files(tmp_path)) == len(names)
        return
    with pytest.raises(InputError, match=said):
        run_benchmark(tmp_path, methods=["gda"], shots=1, seeds=1)


def test_a_sweep_of_a_method_without_labels_runs_on_features(features: Features, tmp_path: Path) -> None:
    path = features.save(tmp_path / "digits.npz")
    found = sweep_parameter(path, "gpua", "semantic_weight", [0.0, 0.9], protocol="transductive", seeds=1)
    assert [row.value for row in found.rows] == [0.0, 0.9]
    assert not found.notes


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda spec: None, "does not name its encoder; give encoder"),
        (lambda spec: replace(spec, name="lost-encoder", fingerprint="0" * 64), "lost-encoder"),
    ],
)
def test_without_the_encoder_a_note_says_why_there_is_no_text(
    features: Features, changed: Callable[[object], object], expected: str, tmp_path: Path
) -> None:
    path = replace(features, spec=changed(features.spec)).save(tmp_path / "digits.npz")
    result = run_benchmark(path, methods=["gda", "zero_shot"], shots=2, seeds=1)
    assert {run.run.method for run in result.runs} == {"gda"}
    (note,) = result.notes
    assert note.startswith("digits has no class text: ")
    assert expected in note
    assert next(iter(result.reasons)).startswith("Without labels and without class text")


def test_an_encoder_of_ones_own_must_be_that_of_the_vectors(features: Features, tmp_path: Path) -> None:
    path = replace(features, spec=None).save(tmp_path / "digits.npz")
    assert run_benchmark(path, methods=["zero_shot"], seeds=1, encoder="tiny").runs
    assert features.spec is not None
    other = replace(features, spec=replace(features.spec, fingerprint="0" * 64)).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="Expected features of encoder 'tiny'"):
        run_benchmark(other, methods=["zero_shot"], seeds=1, encoder="tiny")


def test_numbers_of_labels_that_a_class_does_not_have_are_noted_once(features: Features, tmp_path: Path) -> None:
    path = without(features, two=3).save(tmp_path / "digits.npz")
    result = run_benchmark(path, methods=["tip_adapter", "linear_probe"], shots=[2, 4], seeds=2)
    assert result.notes == ("digits, 4 labels per class: 1 class has fewer than 4 training images: two (3)",)
    assert {run.run.n_train for run in result.runs if run.run.shots == 4} == {4 + 4 + 4 + 3}
    swept = sweep_parameter(path, "gda", "discriminant_weight", [0.1, 0.5], shots=4, seeds=1)
    assert swept.notes == result.notes


def test_numbers_of_labels_that_most_classes_do_not_have_are_left_out(features: Features, tmp_path: Path) -> None:
    path = features.save(tmp_path / "digits.npz")
    result = run_benchmark(path, methods=["gda"], shots=[4, 8], seeds=1)
    assert {run.run.shots for run in result.runs} == {4}
    assert list(result.reasons) == ["8 labels per class: 4 of 4 classes have fewer than 8 to learn from."]
    with pytest.raises(InputError, match="16 labels per class: 4 of 4 classes have fewer"):
        run_benchmark(path, protocol="base-to-new", methods=["lfa"], seeds=1)
    unlabeled = run_benchmark(path, protocol="inductive", methods=["zero_shot", "gda"], per_class=6, seeds=1)
    assert {(run.run.n_train, run.run.n_unlabeled) for run in unlabeled.runs} == {(0, 24)}
    with pytest.raises(InputError, match="7 unlabeled images per class: 4 of 4 classes"):
        run_benchmark(path, protocol="inductive", methods=["gda"], per_class=7, seeds=1)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"per_class": 0, "protocol": "inductive"}, "per_class=… as an integer of at least 1, got 0"),
        ({"per_class": True, "protocol": "inductive"}, "per_class=… as an integer of at least 1, got True"),
        ({"per_class": 6}, "per_class=… only with protocol='inductive'"),
        ({"imbalances": [10.0]}, "imbalances=… only with protocol=long-tail"),
        ({"imbalances": [0.5], "protocol": "long-tail"}, "imbalances=… as numbers ≥ 1"),
        ({"imbalances": [], "protocol": "long-tail"}, "imbalances=… as numbers ≥ 1"),
        ({"seeds": 0}, "seeds=… as an integer of at least 1, got 0"),
        ({"seeds": True}, "seeds=… as an integer of at least 1, got True"),
        ({"jobs": 0}, "jobs=… as an integer of at least 1, got 0"),
        ({"shots": [2.0]}, "shots=… as numbers ≥ 0"),
    ],
)
def test_arguments_that_are_wrong_or_have_no_effect_are_refused(
    features: Features, wrong: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = features.save(tmp_path / "digits.npz")
    with pytest.raises(InputError, match=re.escape(expected)):
        run_benchmark(path, **({"methods": ["gda"], "seeds": 1} | wrong))


@pytest.mark.parametrize("name", ["zero_shot", "gda"])
def test_no_method_learns_from_test_images_where_nothing_else_is_given(
    features: Features, name: str, tmp_path: Path
) -> None:
    plan = BenchmarkPlan(str(features.save(tmp_path / "digits.npz")), (), templates=(TEMPLATE,))
    task = draw_task(TaskKey("inductive", "digits", 0, 1), plan.open())
    learner = task_learner(method_class(name)(), replace(task, split=replace(task.split, unlabeled=EMPTY)))
    with pytest.raises(InputError, match="got 0 rows"):
        learner.fit()
    assert learner.n_unlabeled == 0


def test_the_command_prints_what_is_missing(features: Features, tmp_path: Path) -> None:
    path = replace(features, spec=None).save(tmp_path / "digits.npz")
    arguments = ["bench", str(path), "--methods", "zero_shot,gda", "--shots", "1,8", "--seeds", "1"]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    assert "note: digits has no class text: the file does not name its encoder; give --encoder" in run.stderr
    assert "left out zero_shot (digits)" in run.stderr
    assert "8 labels per class: 4 of 4 classes have fewer than 8 to learn from" in run.stderr


def test_other_files_are_lists_of_images(tmp_path: Path) -> None:
    digits = load_digits()
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as box:
        for k in range(2):
            for row in np.flatnonzero(digits.labels == k)[:10]:
                box.writestr(f"{digits.class_names[k]}/{row}.png", digits.read(int(row)))
    result = run_benchmark(tmp_path / "digits.zip", methods=["zero_shot"], seeds=1)
    assert {(run.dataset, run.run.accuracy.n) for run in result.runs} == {("digits.zip", 6)}
    (tmp_path / "notes.txt").write_text("no list")
    with pytest.raises(InputError):
        run_benchmark(tmp_path / "notes.txt", methods=["zero_shot"], seeds=1)
