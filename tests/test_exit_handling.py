"""How commands end: unwritable outputs are refused before any work, an interruption is reported with what is kept, and
an unexpected error is one sentence and a report.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import modalign
from modalign.cli import exit_handling, run
from modalign.cli.exit_handling import what_is_kept
from modalign.cli.terminal import command_line
from modalign.core.display import visible
from modalign.core.files import write
from modalign.core.progress import track
from modalign.encoders.features.store import default_cache
from modalign.tune.training_state import FORMAT

pytestmark = pytest.mark.usefixtures("own_cache")
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and devices of POSIX")


def cli(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modalign.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


# --- outputs

OUTPUTS = {
    "embed": (["embed", "SOURCE", "--out"], ".npz"),
    "fit": (["fit", "SOURCE", "--out"], ""),
    "fit checkpoint": (["fit", "SOURCE", "--method", "maple", "--out", "NEW", "--checkpoint"], ""),
    "predict": (["predict", "MODEL", "SOURCE", "--out"], ".csv"),
    "evaluate page": (["evaluate", "MODEL", "SOURCE", "--page"], ".html"),
    "evaluate confusion": (["evaluate", "MODEL", "SOURCE", "--confusion"], ".svg"),
    "search page": (["search", "SOURCE", "a cat", "--page"], ".html"),
    "audit page": (["audit", "SOURCE", "--page"], ".html"),
    "audit out": (["audit", "SOURCE", "--out"], ".json"),
    "compare page": (["compare", "SOURCE", "--page"], ".html"),
    "compare record": (["compare", "SOURCE", "--record"], ".jsonl"),
    "demo": (["demo", "--out"], ".html"),
}
PLACES = ["below a file", "a file name too long", "the file system of the kernel", "an address", "a device"]


@POSIX
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, output: str, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, ending = OUTPUTS[output]
    write(tmp_path / "file", "x")
    (tmp_path / f"device{ending}").symlink_to("/dev/full")
    path = {
        "below a file": tmp_path / "file" / f"out{ending}",
        "a file name too long": tmp_path / ("n" * 300 + ending),
        "the file system of the kernel": f"/proc/sys/out{ending}",
        "an address": f"s3://bucket/out{ending}",
        "a device": tmp_path / f"device{ending}",
    }[place]
    monkeypatch.setattr("modalign.data.items._list_path", lambda *_, **__: pytest.fail("work has begun"))
    monkeypatch.setattr("modalign.model.loading_models.load_model", lambda *_: pytest.fail("work has begun"))
    monkeypatch.setattr("modalign.cli.demo.load_digits", lambda: pytest.fail("work has begun"))
    names = {"SOURCE": tmp_path / "images", "MODEL": tmp_path / "model", "NEW": tmp_path / "new"}
    assert run([*(str(names.get(a, a)) for a in arguments), str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Expected")
    assert said.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"device{ending}", "file"]


@POSIX
@pytest.mark.skipif(shutil.which("bash") is None, reason="asks a shell")
@pytest.mark.parametrize(
    "name", ["plain", "-m", "a b'c", "\x1b[31m$x", "line\nbreak\\", "é\u202e", os.fsdecode(b"\xff1")]
)
def test_a_printed_command_names_the_file_in_a_shell(name: str) -> None:
    line = command_line("evaluate", Path(name), "--split", Path("b"))
    assert line == visible(line)
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, env=environment).stdout
    expected = [f"./{name}" if name.startswith("-") else name, "--split", "b"]
    assert list(map(os.fsdecode, words.split(b"\0")[2:-1])) == expected


def test_a_folder_without_rights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def denied(path: object, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("modalign.core.files.writing.os.open", denied)
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "model")]) == 2
    assert "to be writable, got: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--checkpoint"])
def test_what_an_interrupted_run_left_is_no_foreign_file(tmp_path: Path, option: str, capsys) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / f"weights-{'0' * 64}.safetensors", "x")
    write(folder / f"state-{'0' * 64}.safetensors", "x")
    (folder / ".modalign-0123456789abcdef.tmp").touch()
    own, foreign = ("weights", "state") if option == "--out" else ("state", "weights")
    command = ["fit", str(tmp_path / "absent"), "--out", str(tmp_path / "out"), option, str(folder)]
    assert run(command) == 2
    assert f"'{foreign}-000" in capsys.readouterr().err
    next(folder.glob(f"{foreign}-*")).unlink()
    assert run(command) == 2
    assert "does not exist" in capsys.readouterr().err, "the folder is taken, the images are missing"
    assert list(folder.glob(f"{own}-*"))


# --- stopped

KEPT = {
    "embed": ({}, ["image vectors computed so far in the cache"]),
    "list": ({}, []),
    "fit": ({"checkpoint": "state"}, ["image vectors", "the training up to its last checkpoint in"]),
    "compare": ({"record": "runs.jsonl"}, ["image vectors", "finished runs in"]),
}


@pytest.mark.parametrize("command", KEPT)
def test_what_is_kept_is_reported_only_where_it_exists(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, words = KEPT[command]
    options = {name: tmp_path / value for name, value in options.items()}
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "cache"))
    assert what_is_kept(command, options) == "stopped"
    default_cache().mkdir()
    (tmp_path / "state").mkdir()
    write(tmp_path / "state" / FORMAT.file, "{}")
    write(tmp_path / "runs.jsonl", "")
    sentence = what_is_kept(command, options)
    assert all(word in sentence for word in words)
    assert sentence.startswith("stopped")
    assert ("run the same command to continue" in sentence) == bool(words)


def test_ctrl_c_before_a_command_begins_is_one_word_too(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modalign.cli.options.options", interrupted)
    assert run(["list", "methods"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@POSIX
@pytest.mark.parametrize("command", ["embed", "compare"])
def test_ctrl_c_is_one_sentence_and_130(tmp_path: Path, photos: Path, command: str) -> None:
    cache = tmp_path / "cache"
    arguments = [str(photos), "--out", str(tmp_path / "x.npz")] if command == "embed" else [str(photos), "--jobs", "2"]
    slow = (
        "import sys, time, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent may have switched it off
        "from modalign.encoders.features import extraction\n"
        "decode = extraction.decode\n"
        "extraction.decode = lambda data, **how: (time.sleep(0.05), decode(data, **how))[1]\n"
        "from modalign.cli import main\n"
        "if __name__ == '__main__': main()\n"
    )
    write(tmp_path / "slow.py", slow)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), command, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=os.environ | {"MODALIGN_CACHE": str(cache)},
    )  # fmt: skip
    while process.poll() is None and not list(cache.rglob("*.sqlite")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    sentence = f"stopped; kept: image vectors computed so far in the cache '{cache}'; run the same command to continue"
    assert said.splitlines() == [sentence]


# --- unforeseen


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    def arrange(error: BaseException) -> list[str]:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("modalign.cli.overview.listing", fail)
        return ["list", "methods"]

    return arrange


def test_an_error_of_ours_is_a_sentence_and_a_private_report(tmp_path: Path, failing, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    command = failing(KeyError(f"{tmp_path / 'home'}/photos"))
    assert run(command) == exit_handling.UNFORESEEN == 70
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"error: unexpected KeyError \(.*\); this is a bug, please report it with the file '.*'\n", said
    )
    path = Path(said.rsplit("'", 2)[1])
    assert path.parent == tmp_path / "home" / "cache" / "reports"
    text = path.read_text()
    assert "command: modalign list methods" in text
    assert "Traceback" in text
    assert f"modalign: {modalign.__version__}" in text
    assert str(tmp_path / "home") not in text
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_report_finds_another_place_or_is_printed(tmp_path: Path, failing, monkeypatch, capsys) -> None:
    write(tmp_path / "file", "x")
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "file" / "cache"))
    command = failing(ZeroDivisionError())
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert run(command) == 70
    assert len(list(tmp_path.glob("error-*.txt"))) == 1
    capsys.readouterr()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    assert run(command) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "No space left on device: 'x'"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_what_the_machine_lacks_is_no_bug(failing, error: Exception, words: str, capsys) -> None:
    assert run(failing(error)) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@POSIX
def test_a_closed_output_pipe_is_no_bug() -> None:
    command = [sys.executable, "-m", "modalign.cli"]
    for arguments in (["list"], ["--help"], ["list", "--json"]):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() in (0, 1, exit_handling.NO_READER)
    with open("/dev/full", "w") as full:
        no_space = subprocess.run([*command, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (no_space.returncode, no_space.stderr) == (1, "error: No space left on device\n")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command, "list"], capture_output=True, text=True)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_service_may_have_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert list(track(range(3), "Steps")) == [0, 1, 2]


def test_the_version_has_one_source(capsys) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"modalign {modalign.__version__}\n"
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"(?m)^version = ", project)
    if shutil.which("modalign"):
        assert version("modalign") == modalign.__version__
