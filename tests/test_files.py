"""Files: written whole or not at all, read with bounds, refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modalign.core.errors import FullDiskError, InputError
from modalign.core.files import check_writable, remove_temporary_files, replacing, write

LEFT_OVER = ".modalign-0123456789abcdef.tmp"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    assert write(tmp_path / "a", "Grüße, 日本\n").read_bytes() == "Grüße, 日本\n".encode()
    assert write(str(tmp_path / "a"), b"\0\r\n\xff").read_bytes() == b"\0\r\n\xff"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_in_between_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    path = write(tmp_path / "a", "old")
    seen = []

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"new, but only ha")
            seen.extend(names(tmp_path))
            raise failure

    with pytest.raises(InputError if isinstance(failure, OSError) else type(failure)):
        interrupted()
    assert path.read_text() == "old"
    assert len(seen) == 2, "what is written stands beside the file"
    assert names(tmp_path) == ["a"]


def test_the_old_file_is_read_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_existing_file_can_be_kept(tmp_path: Path) -> None:
    assert write(tmp_path / "a", "first", overwrite=False).read_text() == "first"
    assert write(tmp_path / "a", "second", overwrite=False).read_text() == "first"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_the_umask_decides_who_may_read_unless_the_file_is_private(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert stat.S_IMODE(write(tmp_path / "shared", "x").stat().st_mode) == 0o640
        assert stat.S_IMODE(write(tmp_path / "own", "x", private=True).stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_no_link_is_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = write(tmp_path / "victim", "precious")
    (tmp_path / "out").symlink_to(victim)
    (tmp_path / LEFT_OVER).symlink_to(victim)
    tokens = iter(["0123456789abcdef", "fedcba9876543210"])
    monkeypatch.setattr("modalign.core.files.writing.secrets.token_hex", lambda n: next(tokens))
    with pytest.raises(InputError, match="File exists"):  # even a name that was guessed
        write(tmp_path / "out", "new")
    assert write(tmp_path / "out", "new").read_text() == "new"
    assert victim.read_text() == "precious"
    assert not (tmp_path / "out").is_symlink()


def test_a_killed_writer_leaves_nothing_after_the_next_write(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from modalign.core.files import replacing\n"
        "with replacing(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")])
    assert run.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    write(tmp_path / "a", "whole")
    assert names(tmp_path) == ["a"]


def test_a_check_clears_what_a_killed_check_left(tmp_path: Path) -> None:
    for folder in (False, True):
        (tmp_path / LEFT_OVER).write_bytes(b"")
        check_writable(tmp_path / "model", folder=folder)
        assert names(tmp_path) == []


def test_a_running_writer_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from modalign.core.files import replacing\n"
        "with replacing(sys.argv[1]) as file:\n"
        "    file.write(b'slow'); file.flush(); print('begun', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        assert remove_temporary_files(tmp_path) == 0
        write(tmp_path / "b", "fast")
        writer.stdin.close()
    assert writer.returncode == 0
    assert (tmp_path / "a").read_text() == "slow"
    assert names(tmp_path) == ["a", "b"]


def test_only_own_temporary_files_are_swept(tmp_path: Path) -> None:
    kept = [".a.tmp", ".modalign-x.tmp", "modalign-0123456789abcdef.tmp", ".modalign-0123456789abcdef.tmp.png"]
    for name in [*kept, LEFT_OVER]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".modalign-0000000000000000.tmp").mkdir()
    assert remove_temporary_files(tmp_path) == 1
    assert names(tmp_path) == sorted([*kept, ".modalign-0000000000000000.tmp"])
    assert remove_temporary_files(tmp_path / "absent") == 0


@pytest.mark.skipif(os.name == "nt", reason="locks are not used there")
def test_without_locks_only_old_files_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("modalign.core.files.writing.fcntl.flock", no_locks)
    (tmp_path / LEFT_OVER).write_bytes(b"")
    assert remove_temporary_files(tmp_path) == 0
    yesterday = time.time() - 25 * 3600
    os.utime(tmp_path / LEFT_OVER, (yesterday, yesterday))
    assert remove_temporary_files(tmp_path) == 1
    assert write(tmp_path / "a", "x").read_text() == "x"


UNWRITABLE = {
    "missing/a": "its folder '.*missing' does not exist",
    "file/a": "Not a directory",
    "folder": "Is a directory",
    "pipe": "not a regular file",
    "n" * 300: "File name too long",
}


@pytest.mark.skipif(os.name == "nt", reason="the sentences are of POSIX")
@pytest.mark.parametrize("place", UNWRITABLE)
def test_a_file_that_cannot_be_written_is_refused_before_and_while_writing(tmp_path: Path, place: str) -> None:
    write(tmp_path / "file", "x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for attempt in (check_writable, lambda path: write(path, "x")):
        with pytest.raises(InputError, match=f"to be writable, got: .*{UNWRITABLE[place]}"):
            attempt(tmp_path / place)
    assert names(tmp_path) == ["file", "folder", "pipe"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/a", "Not a directory"), ("missing/" + "n" * 300, "File name too long"), ("a\0b", "null")],
)
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    write(tmp_path / "file", "x")
    with pytest.raises(InputError, match=reason):
        check_writable(tmp_path / place, folder=True)
    assert names(tmp_path) == ["file"]


def test_a_link_to_nowhere_is_no_folder_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for place in ("link", "link/model"):
        with pytest.raises(InputError, match="is a link to a place that does not exist"):
            check_writable(tmp_path / place, folder=True)
    assert names(tmp_path) == ["link"]


def test_a_full_disk_is_found_before_any_work_and_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("modalign.core.files.writing.os.write", no_room)
    with pytest.raises(FullDiskError, match="No space left") as caught:
        check_writable(tmp_path / "a")
    assert caught.value.exit_code == 1
    assert names(tmp_path) == []


def test_what_can_be_written_is_not_touched_by_the_check(tmp_path: Path) -> None:
    old = write(tmp_path / "old", "x")
    check_writable(tmp_path / "new")
    check_writable(old)
    check_writable(tmp_path / "a" / "b" / "c", folder=True)
    check_writable(tmp_path, folder=True)
    assert names(tmp_path) == ["old"]
    assert old.read_text() == "x"


def test_a_device_is_never_replaced_by_a_file() -> None:
    with pytest.raises(InputError, match="not a regular file"):
        write(os.devnull, json.dumps({}))
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)
