"""``fit --multi-label``, ``predict`` and ``evaluate``: from a table of sets to a page, and refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from modalign import cli
from modalign.core.label_matrix import label_sets
from modalign.data.digit_pairs import load_digit_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of digits with a table of their sets; a class has a name of markup."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = load_digit_pairs(80, 40)
    names = [name if name != "two" else "<i>two" for name in pairs.class_names]
    rows = [("path", "labels", "split")]
    for i, shown in enumerate(label_sets(pairs.matrix, names)):
        (folder / f"{i}.png").write_bytes(pairs.items.read(i))
        rows.append((f"{i}.png", ";".join(shown), pairs.items.parts[i]))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
        assert cli.run(["fit", str(folder / "labels.csv"), "--multi-label", "-m", "gda", "-o", str(out)]) == 0
    return out


def test_only_the_test_part_is_evaluated(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    page = tmp_path / "page.html"
    given = ["evaluate", str(model), str(folder / "labels.csv")]
    assert cli.run([*given, "--page", str(page), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["n"] == 40
    measured = content["mean_average_precision"]
    assert 0.4 < measured["low"] <= measured["value"] <= measured["high"] <= 1
    assert {row["name"] for row in content["per_class"]} >= {"<i>two", "one"}
    html = page.read_text(encoding="utf-8")
    assert "<i>two" not in html
    assert "&lt;i&gt;two" in html
    assert "missed: " in html
    assert html.count("data:image") >= 10
    assert cli.run(given) == 0
    said = capsys.readouterr().out
    assert f"mean average precision: {100 * measured['value']:.1f} %" in said


def test_fit_ends_with_a_command_that_works(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [(folder / row["path"], row["labels"]) for row in csv.DictReader(file)]
    whole = tmp_path / "whole.csv"
    with whole.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "labels"), *rows])
    for table, command in ((folder / "labels.csv", "evaluate"), (whole, "predict")):
        out = tmp_path / command
        assert cli.run(["fit", str(table), "--multi-label", "-m", "gda", "-o", str(out)]) == 0
        said = capsys.readouterr()
        assert "made for drawings" in said.err  # '<i>two' is no digit
        assert "predicted by models that were not fitted on it: mean average precision" in said.out
        line = said.out.splitlines()[-1]
        assert line.endswith(f"try: modalign {command} {out} {table}")
        assert ("no labeled image is left" in line) is (command == "predict")
        assert cli.run(line.partition("try: modalign ")[2].split()) == 0
        capsys.readouterr()


def test_answers_are_sets(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    out = tmp_path / "answers.csv"
    assert cli.run(["predict", str(model), str(folder), "--out", str(out)]) == 0
    assert "broken.png" in capsys.readouterr().err
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 121
    assert rows[-1]["reason"]
    assert cli.run(["predict", str(model), str(folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [";".join(p["classes"]) or ";" for p in content["predictions"]] == [row["classes"] for row in rows[:-1]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "MODEL", "FOLDER", "--reject", "0.1"], "no --reject where images may show several classes"),
        (["predict", "MODEL", "FOLDER", "--out", "a.parquet"], "ends in .csv or .json"),
        (["evaluate", "MODEL", "TABLE", "--confusion", "a.png"], "no --confusion where"),
        (["evaluate", "MODEL", "TABLE", "--page", "a.txt"], "ends in .html"),
        (["fit", "TABLE", "--multi-label", "-o", "NEW", "--shots", "4"], "no --shots where"),
        (["fit", "TABLE", "--multi-label", "-o", "NEW", "-m", "coop"], "--method as a method on vectors"),
        (["fit", "TABLE", "--multi-label", "-o", "NEW", "-m", "gda", "--time", "5"], "--time with the method auto"),
        (["fit", "TABLE", "--multi-label", "-o", "FOLDER"], "FOLDER"),
        (["export", "MODEL", "-o", "NEW"], "got a multi-label model"),
    ],
)
def test_what_has_no_meaning_for_several_classes_is_refused(
    arguments: list[str],
    words: str,
    model: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    own_cache: None,
) -> None:
    places = {"MODEL": model, "FOLDER": folder, "TABLE": folder / "labels.csv", "NEW": tmp_path / "new"}
    assert cli.run([str(places.get(word, word)) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert words.replace("FOLDER", str(folder)) in error
    assert not (tmp_path / "new").exists()
