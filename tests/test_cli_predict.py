"""``predict`` and ``evaluate``: all answers, whole, in any order and format, and no unrequested file."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from drawings import draw

from modalign import cli, load

FORGED = "\x1b[2J\u202egpj\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
        photos = draw(folder / "photos")
        assert cli.run(["fit", str(photos), "-o", str(folder / "model"), "-m", "zero_shot", "--shots", "4"]) == 0
    return folder / "model"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: None) -> Path:
    """An empty current folder, to check what a command leaves there."""
    box = tmp_path / "box"
    box.mkdir()
    monkeypatch.chdir(box)
    return box


def test_a_file_of_answers_accounts_for_every_image(
    model: Path, photos: Path, box: Path, capsys: pytest.CaptureFixture
) -> None:
    (photos / "disc" / "broken.png").write_bytes(b"no picture")
    table = load(model).predict(photos)
    for name in ("a.csv", "a.json", "a.parquet"):
        assert cli.run(["predict", str(model), str(photos), "--out", name, "--sort", "uncertain"]) == 0
        captured = capsys.readouterr()
        assert "16 images" in captured.out
        assert "disc/broken.png" in captured.err
    assert sorted(os.listdir(box)) == ["a.csv", "a.json", "a.parquet"]
    with Path("a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == {*table.ids, "disc/broken.png"}
    assert len(rows) == 17
    assert rows[-1]["reason"]
    values = [float(row["probability"]) for row in rows[:-1]]
    assert values == sorted(values)
    expected = dict(zip(table.ids, table.probabilities[:, 0].tolist(), strict=True))
    assert {row["id"]: float(row["disc"]) for row in rows[:-1]} == expected
    content = json.loads(Path("a.json").read_text(encoding="utf-8"))
    assert content["model"] == {"method": "ZeroShot", "folder": model.name}
    assert {p["id"]: p["probabilities"]["disc"] for p in content["predictions"]} == expected


def test_json_has_its_sources(model: Path, photos: Path, box: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["predict", str(model), str(photos), "--json", "--top", "2", "--sort", "certain"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["version"]
    assert content["encoder"]["name"] == "tiny"
    assert content["classes"] == ["disc", "square"]
    assert all(list(p["top"].values()) == sorted(p["top"].values(), reverse=True) for p in content["predictions"])
    assert all(len(p["top"]) == 2 for p in content["predictions"])
    assert not os.listdir(box)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--top", "3"), "--top from 1 to 2"),
        (("--sort", "uncertian"), "did you mean 'uncertain'"),
        (("--out", "a.txt"), "ends in .csv"),
        (("--out", "no/such/a.csv"), "to be writable"),
        (("--out", "."), "ends in .csv"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(
    options: tuple[str, ...], words: str, model: Path, photos: Path, box: Path,
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("modalign.model.classifier.answer", lambda *_: pytest.fail("worked"))
    assert cli.run(["predict", str(model), str(photos), *options]) == 2
    assert words in capsys.readouterr().err
    assert not os.listdir(box)


def test_evaluate_writes_only_what_was_requested(
    model: Path, photos: Path, box: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.run(["evaluate", str(model), str(photos), "--include-fitted"]) == 0
    assert "confusion" not in capsys.readouterr().out
    assert cli.run(["evaluate", str(model), str(photos), "--include-fitted", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["picture"] is None
    assert np.sum(content["confusion"]) == content["n"] == 16
    assert not os.listdir(box)
    assert cli.run(["evaluate", str(model), str(photos), "--include-fitted", "--confusion", "c.svg"]) == 0
    assert os.listdir(box) == ["c.svg"]
    for option, name in (("--confusion", "c.gif"), ("--page", "p.txt"), ("--page", "no/p.html")):
        assert cli.run(["evaluate", str(model), str(photos), option, name]) == 2
    assert os.listdir(box) == ["c.svg"]


@pytest.mark.skipif(os.name != "posix", reason="such names are allowed on POSIX only")
def test_untrusted_names_are_shown_whole_and_never_interpreted(
    model: Path, photos: Path, box: Path, capsys: pytest.CaptureFixture
) -> None:
    long = "写真" * 40 + ".png"
    (photos / "disc" / "0.png").rename(photos / "disc" / f"{FORGED}.png")
    (photos / "disc" / "1.png").rename(photos / "disc" / long)
    (photos / "disc" / f"bad{FORGED}.png").write_bytes(b"no picture")
    assert cli.run(["predict", str(model), str(photos)]) == 0
    captured = capsys.readouterr()
    assert not {"\x1b", "\u202e", "\r"} & {*captured.out, *captured.err}
    assert captured.out.count("\n") == 17
    assert long in captured.out
    assert r"disc/\x1b[2J\u202egpj\r\n.png" in captured.out
    assert cli.run(["predict", str(model), str(photos), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert f"disc/{FORGED}.png" in [p["id"] for p in content["predictions"]]
    assert [q["id"] for q in content["quarantined"]] == [f"disc/bad{FORGED}.png"]


def test_the_way_out_of_a_refused_rejection_is_an_option_and_works(
    tmp_path: Path, box: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = str(draw(tmp_path / "more", per_class=10))
    fit = ("fit", photos, "-o", str(tmp_path / "model"), "-m", "zero_shot")
    ask = ("predict", str(tmp_path / "model"), photos, "--reject", "0.05")
    assert cli.run([*fit, "--validation", "2"]) == 0
    assert cli.run([*ask]) == 2
    said = capsys.readouterr().err
    assert "at least 19 held-out images" in said
    assert "fit again with --validation cross, or allow 0.2 or more." in said
    assert cli.run([*ask[:-1], "0.2"]) == 0
    assert cli.run([*fit, "--validation", "cross"]) == 0
    assert cli.run([*ask]) == 0
