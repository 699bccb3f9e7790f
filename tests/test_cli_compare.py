"""``modalign compare`` as a user and as a machine would call it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import run as command

from modalign.core.features import Features

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = (
    "--methods",
    "zero_shot,tip-adapter,lfa",
    "--set",
    "lfa.steps=5",
    "--set",
    "tip_adapter.beta=5.5",
    "--seeds",
    "2",
)


def run(*arguments: object, expect: int = 0):
    return command("compare", *arguments, expect=expect)


def test_a_folder_gives_a_table_a_page_and_a_record_that_json_reads_again(photos: Path, tmp_path: Path) -> None:
    page, record = tmp_path / "page.html", tmp_path / "runs.jsonl"
    (photos / "disc" / "broken.png").write_bytes(b"no picture")
    spoken = run(photos, *QUICK, "--shots", "0,2,8", "--page", page, "--record", record)
    for words in ("no labels", "2 labels", "Zero-shot CLIP", "Linear Feature Alignment", "has the highest accuracy"):
        assert words in spoken.stdout
    assert "8 labels per class: left out" in spoken.stderr
    assert "disc/broken.png" in spoken.stderr
    assert page.read_text().count("<svg") >= 2

    lines = record.read_bytes()
    found = json.loads(run(photos, *QUICK, "--shots", "0,2,8", "--record", record, "--json").stdout)
    assert record.read_bytes() == lines  # everything was there
    assert len(found["runs"]) == len(lines.splitlines())
    assert {row["method"] for row in found["table"]} == {"zero_shot", "tip_adapter", "lfa"}
    assert {run["parameters"].get("steps") for run in found["runs"] if run["method"] == "lfa"} == {5}


def test_a_features_file_finds_the_encoder_that_it_names(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.npz"
    command("embed", photos, "-o", path)
    options = ("--methods", "zero_shot", "--shots", "0", "--seeds", "1", "--no-ablations", "--json")
    from_file, from_folder = (json.loads(run(source, *options).stdout) for source in (path, photos))
    assert from_file["runs"][0]["correct"] == from_folder["runs"][0]["correct"]
    features = Features.load(path)
    text = np.stack([features.vectors[features.labels == k].mean(axis=0) for k in range(2)])
    np.savez(tmp_path / "text.npz", vectors=text)
    given = json.loads(run(path, *options, "--text", tmp_path / "text.npz").stdout)
    assert given["runs"][0]["features"] != from_file["runs"][0]["features"]
    without = json.loads(run(path, *options[:2], "--shots", "2", "--seeds", "1", "--no-text", "--json").stdout)
    assert any("no class text" in note for note in without["notes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "cnm"), "did you mean 'cmm'"),
        (("--shots", "few"), "'all'"),
        (("--shots", "²"), "'all'"),
        (("--set", "lfa=3"), "method.name=value"),
        (("--set", "lfa.stepz=3"), "did you mean 'steps'"),
        (("--set", "lfaa.steps=3"), "did you mean 'lfa'"),
        (("--page", "page.txt"), "ends in .html"),
        (("--text", "x.npz", "--no-text"), "choose one"),
        (("--template", "a {}.", "--descriptions", "x.json"), "'x.json' does not exist"),
        (("--record", "no/such/folder/x.jsonl"), "its folder 'no/such/folder' does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(arguments: tuple[str, ...], words: str, photos: Path) -> None:
    before = sorted(photos.parent.rglob("*"))
    assert words in str(run(photos, *arguments, expect=2).exception)
    assert sorted(photos.parent.rglob("*")) == before
