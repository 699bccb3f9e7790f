"""Outputs never replace what a command reads, and two outputs are two files."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from modalign import cli
from modalign.cli.arguments.given_options import require_apart
from modalign.cli.exit_handling import require_text
from modalign.core.errors import InputError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("multi_label.json", "weights-1.safetensors", "answers.json", "shown.png"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("name", ["multi_label.json", "weights-1.safetensors", "shown.png"])
def test_files_of_a_folder_that_is_read_are_kept(name: str, model: Path) -> None:
    with pytest.raises(InputError, match=f"--out apart from what the command reads, got '.*{name}'"):
        require_apart({"model": model, "out": model / name})


def test_earlier_answers_in_a_model_folder_are_replaced(model: Path) -> None:
    require_apart({"model": model, "out": model / "answers.json"})
    require_apart({"model": model, "out": model / "new.json", "page": model / "page.html"})


@pytest.mark.parametrize("cell", ["{}", '"{}"', "./{}", "ABSOLUTE"])
def test_photos_that_a_list_names_are_kept(cell: str, tmp_path: Path) -> None:
    photo = tmp_path / "zero" / "1.png"
    photo.parent.mkdir()
    photo.write_bytes(b"")
    (tmp_path / "other.png").write_bytes(b"")
    table = tmp_path / "list.csv"
    named = cell.format("zero/1.png").replace("ABSOLUTE", str(photo))
    table.write_text(f"path,label\n{named},zero\n")
    with pytest.raises(InputError, match=r"which belongs to '.*list\.csv'"):
        require_apart({"source": table, "confusion": photo})
    require_apart({"source": table, "confusion": tmp_path / "other.png"})
    require_apart({"source": table, "confusion": tmp_path / "1.png"})


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    given: dict[str, Any] = {"confusion": tmp_path / "a.png", "figure": tmp_path / "b" / ".." / "a.png"}
    with pytest.raises(InputError, match="different files for --confusion and --figure"):
        require_apart(given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "m", "photos", "-o", "parts", "--shards", "2", "--top", "3"], "--top without --shards"),
        (["predict", "m", "photos", "-o", "parts", "--shards", "2", "--sort", "uncertain"], "--sort without --shards"),
        (["audit", "photos", "--check", "copies", "--method", "gda"], "--method with --check labels"),
        (["audit", "photos", "--check", "copies", "--seed", "4"], "--seed with --check labels"),
        (["audit", "photos", "--check", "labels", "--near-identical", "0.9"], "--near-identical with --check copies"),
        (["audit", "photos", "--check", "labels", "--fail-on", "leak"], "--check copies, which finds it"),
        (["segment", "photos", "-o", "masks", "--classes", "a;b", "--transductive"], "--transductive with --fit-on"),
        (["studio", "photos", "--model", "m", "--device", "cpu"], "--device without --model"),
        (["bench", "digits", "--imbalances", "10"], "--imbalances with --protocol long-tail"),
    ],
)
def test_an_option_without_effect_is_refused_before_anything_is_read(arguments: list[str], words: str, capsys) -> None:
    assert cli.run(arguments) == 2
    assert f"error: Expected {words}" in capsys.readouterr().err


def test_empty_text_is_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    """As a path it would be the current folder."""
    for command in get_command(cli.app).commands.values():  # type: ignore[attr-defined]  # a group has commands
        for p in command.params:
            if p.param_type_name == "argument" or p.is_flag or p.default == "":
                continue
            sentence = f"Expected {p.opts[-1]} to have a value, got empty text"
            for words in ([f"{p.opts[-1]}="] if p.opts[-1].startswith("--") else [], [p.opts[-1], ""]):
                with pytest.raises(InputError, match=sentence) if words else nullcontext():
                    require_text(words, command.params)
    assert cli.run(["embed", "", "-o", "f.npz"]) == 2
    assert "every argument to have a value" in capsys.readouterr().err


def test_a_default_may_be_empty_text() -> None:
    with pytest.raises(InputError, match="missing"):  # of the source, not of the option
        cli.app(["segment", "missing", "-o", "masks", "--classes", "a,b", "--background", ""], standalone_mode=False)
