"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalign.errors import InputError
from modalign.files import replacing, write


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    assert write(tmp_path / "a", "Grüße, 日本\n").read_bytes() == "Grüße, 日本\n".encode()
    assert write(str(tmp_path / "a"), b"\0\r\n\xff").read_bytes() == b"\0\r\n\xff"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_in_between_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    path = write(tmp_path / "a", "old")
    seen = []

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"new, but only ha")
            seen.extend(p.name for p in tmp_path.iterdir())
            raise failure

    with pytest.raises(InputError if isinstance(failure, OSError) else type(failure)):
        interrupted()
    assert path.read_text() == "old"
    assert len(seen) == 2, "what is written stands beside the file"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_old_file_is_read_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_place_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'.*missing/a' to be writable, got: No such file or directory"):
        write(tmp_path / "missing" / "a", "x")
    write(tmp_path / "file", "x")
    with pytest.raises(InputError, match="to be writable, got: Not a directory"):
        write(tmp_path / "file" / "a", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="to be writable, got: Is a directory"):
        write(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
