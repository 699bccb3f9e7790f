"""Published protocols on a small data root: label spaces, sealed labels, averages, and runs that can be continued."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from benchmark_roots import COOP, EACH, write_coop_root, write_imagenet_root
from ray_stand_in import Cluster
from torch import Tensor
from typer.testing import CliRunner

from modalign.cli import app
from modalign.core import ray_cluster
from modalign.core.errors import InputError, UnknownNameError
from modalign.core.features import ClassText, Features
from modalign.data.names import distinct
from modalign.data.splits.coop_files import read_coop_split
from modalign.data.splits.drawing import few_shot
from modalign.encoders import load_encoder
from modalign.evaluate import parallel_runs
from modalign.evaluate.benchmark import benchmark_grid
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_grid import BenchmarkCell, BenchmarkPlan
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun, read_benchmark_runs
from modalign.evaluate.benchmark.benchmark_result import (
    AVERAGE,
    HARMONIC,
    HARMONIC_OF_AVERAGES,
    BenchmarkResult,
    BenchmarkRow,
)
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import PROTOCOLS, TaskKey, draw_task
from modalign.evaluate.comparison.compare import compare
from modalign.evaluate.metrics import proportion
from modalign.evaluate.publications.paper_settings import paper_settings
from modalign.evaluate.result_files import sole_record
from modalign.methods import OTHER_METHODS, register_method
from modalign.methods.baselines.zero_shot import ZeroShot
from modalign.methods.contract.problem import Problem
from modalign.tune.loop import train
from modalign.tune.steps import Stepper

QUICK = {"coop": {"epochs": 1, "augmentation": "center"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coop_root(tmp_path_factory.mktemp("coop"))


@pytest.fixture(autouse=True)
def cache(own_cache: None) -> None:
    """Vectors are computed once for all of these tests."""


@pytest.fixture(scope="module")
def vectors(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data as files of vectors, one of them with an array per list."""
    folder = tmp_path_factory.mktemp("vectors")
    source = BenchmarkSource(root, ["eurosat", "dtd"], load_encoder("tiny", cache=False))
    one, two = source.open("eurosat"), source.open("dtd")
    parts = np.full(len(one.labels), "validation", dtype="<U10")
    parts[one.official.train], parts[one.official.test] = "train", "test"
    replace(one.vectors, parts=tuple(parts)).save(folder / "first.npz")
    arrays = {}
    for part, rows in {"train": two.official.train, "val": two.official.validation, "test": two.official.test}.items():
        arrays |= {f"{part}_images": two.vectors.vectors[rows], f"{part}_labels": two.labels[rows]}
    assert two.class_text is not None
    text = two.class_text.vectors.mean(axis=1) if two.class_text.vectors.ndim == 3 else two.class_text.vectors
    np.savez(folder / "second.npz", text=text, text_names=np.array(two.class_names), **arrays)
    np.savez(folder / "words.npz", names=np.array(["a"]), vectors=np.ones((1, 3), np.float32))
    return folder


def rows_of(result: BenchmarkResult, method: str) -> dict[tuple[str, str], BenchmarkRow]:
    return {(row.dataset, row.part): row for row in result.rows if row.method == method}


def test_every_protocol_runs_with_a_method_of_each_kind(root: Path) -> None:
    protocols = [name for name in PROTOCOLS if name != "domain"]  # these data sets have different classes
    result = run_benchmark(
        root, protocol=protocols, methods=["zero_shot", "lfa", "coop"], shots=2, seeds=1, imbalances=[3],
        hyperparameters=QUICK,
    )  # fmt: skip
    assert not result.left_out
    made = {(run.protocol, run.run.method) for run in result.runs}
    assert made == {(protocol, method) for protocol in protocols for method in ("zero_shot", "lfa", "coop")} - {
        ("inductive", "coop"),  # which learns from labels
        ("transductive", "coop"),
    }
    assert {run.run.asked for run in result.runs} == {1}
    assert all(run.cpu_seconds > 0 for run in result.runs)


def test_few_shot_draws_follow_the_split_file_and_the_seed(root: Path) -> None:
    images, lists, _ = COOP["dtd"]
    items, official = read_coop_split(root / lists, root / images)
    expected = few_shot(items, 2, 3, official=official)
    task = draw_task(TaskKey("few-shot", "dtd", 2, 3), BenchmarkSource(root, ["dtd"], load_encoder("tiny")))
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(task.split, part), getattr(expected, part))


def test_base_and_new_classes_are_tested_in_their_own_label_spaces(root: Path) -> None:
    source = BenchmarkSource(root, ["eurosat"], load_encoder("tiny"))
    for key in (TaskKey("base-to-new", "eurosat", 2, 1), TaskKey("long-tail", "eurosat", "all", 1, 3.0)):
        task = draw_task(key, source)
        base, new = task.parts
        assert base.classes.tolist() == [0, 1, 2]
        assert new.classes.tolist() == [3, 4, 5]
        for part in (base, new):
            assert set(source.open("eurosat").labels[part.rows]) == set(part.classes)
            assert len(part.rows) == 3 * EACH["test"]
        learned = np.concatenate([task.split.train, task.split.validation, task.split.unlabeled])
        assert set(source.open("eurosat").labels[learned]) == {0, 1, 2}
    sizes = np.bincount(source.open("eurosat").labels[task.split.train])
    assert sorted(sizes.tolist(), reverse=True) == [6, 3, 2]  # 6 · (1/3)^(i/2), rounded down


def test_a_method_that_learns_no_map_is_left_out_on_new_classes_with_the_reason(root: Path) -> None:
    result = run_benchmark(root, protocol="base-to-new", methods=["gda"], datasets=["dtd"], shots=2, seeds=1)
    assert [run.part for run in result.runs] == ["base"]
    assert list(result.reasons.values()) == [["gda (dtd on new)"]]
    assert "fitted on only" in next(iter(result.reasons))


def test_other_classes_give_what_zero_shot_on_them_gives(root: Path) -> None:
    source = BenchmarkSource(root, ["eurosat"], load_encoder("tiny"))
    data = source.open("eurosat")
    first, second = np.arange(3), np.arange(3, 6)
    X = data.vectors.vectors
    fitted = ZeroShot().fit(X[:2], text=data.text_of(first))
    other = fitted.for_classes(data.text_of(second))
    expected = ZeroShot().fit(X[:2], text=data.text_of(second))
    np.testing.assert_array_equal(other.scores(X), expected.scores(X))
    assert other.predict(X)[0] in data.class_names[3:]
    assert len(fitted.classes_) == 3
    with pytest.raises(InputError, match="at least 2 classes"):
        fitted.for_classes(data.text_of(second[:1]))
    with pytest.raises(InputError, match="fitted on only"):
        ZeroShot(aggregate="max-score").fit(X, text=data.text_of(first)).for_classes(data.text_of(second))


def test_variants_of_imagenet_are_tested_among_their_own_classes(tmp_path: Path) -> None:
    write_imagenet_root(tmp_path)
    result = run_benchmark(
        tmp_path, protocol="domain", methods=["zero_shot", "gda", "coop"], shots=2, seeds=2, hyperparameters=QUICK,
        datasets=["imagenet", "imagenet_a"],
    )  # fmt: skip
    assert not result.left_out
    found = rows_of(result, "gda")
    assert set(found) == {("imagenet", "imagenet"), ("imagenet", "imagenet_a")}
    assert found["imagenet", "imagenet_a"].n_test == 8
    source = BenchmarkSource(tmp_path, ["imagenet", "imagenet_a"], load_encoder("tiny"))
    task = draw_task(TaskKey("domain", "imagenet", 2, 1), source)
    assert [source.open("imagenet_a").class_names[c] for c in task.parts[1].classes] == ["one", "four"]
    assert sum("usually has" in note for note in result.notes) == 2  # fewer classes than there should be


@dataclass(kw_only=True, eq=False, repr=False)
class Spy(ZeroShot):
    """Zero-shot that records its inputs."""

    seen: ClassVar[list[Features]] = []

    def fit(self, X: Features, *arguments: object, **named: object) -> Spy:
        self.seen.append(X)
        return super().fit(X, *arguments, **named)  # type: ignore[arg-type,return-value]

    def scores(self, X: Features) -> np.ndarray:
        self.seen.append(X)
        return super().scores(X)

    def _fit(self, problem: Problem) -> None:
        super()._fit(problem)

    def _scores(self, X: Tensor) -> Tensor:
        return super()._scores(X)


@pytest.fixture
def spy() -> Iterator[list[Features]]:
    register_method("benchmark_spy", Spy)
    Spy.seen.clear()
    yield Spy.seen
    OTHER_METHODS.registered.pop("benchmark_spy")


def test_no_method_is_handed_a_test_label_or_the_name_of_a_file(root: Path, spy: list[Features]) -> None:
    run_benchmark(root, protocol=PROTOCOLS, methods=["benchmark_spy"], shots=2, seeds=1, imbalances=[2])
    assert len(spy) > 20
    for handed in spy:
        assert (handed.labels == -1).all()  # it needs none
        assert all(name.isdecimal() for name in handed.ids)
        assert not handed.quarantined


def test_a_record_is_continued_and_holds_the_same_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"protocol": ("few-shot", "base-to-new"), "methods": ["zero_shot", "lfa"], "shots": 2, "seeds": 2}
    record = tmp_path / "runs.jsonl"
    first = run_benchmark(root, record=record, **call)
    lines = record.read_text().splitlines()
    assert len(lines) == len(first.runs)
    assert [run.key for run in read_benchmark_runs(record)] == [run.key for run in first.runs]

    record.write_text("\n".join(lines[:-3]) + "\n" + lines[-1][:50])  # killed while writing
    with pytest.warns(UserWarning, match="no complete runs"):
        again = run_benchmark(root, record=record, **call)
    assert [run.run.accuracy for run in again.runs] == [run.run.accuracy for run in first.runs]

    made: list[object] = []
    monkeypatch.setattr(benchmark_grid, "measured", lambda *a, **k: made.append(a))
    third = run_benchmark(root, record=record, **call)
    assert not made
    assert [run.key for run in third.runs] == [run.key for run in first.runs]


def test_a_record_takes_the_runs_of_one_call_at_a_time(vectors: Path, tmp_path: Path) -> None:
    call = {"methods": ["zero_shot"], "shots": [1], "seeds": 1, "protocol": "few-shot", "record": tmp_path / "a.jsonl"}
    with (
        sole_record(tmp_path / "a.jsonl"),
        pytest.raises(InputError, match=r"results file that is not in use.*another run adds to 'a.jsonl'; wait for it"),
    ):
        run_benchmark(vectors, **call)
    assert run_benchmark(vectors, **call).runs
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_two_processes_find_what_one_finds(vectors: Path, tmp_path: Path) -> None:
    call = {"methods": ["zero_shot", "lfa", "gda"], "shots": [1, 2], "seeds": 2, "protocol": "few-shot"}
    one = run_benchmark(vectors, **call)
    two = run_benchmark(vectors, jobs=2, record=tmp_path / "runs.jsonl", **call)
    assert [(run.key, run.run.accuracy) for run in one.runs] == [(run.key, run.run.accuracy) for run in two.runs]


def test_tasks_of_ray_find_what_one_process_finds(
    vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order: the stand-in ends the last task first."""
    cluster = Cluster([2])
    monkeypatch.setattr(ray_cluster, "require", lambda module, extra: cluster)
    monkeypatch.setattr(parallel_runs, "_kept", [])
    call = {"methods": ["zero_shot", "gda"], "shots": [1, 2], "seeds": 1, "protocol": "few-shot"}
    one = run_benchmark(vectors, **call)
    other = run_benchmark(vectors, jobs=2, ray="auto", record=tmp_path / "runs.jsonl", **call)
    assert cluster.most == 2
    assert [(run.key, run.run.accuracy) for run in one.runs] == [(run.key, run.run.accuracy) for run in other.runs]
    with pytest.raises(InputError, match=r"at most 2 processors.*jobs"):
        run_benchmark(vectors, jobs=3, ray="auto", **call)


def test_a_killed_training_goes_on_from_the_state_beside_the_record(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"epochs": 2, "batch_size": 4, "n_ctx": 2}
    call = {"methods": ["coop"], "datasets": ["dtd"], "shots": 1, "seeds": 1, "hyperparameters": {"coop": quick}}
    whole = run_benchmark(root, **call)
    steps: list[int] = []
    step = Stepper.step

    def until_stopped(self: Stepper, number: int, *rest: Any) -> None:
        if number == 1:  # within the first epoch
            raise KeyboardInterrupt
        step(self, number, *rest)

    record = tmp_path / "runs.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", until_stopped)
        patch.setitem(train.__kwdefaults__, "seconds", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(root, record=record, **call)
    assert len(list((tmp_path / "runs.jsonl.states").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", lambda self, number, *rest: steps.append(number) or step(self, number, *rest))
        resumed = run_benchmark(root, record=record, **call)
    assert steps[0] == 1
    assert [run.run.accuracy for run in resumed.runs] == [run.run.accuracy for run in whole.runs]
    assert not (tmp_path / "runs.jsonl.states").exists()


def test_vectors_give_what_their_images_give(root: Path, vectors: Path) -> None:
    call = {"methods": ["zero_shot", "lfa"], "shots": 2, "seeds": 1}
    images = rows_of(run_benchmark(root, datasets=["dtd"], **call), "lfa")["dtd", "test"]
    arrays = rows_of(run_benchmark(vectors, **call), "lfa")["second", "test"]
    assert images.accuracy.mean == arrays.accuracy.mean


def test_what_can_not_be_run_on_vectors_is_left_out(vectors: Path) -> None:
    result = run_benchmark(vectors, methods=["coop", "zero_shot"], shots=1, seeds=1)
    assert any("needs images" in reason for reason in result.reasons)
    assert {(run.run.method, run.dataset) for run in result.runs} == {("zero_shot", "first"), ("zero_shot", "second")}


def test_lists_of_shots_that_come_with_the_data_are_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((3, 8))
    arrays = {}
    for part, each in {"test": 4, "val": 3, "shots1": 1, "shots2": 2}.items():
        labels = np.repeat(np.arange(3), each)
        noise = rng.standard_normal((len(labels), 8))
        arrays |= {f"{part}_images": (centers[labels] + 0.1 * noise).astype(np.float16), f"{part}_labels": labels}
    np.savez(tmp_path / "own.npz", text=centers, text_labels=np.array([2, 0, 1]), **arrays)
    source = BenchmarkSource(tmp_path / "own.npz")
    data = source.open("own")
    assert data.class_names == ("class 2", "class 0", "class 1")
    task = draw_task(TaskKey("few-shot", "own", 2, 1), source)
    assert np.array_equal(data.vectors.vectors[task.split.train], arrays["shots2_images"].astype(np.float32))
    assert sorted(np.bincount(data.labels[task.split.validation])) == [2, 2, 2]
    assert not set(task.split.validation) & set(task.split.unlabeled)
    free = draw_task(TaskKey("inductive", "own", 0, 1, per_class=2), source)
    assert sorted(np.bincount(data.labels[free.split.unlabeled])) == [2, 2, 2]
    assert "no train list" in data.notes[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"test_labels": np.zeros(3, int)}, r"'test_labels' \(n,\) in '.*own.npz', got \(4, 8\) and \(3,\)"),
        ({"shots1_images": np.zeros((2, 7))}, r"the d of the test images, \(8,\), .* got \(2, 7\) and \(2,\)"),
        ({"test_labels": np.full(4, 0.5)}, "integers from -1, class numbers, in 'test_labels' of .*, got float64"),
        ({"shots1_labels": np.array([0, -2])}, "in 'shots1_labels' of .*, got -2"),
        ({"text_labels": np.array([0, -1])}, "integers from 0, class numbers, in 'text_labels' of .*, got -1"),
        ({"text_names": np.array(["a"])}, r"per row of 'text' in 'text_names' of .*, got \(1,\) for \(2, 8\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_once(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    whole = {"test_images": np.eye(4, 8), "test_labels": np.array([0, 1, 0, 1]), "text": np.eye(2, 8)}
    whole |= {"shots1_images": np.eye(2, 8), "shots1_labels": np.array([0, 1])}
    np.savez(tmp_path / "own.npz", **whole)
    assert BenchmarkSource(tmp_path / "own.npz").open("own").class_names == ("class 0", "class 1")
    np.savez(tmp_path / "own.npz", **(whole | changed))
    with pytest.raises(InputError, match=expected) as told:
        run_benchmark(tmp_path / "own.npz", methods=["zero_shot", "gda"], shots=[1], seeds=[1, 2])
    assert str(told.value).count("own.npz") == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"templates": ["a photo"]}, r"^Expected a template with \{\} once.*'a photo'"),
        ({"hyperparameters": {"hpt": {"structures": "no.json"}}}, r"^Expected a JSON file of structures, 'no.json'"),
    ],
)
def test_sentences_and_structures_are_checked_before_the_encoder_is_loaded(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: str
) -> None:
    monkeypatch.setattr(BenchmarkPlan, "open", lambda _: pytest.fail("the data were opened"))
    with pytest.raises(InputError, match=expected):
        run_benchmark("digits", methods=["hpt"], **given)


def _run(template: BenchmarkRun, dataset: str, part: str, seed: int, hits: int) -> BenchmarkRun:
    run = replace(template.run, seed=seed, accuracy=proportion(hits, 100), correct=np.zeros(100, dtype=bool))
    return replace(template, dataset=dataset, part=part, run=run)


def test_both_harmonic_means_are_given(root: Path) -> None:
    template = run_benchmark(root, methods=["zero_shot"], datasets=["dtd"], seeds=1).runs[0]
    table = {("one", "base"): 80, ("one", "new"): 40, ("two", "base"): 60, ("two", "new"): 90}
    runs = [
        _run(replace(template, protocol="base-to-new"), dataset, part, seed, hits + seed)
        for (dataset, part), hits in table.items()
        for seed in (1, 2)
    ]
    rows = {(row.dataset, row.part): row for row in BenchmarkResult(tuple(runs)).rows}

    def harmonic(base: float, new: float) -> float:
        return 2 / (1 / base + 1 / new)

    of_averages = [harmonic(0.70 + s, 0.65 + s) for s in (0.01, 0.02)]
    of_means = [(harmonic(0.80 + s, 0.40 + s) + harmonic(0.60 + s, 0.90 + s)) / 2 for s in (0.01, 0.02)]
    assert rows[AVERAGE, HARMONIC_OF_AVERAGES].accuracy.mean == pytest.approx(np.mean(of_averages))
    assert rows[AVERAGE, HARMONIC].accuracy.mean == pytest.approx(np.mean(of_means))
    assert rows["one", HARMONIC].accuracy.mean == pytest.approx(
        np.mean([harmonic(0.8 + s, 0.4 + s) for s in (0.01, 0.02)])
    )
    assert rows[AVERAGE, "base"].n_datasets == 2
    assert not math.isclose(rows[AVERAGE, HARMONIC].accuracy.mean, rows[AVERAGE, HARMONIC_OF_AVERAGES].accuracy.mean)


def test_the_average_of_a_transfer_leaves_the_source_out(root: Path) -> None:
    template = replace(run_benchmark(root, methods=["zero_shot"], datasets=["dtd"], seeds=1).runs[0], protocol="domain")
    hits = {"source": 90, "near": 60, "far": 40}
    runs = tuple(_run(template, "source", part, 1, count) for part, count in hits.items())
    (average,) = (row for row in BenchmarkResult(runs).rows if row.dataset == AVERAGE)
    assert average.accuracy.mean == pytest.approx(0.5)
    assert average.n_datasets == 2


def test_the_settings_of_the_papers_come_before_ones_own(root: Path) -> None:
    plan = BenchmarkPlan(str(root), ("eurosat",), "tiny", settings="paper", hyperparameters={"coop": {"epochs": 3}})
    grid = benchmark_grid.BenchmarkGrid(plan)
    made = grid._method(BenchmarkCell("coop", TaskKey("few-shot", "eurosat", 1, 7))).get_params()
    printed = paper_settings("coop", "eurosat", protocol="few-shot", shots=1).parameters
    assert printed["epochs"] == 50
    assert made | {"epochs": 50} == made | printed
    assert (made["epochs"], made["random_state"]) == (3, 7)


def test_equal_class_names_are_distinguished() -> None:
    assert distinct(["crane", "owl", "crane"]) == ("crane", "owl", "crane (2)")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"protocol": "few-shots"}, "few-shot"),
        ({"settings": "papers"}, "paper"),
        ({"methods": ["cmn"]}, "cmm"),
        ({"datasets": ["food101"]}, "is not there"),
        ({"datasets": ["nothing"]}, "eurosat"),
        ({"protocol": "domain", "datasets": ["dtd"]}, "at least two"),
        ({"hyperparameters": {"cmm": {"steps": 1}}, "methods": ["lfa"]}, "lfa"),
        ({"seeds": []}, "at least one"),
        ({"jobs": 0}, "at least 1"),
        ({"shots": "few"}, "numbers ≥ 0 or 'all', got few"),
        ({"shots": [1, -1]}, "numbers ≥ 0 or 'all', got 1, -1"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    root: Path, changed: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_grid, "measured", lambda *a, **k: pytest.fail("something was fitted"))
    with pytest.raises((InputError, UnknownNameError), match=expected):
        run_benchmark(root, **changed)
    with pytest.raises(InputError, match="is not there"):
        run_benchmark(root / "nowhere")


def test_a_file_without_runs_is_not_taken_for_a_record(vectors: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("cat\ndog")
    with pytest.raises(InputError, match=r"^Expected a results file with a run per line, '.*notes.txt' has none"):
        run_benchmark(vectors, methods="zero_shot", record=notes)
    with pytest.raises(InputError, match=r"^Expected a results file with a run per line"):
        compare(Features(np.eye(4), labels=[0, 1, 0, 1]), text=np.eye(2, 4), record=notes)
    assert notes.read_text() == "cat\ndog"
    notes.write_text('{"settings": 1}')  # one line, which nobody has cut short
    with pytest.raises(InputError, match=r"^Expected a results file with a run per line"):
        run_benchmark(vectors, methods="zero_shot", record=notes)
    assert notes.read_text() == '{"settings": 1}'


def test_a_new_record_ends_in_jsonl(vectors: Path, tmp_path: Path) -> None:
    for name in ("z.csv", "z"):
        with pytest.raises(InputError, match=rf"^Expected record=… to end in .jsonl, .*{name}'\.$"):
            run_benchmark(vectors, methods="zero_shot", record=tmp_path / name)
        assert not (tmp_path / name).exists()


def test_the_command_prints_a_table_and_writes_a_page(vectors: Path, tmp_path: Path) -> None:
    page = tmp_path / "bench.html"
    arguments = ["bench", str(vectors), "--methods", "zero_shot,gda", "--shots", "1,2", "--seeds", "2"]
    run = CliRunner().invoke(app, [*arguments, "--page", str(page)])
    assert run.exit_code == 0, run.output
    assert "GDA" in run.stdout
    assert run.stdout.endswith(f"page: {page}\n")
    html = page.read_text()
    assert "Few labels" in html
    assert "Average of 2 data sets" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    content = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert {row["method"] for row in content["rows"]} == {"zero_shot", "gda"}


def test_class_text_of_other_width_is_refused(root: Path) -> None:
    data = BenchmarkSource(root, ["dtd"], load_encoder("tiny")).open("dtd")
    fitted = ZeroShot().fit(data.vectors.vectors[:2], text=data.text_of(np.arange(4)))
    with pytest.raises(InputError):
        fitted.for_classes(ClassText(np.eye(3, dtype=np.float32), ("a", "b", "c")))


def test_digits_are_those_of_the_library_also_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.eye(4, 8, dtype=np.float32)
    (tmp_path / "digits").mkdir()
    Features(vectors, labels=np.arange(4) % 2, class_names=["a", "b"]).save(tmp_path / "digits" / "own.npz")
    monkeypatch.chdir(tmp_path)
    assert BenchmarkSource("digits").names == ("digits",)
    assert BenchmarkSource("./digits").names == ("own",)
