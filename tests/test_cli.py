"""The command line as a user and as a machine would use it; every command really runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from bad_files import make_bad_folder
from typer.testing import CliRunner

from modalign import cli
from modalign.cli import app, doctor
from modalign.cli.arguments.assignments import hyperparameters_of
from modalign.cli.doctor import EXTRAS
from modalign.core.features import Features
from modalign.methods import method_class

pytestmark = pytest.mark.usefixtures("own_cache")
COMMANDS = (
    "demo",
    "embed",
    "fit",
    "predict",
    "explain",
    "evaluate",
    "audit",
    "search",
    "compare",
    "figures",
    "sweep",
    "segment",
    "serve",
    "list",
    "doctor",
)


def run(*arguments: object, expect: int = 0):
    """One command in this process, its errors turned into exit codes as ``main`` does."""
    from modalign.core.errors import ModalignError

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    code = result.exception.exit_code if isinstance(result.exception, ModalignError) else result.exit_code
    assert code == expect, result.output + repr(result.exception)
    return result


def test_fit_predict_evaluate(photos: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    fitted = json.loads(
        run("fit", photos, "-o", model, "--shots", 4, "-m", "cmm", "--set", "steps=100", "--json").stdout
    )
    assert fitted["classes"] == ["disc", "square"]
    assert fitted["record"]["images"] == {"train": 16, "validation": 0}  # 4 + 4 a class: all 16 there are

    picture, page = tmp_path / "confusion.png", tmp_path / "page.html"
    evaluated = json.loads(
        run("evaluate", model, photos, "--confusion", picture, "--page", page, "--include-fitted", "--json").stdout
    )
    assert evaluated["n"] == 16
    assert evaluated["interval"][0] <= evaluated["top1"] <= evaluated["interval"][1]
    assert np.sum(evaluated["confusion"]) == 16
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in page.read_text()

    answers = json.loads(run("predict", model, photos / "disc" / "0.png", photos / "disc" / "1.png", "--json").stdout)
    assert [p["id"].endswith(".png") for p in answers["predictions"]] == [True, True]
    assert "disc" in run("predict", model, photos / "disc", "--top", 2).stdout
    assert "top-1 accuracy" in run("evaluate", model, photos, "--include-fitted", "--confusion", picture).stdout


def test_what_is_replaced_or_not_learned_from_is_noted(photos: Path, tmp_path: Path) -> None:
    first = run("fit", photos, "-o", tmp_path / "model", "-m", "wca").stderr
    assert "learns without labels; those of the images only measure and calibrate it" in first
    assert "was replaced" not in first
    again = run("fit", photos, "-o", tmp_path / "model", "-m", "zero_shot").stderr
    assert "learns without labels" not in again
    assert f"note: the earlier model in '{tmp_path / 'model'}' was replaced" in again
    (photos / "sets.csv").write_text("path,labels\ndisc/0.png,a;b\ndisc/1.png,a;c\nsquare/0.png,b\n")
    sets = run("embed", photos / "sets.csv", "-o", tmp_path / "sets.npz").stderr
    assert "2 labels contain ';' or '|', such as 'a;b'" in sets
    assert "note: skipped 1 file" in run("embed", photos, "-o", tmp_path / "all.npz").stderr


def test_every_bad_file_is_listed_and_the_good_ones_embedded(tmp_path: Path) -> None:
    folder = make_bad_folder(tmp_path / "photos")
    result = json.loads(run("embed", folder.root, "-o", tmp_path / "f.npz", "--json").stdout)
    features = Features.load(tmp_path / "f.npz")
    reasons = {q["id"]: q["reason"] for q in result["quarantined"]}
    assert set(reasons) == set(folder.bad)
    for name, pattern in folder.bad.items():
        assert re.search(pattern, reasons[name]), f"{name}: {reasons[name]}"
    assert set(features.ids) == set(folder.good)
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1, atol=1e-5)
    spoken = run("embed", folder.root, "-o", tmp_path / "f.npz")
    assert all(name in spoken.stderr for name in folder.bad)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "{photos}", "-o", "{out}", "--method", "cnm"], "did you mean 'cmm'"),
        (["fit", "{photo}", "-o", "{out}"], "Did you mean 'photos'"),
        (["fit", "{photos}", "-o", "{out}", "-m", "cmm", "--set", "stepz=1"], "did you mean 'steps'"),
        (["fit", "{photos}", "-o", "{out}", "--set", "seconds"], "name=value"),
        (["fit", "{photos}", "-o", "{out}", "--time", "soon"], "seconds, or as 10m"),
        (["fit", "{photos}", "-o", "{out}", "-m", "cmm", "--time", "9"], "--method cmm"),
        (["fit", "{photos}", "-o", "{out}", "--seed", "-1"], "Expected --seed of at least 0, got '-1'; see: "),
        (["compare", "{photos}", "--seeds", "x"], "Expected --seeds as a whole number, got 'x'; see: "),
        (["serve", "{photos}", "--port", "99999"], "Expected --port of at most 65535, got '99999'; see: "),
        (["fit", "{photos}", "-o", "{photos}"], "holds other files"),
        (["embed", "{photos}", "-o", "{out}"], "ends in .npz"),
        (["embed", "{photos}", "-o", "{out}.npz", "--view", "centr"], "did you mean 'center'"),
        (["predict", "{out}", "{photos}"], "model folder"),
        (["list", "method"], "did you mean 'methods'"),
        (["fit", "{vectors}", "-o", "{out}"], "vectors go to predict, compare"),
        (["fit", "{arrays}", "-o", "{out}"], "read_feature_arrays"),
    ],
)
def test_a_mistake_is_one_sentence_exit_code_2_and_nothing_written(
    arguments: list[str], sentence: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from modalign.cli import run

    given = filled(arguments, photos, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code = run(given)
    require_one_sentence(code, *capsys.readouterr(), sentence)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_is_one_sentence_in_a_process_of_its_own(photos: Path, tmp_path: Path) -> None:
    arguments = filled(["fit", "{photos}", "-o", "{out}", "--encoder", "tinny"], photos, tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "modalign.cli", *arguments],
        capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    require_one_sentence(result.returncode, result.stdout, result.stderr, "did you mean 'tiny'")


def filled(arguments: list[str], photos: Path, tmp_path: Path) -> list[str]:
    names = {name: tmp_path / name for name in ("photo", "out", "arrays")}
    names |= {"photos": photos, "vectors": tmp_path / "vectors.npz"}
    if "{vectors}" in arguments or "{arrays}" in arguments:
        names["vectors"].touch()
        names["arrays"].mkdir()
        (names["arrays"] / "features.npy").touch()
    return [a.format(**names) for a in arguments]


def require_one_sentence(code: int, out: str, err: str, sentence: str) -> None:
    assert code == 2, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert out == ""


def test_without_labels_and_with_none_of_these(photos: Path, tmp_path: Path) -> None:
    """A folder whose names are not to be believed: GPUA on two encoders, then answers that may be a refusal."""
    model, names = tmp_path / "model", tmp_path / "names.txt"
    names.write_text("disc\nsquare\n")
    options = ("--method", "gpua", "--encoder", "tiny-vision+tiny", "--unlabelled", "--classes", names)
    fitted = json.loads(run("fit", photos, "-o", model, *options, "--json").stdout)
    assert fitted["record"]["images"] == {"train": 16, "validation": 0}
    answers = json.loads(run("predict", model, photos, "--reject", 0.3, "--json").stdout)["predictions"]
    assert 0 < sum(answer["rejected"] for answer in answers) <= 5
    assert {answer["name"] for answer in answers} <= {"disc", "square", "none of these"}
    assert "none of these (" in run("predict", model, photos, "--reject", 0.3).stdout
    run("predict", model, photos, "--reject", 0, expect=2)


@pytest.mark.parametrize(
    "options", [(), ("--shots", 3), ("--validation", "2"), ("--validation", "0.25"), ("--unlabeled",)]
)
def test_fit_reports_its_accuracy_and_its_advice_works(options: tuple, photos: Path, tmp_path: Path) -> None:
    """The command at the end of the last line is run as it stands, for paths with spaces too."""
    source, names = photos.rename(tmp_path / "my photos"), tmp_path / "names.txt"
    names.write_text("disc\nsquare\n")
    method = ("--method", "zero_shot", "--classes", names)
    printed = run("fit", source, "-o", tmp_path / "a model", *method, *options).stdout.splitlines()
    expected = "Accuracy is unknown" if options == ("--unlabeled",) else "; zero-shot on the same images "
    assert expected in printed[1]
    command = shlex.split(printed[-1].split("try: ")[1])
    assert command[0] == "modalign"
    left = "is left to test" not in printed[-1]
    assert left == (command[1] == "evaluate") == (options in [("--shots", 3), ("--unlabeled",)])
    run(*command[1:], "--json")


@pytest.mark.parametrize("mapped", [False, True])
def test_the_advice_of_fit_works_where_folders_are_called_otherwise(photos: Path, tmp_path: Path, mapped: bool) -> None:
    for code, name in enumerate(("disc", "square")):
        (photos / name).rename(photos / str(code))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "square", "0": "disc"} if mapped else ["disc", "square"]))
    printed = run("fit", photos, "-o", tmp_path / "m", "--method", "linear_probe", "--classes", names, "--shots", 2)
    command = shlex.split(printed.stdout.splitlines()[-1].split("try: ")[1])
    assert command[1] == "evaluate"
    assert json.loads(run(*command[1:], "--json").stdout)["top1"] > 0.5
    run("evaluate", tmp_path / "m", photos, expect=2)


def test_a_validation_that_makes_no_sense_is_refused(photos: Path, tmp_path: Path) -> None:
    refused = run("fit", photos, "-o", tmp_path / "model", "--validation", "crss", expect=2)
    assert "did you mean 'cross'" in str(refused.exception)


def test_crops_are_an_option_of_fit_and_kept(photos: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    fitted = json.loads(run("fit", photos, "-o", model, "-m", "wca", "--crops", 3, "--json").stdout)
    assert fitted["record"]["crops"] == 3
    assert json.loads((model / "card.json").read_text())["classifier"]["crops"] == 3
    assert len(json.loads(run("predict", model, photos, "--json").stdout)["predictions"]) == 16
    both = ("-m", "fair", "--crops", 3, "--set", "crops=4")
    assert "got both" in str(run("fit", photos, "-o", tmp_path / "other", *both, expect=2).exception)


def test_a_warning_is_a_note_without_its_line_of_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def warn_twice(*_: object, **__: object) -> None:
        for _model in range(2):
            with warnings.catch_warnings():  # as libraries do, after which Python shows a warning again
                warnings.simplefilter("always")
                warnings.warn("two of nine\nsentences were cut", stacklevel=1)

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(cli, "app", warn_twice)
    cli.main()
    captured = capsys.readouterr()
    assert captured.err == "note: two of nine sentences were cut\n"
    assert not captured.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option(command: str) -> None:
    import typer.main

    group = typer.main.get_command(app)
    assert command in group.commands
    for parameter in group.commands[command].params:
        assert getattr(parameter, "help", None) or parameter.name == "help", f"{command} {parameter.name}"
    assert run(command, "--help").stdout


def test_american_and_british_spelling_are_one(photos: Path, tmp_path: Path) -> None:
    for view in ("center", "centre"):
        run("embed", photos, "-o", tmp_path / f"{view}.npz", "--view", view)
    american, british = (Features.load(tmp_path / f"{view}.npz").vectors for view in ("center", "centre"))
    np.testing.assert_array_equal(american, british)
    options = ("--classes", tmp_path / "names.txt", "-m", "zero_shot")
    (tmp_path / "names.txt").write_text("disc\nsquare\n")
    for option in ("--unlabeled", "--unlabelled"):
        run("fit", photos, "-o", tmp_path / option, option, *options)
    assert hyperparameters_of(method_class("coop"), ["augmentation=centre"]) == {"augmentation": "center"}
    assert hyperparameters_of(method_class("dam"), ['augmentation=["centre", "flip"]']) == {
        "augmentation": ["center", "flip"]
    }


def test_lists(tmp_path: Path) -> None:
    assert {row["name"] for row in json.loads(run("list", "methods", "--json").stdout)} >= {"zero_shot", "cmm"}
    assert {row["name"] for row in json.loads(run("list", "encoders", "--json").stdout)} >= {"tiny", "tiny-vision"}
    assert "caltech101" in run("list", "datasets").stdout
    assert "hyper-parameter" in run("list", "cmm").stdout
    assert "for segmentation" in run("list", "tiny-scenes").stdout
    assert len(json.loads(run("list", "caltech101", "--json").stdout)) == 1


def test_the_doctor_finds_this_machine_well() -> None:
    findings = json.loads(run("doctor", "--json").stdout)
    assert all(f["ok"] for f in findings), findings
    assert "digits right" in findings[-1]["found"]


def test_the_doctor_names_each_extra_with_its_packages() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    declared = {
        extra: [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]
        for extra, requirements in extras.items()
        if extra not in ("docs", "dev")
    }
    assert {extra: packages for extra, (_, *packages) in EXTRAS.items()} == declared


def test_the_doctor_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "plot", ("pictures", "numpy", "no-such-package"))
    found = {check.what: check for check in doctor._extras()}["extra 'plot'"]
    assert found.ok
    assert found.found == "without no-such-package; for pictures: pip install 'modalign[plot]'"
