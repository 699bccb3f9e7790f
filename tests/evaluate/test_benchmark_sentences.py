"""Benchmarks with sentences of a language model, which are looked up by the name of each data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from modalign.cli import app
from modalign.core.errors import InputError
from modalign.core.features import Features
from modalign.data.digits import load_digits
from modalign.data.text.sentence_files import find_sentence_files
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark import run_benchmark
from modalign.evaluate.benchmark.benchmark_grid import BenchmarkCell, BenchmarkGrid, BenchmarkPlan
from modalign.evaluate.benchmark.benchmark_records import read_benchmark_runs
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import TaskKey
from modalign.methods.baselines.zero_shot import ZeroShot

WORDS = {"zero": ["a round ring.", "a circle."], "one": ["a single vertical stroke."], "two": ["a curve, then a line."]}


@pytest.fixture(autouse=True)
def cache(own_cache: None) -> None:
    """Sentences are embedded once for all of these tests."""


@pytest.fixture(scope="module")
def features() -> Features:
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.labels == k)[:8] for k in range(3)])
    found = load_encoder("tiny", cache=False).embed_images(digits.select(rows))
    return Features(found.vectors, labels=found.labels, class_names=digits.class_names[:3], spec=found.spec)


@pytest.fixture
def hpt(tmp_path: Path) -> Path:
    """A folder in HPT's layout."""
    for kind in ("description", "structure"):
        (tmp_path / "hpt" / kind).mkdir(parents=True)
        for name in ("EuroSAT", "OxfordPets", "letters"):
            (tmp_path / "hpt" / kind / f"{name}.json").write_text(json.dumps(WORDS))
    return tmp_path / "hpt"


def test_files_are_found_by_the_name_of_the_data_set(hpt: Path, tmp_path: Path) -> None:
    found = find_sentence_files(hpt, "oxford_pets")
    assert (found.source, found.descriptions) == ("hpt", hpt / "description/OxfordPets.json")
    assert found.structures == hpt / "structure/OxfordPets.json"
    assert find_sentence_files(hpt / "description", "letters").descriptions == hpt / "description/letters.json"
    (tmp_path / "CuPL").mkdir()
    file = tmp_path / "CuPL/CuPL_prompts_flowers102.json"
    file.write_text("{}")
    found = find_sentence_files(tmp_path / "CuPL", "oxford_flowers")
    assert (found.source, found.descriptions, found.structures) == ("CuPL", file, None)
    assert find_sentence_files(file, "any").source == "CuPL_prompts_flowers102"
    with pytest.raises(InputError, match=r"data set 'dtd' in .*, got 'EuroSAT\.json', 'OxfordPets\.json'"):
        find_sentence_files(hpt, "dtd")
    with pytest.raises(InputError, match="is not there"):
        find_sentence_files(tmp_path / "lost", "dtd")


def test_sentences_take_the_place_of_templates_or_are_added(features: Features, hpt: Path, tmp_path: Path) -> None:
    path = features.save(tmp_path / "letters.npz")
    encoder = load_encoder("tiny")
    names = features.class_names
    for templates in (None, ["the digit {}."]):
        record = tmp_path / f"runs-{templates is None}.jsonl"
        run_benchmark(
            path, protocol="transductive", methods=["zero_shot"], seeds=1, templates=templates, descriptions=hpt,
            record=record,
        )  # fmt: skip
        (found,) = read_benchmark_runs(record)
        assert found.sentences == "hpt"
        own = [] if templates is None else ["the digit {}."]
        text = encoder.embed_texts([[*(t.format(name) for t in own), *WORDS[name]] for name in names])
        tested = BenchmarkSource(path).open("letters").official.test
        answers = ZeroShot().fit(features.vectors, text=text.vectors).predict(features.vectors[tested])
        np.testing.assert_array_equal(found.run.correct, answers == features.labels[tested])


def test_structures_are_given_to_the_method_that_has_them(features: Features, hpt: Path, tmp_path: Path) -> None:
    path = features.save(tmp_path / "letters.npz")
    grid = BenchmarkGrid(BenchmarkPlan(str(path), ("letters",), descriptions=str(hpt)))
    files = grid.source.open("letters").sentence_files
    methods = {name: grid._method(BenchmarkCell(name, TaskKey("few-shot", "letters", 1, 1)), files)
               for name in ("dam", "coop")}  # fmt: skip
    assert methods["dam"].structures == str(hpt / "structure/letters.json")
    assert "structures" not in methods["coop"].get_params()


def test_a_missing_file_is_refused_before_any_work(features: Features, hpt: Path, tmp_path: Path) -> None:
    path = features.save(tmp_path / "numbers.npz")
    run = CliRunner().invoke(app, ["bench", str(path), "--methods", "zero_shot", "--descriptions", str(hpt)])
    assert isinstance(run.exception, InputError)
    assert "Expected a file of sentences for data set 'numbers'" in str(run.exception)
