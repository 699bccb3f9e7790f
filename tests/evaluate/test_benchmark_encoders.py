"""Benchmarks with a vision-only encoder and CLIP: which method gets which vectors, and what the record says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun, read_benchmark_runs
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.methods.gpua.gpua import GPUA
from modalign.model.adaptation import adapt

JOINED = "tiny-vision+tiny"
TEMPLATES = ["a photo of the number {}."]
BLIND: dict[str, Any] = {"protocol": "inductive", "seeds": 1, "templates": TEMPLATES}


@pytest.fixture(autouse=True)
def cache(own_cache: None) -> None:
    """Vectors are computed once for all of these tests."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of each of four digits."""
    digits, folder = load_digits(), tmp_path_factory.mktemp("photos")
    for k in range(4):
        own = folder / digits.class_names[k]
        own.mkdir()
        for i in np.flatnonzero(digits.labels == k)[:12]:
            digits.open(i).save(own / f"{i}.png")
    return folder


def right(runs: tuple[BenchmarkRun, ...], method: str) -> np.ndarray:
    (run,) = (run for run in runs if run.run.method == method)
    return run.run.correct


def test_gpua_gets_both_spaces_and_the_others_that_of_the_text(photos: Path, tmp_path: Path) -> None:
    record = tmp_path / "runs.jsonl"
    methods = ["gpua", "zero_shot", "wca"]
    both = run_benchmark(photos, methods=methods, encoder=JOINED, record=record, **BLIND).runs
    assert {run.run.method: run.encoder for run in both} == {"gpua": JOINED, "zero_shot": "tiny", "wca": "tiny"}
    alone = run_benchmark(photos, methods=methods, encoder="tiny", **BLIND).runs
    for method in ("zero_shot", "wca"):
        np.testing.assert_array_equal(right(both, method), right(alone, method))
    beside = run_benchmark(
        photos, methods=methods, encoder="tiny-vision", clip_encoder="tiny", record=record, **BLIND
    ).runs
    (vision,) = (run for run in beside if run.run.method == "gpua")
    assert (vision.encoder, vision.clip_encoder) == ("tiny-vision", "tiny")
    assert vision.encoders == "tiny-vision with text of tiny"
    assert len(read_benchmark_runs(record)) == 3 + 1, "runs in the space of the text are the same ones"
    assert len({run.run.features for run in (*both, *beside, *alone) if run.run.method == "gpua"}) == 3


@pytest.mark.parametrize("encoders", [{"encoder": JOINED}, {"encoder": "tiny-vision", "clip_encoder": "tiny"}])
def test_a_run_is_what_a_model_of_both_encoders_answers(photos: Path, encoders: dict[str, str]) -> None:
    """Against ``adapt``, which embeds and joins on its own."""
    data = BenchmarkSource(photos, encoder=load_encoder("tiny")).open(photos.name)
    assert data.items is not None
    model = adapt(
        data.items.select(data.official.train).unlabeled(), method=GPUA(random_state=1), validation="none",
        mirror=False, templates=TEMPLATES, **encoders,
    )  # fmt: skip
    test = data.items.select(data.official.test)
    found = right(run_benchmark(photos, methods=["gpua"], **encoders, **BLIND).runs, "gpua")
    names = np.array(model.predict(test).names)
    np.testing.assert_array_equal(found, names == np.array(test.class_names)[test.labels])


def test_vectors_of_both_encoders_give_what_their_images_give(photos: Path, tmp_path: Path) -> None:
    data = BenchmarkSource(photos, encoder=load_encoder(JOINED)).open(photos.name)
    parts = np.full(len(data.labels), "validation", dtype="<U10")
    parts[data.official.train], parts[data.official.test] = "train", "test"
    path = replace(data.vectors, parts=tuple(parts)).save(tmp_path / f"{photos.name}.npz")
    sources = ((photos, JOINED), (path, None))
    images, vectors = (run_benchmark(s, methods=["gpua", "zero_shot"], encoder=e, **BLIND).runs for s, e in sources)
    for method in ("gpua", "zero_shot"):
        np.testing.assert_array_equal(right(images, method), right(vectors, method))


def test_an_image_and_its_mirrored_view_count_once(photos: Path) -> None:
    quick = {"cmm": {"steps": 4, "warmup_steps": 0}}
    result = run_benchmark(photos, methods=["cmm", "gda"], shots=[2], seeds=1, encoder="tiny", hyperparameters=quick)
    assert {(run.run.method, run.run.n_train) for run in result.runs} == {("cmm", 8), ("gda", 8)}


@pytest.mark.parametrize(
    ("encoders", "sentence"),
    [
        ({"encoder": "tiny", "clip_encoder": "tiny"}, "encoder=… without a text tower beside"),
        ({"encoder": "tiny-vision", "clip_encoder": "tiny-vision"}, "one encoder with a text tower"),
    ],
)
def test_encoders_that_do_not_go_together_are_refused(photos: Path, encoders: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run_benchmark(photos, methods=["gpua"], **encoders, **BLIND)
