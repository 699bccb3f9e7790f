"""Messages name arguments in Python and options on the command line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from modalign import cli
from modalign.cli.options import options_of
from modalign.core import errors
from modalign.core.errors import argument, hyperparameter, options, options_of_method

SOURCE = Path(__file__).parents[1] / "src" / "modalign"
COMMANDS = typer.main.get_command(cli.app).commands
SPELLED_OUT = re.compile(r"(?<![\w<-])[a-z_]+=(?:…|True|False|None|FILE|'\w)")


def literals(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every string of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
    ]


def test_no_message_spells_out_an_argument_itself() -> None:
    found = [
        f"{path.name}:{line}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        if "cli" not in path.parts and path.name != "errors.py"
        for line, text in literals(path)
        if SPELLED_OUT.search(text) and "in Python:" not in text
    ]
    assert not found, "these are read on the command line too; call errors.argument or errors.hyperparameter"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_the_help_is_cut(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "80"}).output
    assert "Usage:" in shown
    assert "…" not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_named_as_it_is_typed(command: str) -> None:
    names = options_of(COMMANDS[command])
    typed = {
        option for parameter in COMMANDS[command].params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {option.split()[0] for option in names.values()} <= typed
    with options(names):
        for name, option in names.items():
            if "=" not in name and name != "hyperparameters":
                assert argument(name) == option


def test_arguments_in_both_languages() -> None:
    assert (argument("classes"), argument("include_fitted", "True")) == ("classes=…", "include_fitted=True")
    assert (argument("method", "gpua"), hyperparameter("steps", owner="CMM")) == ("method='gpua'", "CMM(steps=…)")
    with options(options_of(COMMANDS["evaluate"])):
        assert argument("include_fitted", "True") == "--include-fitted"
    with options(options_of(COMMANDS["fit"])):
        assert (argument("classes"), argument("random_state")) == ("--classes", "--seed")
        assert (argument("method", "gpua"), argument("unlabeled", "True")) == ("--method gpua", "--unlabeled")
        assert (argument("mirror", "False"), hyperparameter("view", "crops")) == ("--no-mirror", "--set view=crops")
        assert hyperparameter("random_state", owner="Auto") == "Auto (--seed …)"
        assert argument("labels") == "labels"
    with options(options_of(COMMANDS["compare"])):
        assert (argument("text"), argument("text", "False")) == ("--text", "--no-text")
        assert hyperparameter("steps", owner="CMM") == "CMM (--set METHOD.steps=…)"
    for command in ("bench", "sweep", "tables"):
        with options(options_of(COMMANDS[command])), options_of_method("cmm"):
            assert hyperparameter("steps") == "--set cmm.steps=…"
    assert argument("classes") == "classes=…"


def test_messages_name_python_arguments_again_after_a_command() -> None:
    for arguments in (["list", "no such thing"], ["list", "methods", "--nope"], ["--help"]):
        cli.run(arguments)
        assert errors.current_options() is None


WRONG = [
    ([], 2),
    (["fti"], 2),
    (["--nope"], 2),
    (["fit"], 2),
    (["fit", "x"], 2),
    (["fit", "x", "--out"], 2),
    (["fit", "x", "-o", "y", "--shots", "few"], 2),
    (["fit", "x", "-o", "y", "--shots", "0"], 2),
    (["fit", "x", "-o", "y", "--shoots", "1"], 2),
    (["predict", "m"], 2),
    (["predict", "m", "x", "--top", "0"], 2),
    (["predict", "m", "x", "--reject", "half"], 2),
    (["list", "methods", "encoders"], 2),
    (["list", "no\x1b[31m"], 2),
    (["compare", "x", "--seeds", "-1"], 2),
    (["evaluate", "m\n\x1b[2J", "x"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), WRONG, ids=[" ".join(map(ascii, a)) or "nothing" for a, _ in WRONG])
def test_whatever_is_typed_wrong_is_one_sentence(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture
) -> None:
    assert cli.run(arguments) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err
    if arguments:  # else the help
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert not captured.out


@given(st.lists(st.text(max_size=8), max_size=4), st.sampled_from([*COMMANDS, ""]))
def test_no_arguments_end_in_a_traceback(arguments: list[str], command: str) -> None:
    """Any words: a sentence, or the command's own refusal of a source that does not exist."""
    arguments = [command, "--zzz", *arguments] if command else ["zzz", *arguments]
    assert cli.run(arguments) == 2


def test_a_terminal_without_the_letters_gets_escapes() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "modalign.cli", "list", "gpua"], capture_output=True, check=False,
        env={"PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(SOURCE.parent)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert rb"\u03bb" in run.stdout  # a lambda
