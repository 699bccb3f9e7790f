"""Commands that run the rows of printed tables on other data, and what they say of names and data that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modalign.cli import run as run_command
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.encoders import load_encoder
from modalign.evaluate.benchmark.benchmark_records import read_benchmark_runs
from modalign.evaluate.publications.shapes.table_runs import run_tables
from modalign.evaluate.publications.table_view import find_tables
from modalign.testing import few_shot_problem


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text, names = few_shot_problem().text, np.array(list("abcde"))
    noise = np.random.default_rng(0).standard_normal((200, text.shape[1]))
    labels = np.arange(200) % 5
    images = text[labels] + 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    arrays = {"train_images": images[:100], "train_labels": labels[:100]}
    arrays |= {"test_images": images[100:], "test_labels": labels[100:]}
    path = tmp_path_factory.mktemp("vectors") / "letters.npz"
    np.savez(path, text=text, text_names=names, **arrays)
    return path


def test_one_command_runs_the_rows_and_states_their_order(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, page = tmp_path / "runs.jsonl", tmp_path / "page.html"
    words = ["tables", "gpua:3", "fair:5", "--on", str(vectors), "--seeds", "1", "--record", str(record)]
    words += ["--set", "gpua.steps=3"]
    assert run_command([*words, "--page", str(page)]) == 0
    first = capsys.readouterr()
    assert "Order of rows on letters, features, gpua.steps=3, 1 seed:" in first.out
    assert "GPUA, 16 unlabeled images per class above GPUA, semantic scores only" in first.out
    assert (
        "left out FAIR without pseudo-label weight, FAIR, weight by highest score, FAIR: it learns inside" in first.err
    )
    assert "Order of rows on letters, features, gpua.steps=3, 1 seed" in page.read_text("utf-8")
    lines = record.read_text().splitlines()
    assert len(lines) == 2
    assert {run.run.parameters["steps"] for run in read_benchmark_runs(record)} == {3}
    assert run_command([*words, "--json"]) == 0
    (shape,) = json.loads(capsys.readouterr().out)["tables"][0]["shapes"]
    assert shape["verdict"] in ("confirmed", "not confirmed", "reversed")
    assert shape["low"] <= shape["difference"] <= shape["high"]
    assert record.read_text().splitlines() == lines, "no run is repeated"
    assert run_command(["tables", "gpua:3", "cmm:1", "--record", str(record)]) == 0
    printed = capsys.readouterr()
    assert "Order of rows on letters" in printed.out
    assert "runs.jsonl' has no run to compare with 'cmm Table 1'\n" in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "FAIR without alignment score"), "--methods fair --set fair.alignment=fixed"),
        (("--methods", "CMM, linear"), "got 'CMM, linear': 'CMM, linear' of the papers' tables is cmm"),
        (("--methods", "CLIP"), "'CLIP' of the papers' tables is zero_shot; write --methods zero_shot"),
        (("--methods", "gda", "--set", "zlap.k=3"), "'ZLaP' is in the papers' tables and not in the library"),
        (("--methods", "gda,zlap"), "'ZLaP' is in the papers' tables and not in the library"),
        (("--methods", "gdaa"), "did you mean 'gda'"),
        (("--methods", ","), "--methods to hold at least one"),
        (("--datasets", ","), "--datasets to hold at least one"),
        (("--datasets", "letter"), "did you mean 'letters'"),
        (("--protocol", "fewshot"), "did you mean 'few-shot'"),
        (("--settings", "papers"), "did you mean 'paper'"),
        (("--jobs", "-1"), "Expected --jobs of at least 0"),
    ],
)
def test_names_that_bench_does_not_know_are_one_sentence(
    arguments: tuple[str, ...], words: str, vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bench", str(vectors), *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["zlap"], "got 'zlap', a row of gpua Table 1: 'ZLaP' is in the papers' tables and not in the library."),
        (["TransCLIP-ZS"], "a row of fair Table 4: 'TransCLIP-ZS' of the papers' tables is transclip."),
        (["gpua:3", "--on", "digits", "--set", "dam.epochs=2"], "Unknown method of these tables 'dam'; known: gpua."),
    ],
)
def test_names_that_tables_does_not_know_are_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["tables", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith(sentence)
    assert len(said.splitlines()) == 1


def test_a_state_of_all_rows_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tables", "fair:5"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("needs GPU-hours: about") == 1
    assert "Its numbers: needs GPU-hours: about" in printed
    assert run_command(["tables", "gpua:7"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].endswith("state"), "rows of several states name theirs"
    assert "needs images" in printed[2]
    assert "not reproducible" in printed[3]


def test_what_cannot_be_run_is_said_in_one_sentence(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError, match=r"Expected rows that can be run on '.*', got none \(no row has a protocol of bench\)"
    ):
        run_tables(vectors, find_tables(["gpua:2"]))
    with pytest.raises(InputError, match=r"got none \(CLIP, LFA: its protocol takes several data sets; CoOp"):
        run_tables(vectors, find_tables(["dam:3"]))
    with pytest.raises(InputError, match=r"got none \(.*FAIR: it learns inside an encoder and needs images\)"):
        run_tables(vectors, find_tables(["fair:5"]))
    record = tmp_path / "runs.jsonl"
    with pytest.raises(InputError, match="steps"):
        run_tables(vectors, find_tables(["cmm:2"]), hyperparameters={"CMM": {"steps": -1}}, record=record, seeds=1)
    assert not record.exists(), "of no other row either"
    assert run_command(["tables", "gpua:3", "--seeds", "2"]) == 2
    assert "Expected --seeds with --on DATA; leave it out." in capsys.readouterr().err


@pytest.mark.parametrize("encoder", [None, "tiny-vision+tiny"])
def test_rows_of_one_of_two_encoders_need_images(encoder: str | None, tmp_path: Path, own_cache: None) -> None:
    file = tmp_path / "joined.npz"
    load_encoder("tiny-vision+tiny").embed_images(load_digits().select(range(60))).save(file)
    found = run_tables(file, find_tables(["gpua:3"]), hyperparameters={"gpua": {"steps": 1}}, seeds=1, encoder=encoder)
    assert len(found.runs) == 1
    assert found.reasons["it compares the parts of two encoders and needs images"] == (
        "GPUA, semantic scores only", "GPUA, CLIP features only", "GPUA, vision-only features",
    )  # fmt: skip
