"""No option is ignored without a word, and no output replaces what the command reads."""

import json

import numpy as np
import pytest
from PIL import Image

import modalign as ma
from modalign.cli import run
from modalign.core.display import markdown
from modalign.export.onnx_folder import _readme


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of images of two classes, a table of them, names, and a fitted model."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "data" / name / f"{i}.png")
    rows = "".join(f"data/{name}/{i}.png,{name}\n" for name in ("one", "two") for i in range(2))
    (folder / "list.csv").write_text(f"path,label\n{rows}")
    (folder / "names.json").write_text(json.dumps(["one", "two"]))
    ma.adapt(folder / "data", method="zero_shot", validation="none").save(folder / "model")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "predict model list.csv --out list.csv",
        "predict model data --out model/card.json",
        "audit data --classes names.json --out names.json",
        "evaluate model data --include-fitted --confusion data/one/0.png",
        "evaluate model data --include-fitted --confusion ./data/../data/one/0.png",
    ],
)
def test_an_output_never_replaces_what_the_command_reads(place, monkeypatch, capsys, words):
    monkeypatch.chdir(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert run(words.split()) == 2
    assert "choose another name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_result_beside_the_images_is_replaced_by_the_next_run(place, monkeypatch):
    monkeypatch.chdir(place)
    words = ["predict", "model", "data", "--out", "data/answers.csv"]
    assert run(words) == 0
    assert run(words) == 0


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("evaluate model data --ignore 3", "--ignore"),
        ("evaluate model data --baseline model", "--baseline"),
        ("evaluate model data --truth data", "source"),
        ("embed data --out f.npz --dtype float16", "--dtype"),
        ("bench digits --imbalances 10", "--imbalances"),
        ("bench digits --per-class 3", "--per-class"),
        ("bench data --protocol segmentation --shots 1", "--shots"),
        ("compare data --no-text --template {}.", "--template"),
        ("compare data --text t.npz --descriptions d.json", "--descriptions"),
        ("segment data --dataset voc20 --root data", "source"),
        ("segment data --classes a;b --out m --root data", "--root"),
        ("segment data --out m --model s --features sclip", "--features"),
        ("fit data --out m --method gda --set rounds=2 --set rounds=3", "rounds"),
        ("compare data --set gda.rounds=2 --set gda.rounds=3", "gda.rounds"),
        ("compare data --methods ,", "method"),
        ("segment data --classes a;b --out m --prob-threshold 3", "--prob-threshold"),
        ("segment data --classes a;b --out m --window 2", "--window"),
    ],
)
def test_an_option_without_effect_is_refused_by_its_name(place, monkeypatch, capsys, words, option):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    assert run(words.split()) == 2
    assert option in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_names_are_inert_in_markdown_and_notebooks(place):
    name = "<script>\x1b[31m|`a`\u202e"
    shown = markdown(name)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\<script\\>" in shown
    model = ma.load(place / "model")
    model.class_names = ("one", name)
    assert "\x1b" not in _readme(model, [])
    assert "<script>" not in _readme(model, []).replace("\\<script\\>", "")
    features = ma.Features(np.eye(2), labels=[0, 1], class_names=["one", name])
    assert "\x1b" not in features._repr_html_()
