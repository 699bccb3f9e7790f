"""Reading files of unknown origin: what is accepted keeps its promises, everything else is one sentence."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.core.files import npz as arrays_module
from modalign.core.files import open_regular, parse_json, read_bytes, read_json, read_npz, read_text
from modalign.core.files.reading import DEPTH_LIMIT

ONCE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(path: Path, reader=read_json, what: str = "a split file") -> str:
    with pytest.raises(InputError) as raised:
        reader(path, what)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"Expected {what}")
    assert raised.value.__cause__ is None
    return sentence


# --- any file


@pytest.mark.skipif(os.name == "nt", reason="no pipes and devices there")
@pytest.mark.parametrize("reader", [read_json, read_npz, read_text, read_bytes])
def test_what_could_block_or_never_end_is_refused_unread(tmp_path: Path, reader) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe", reader)
    assert "not a regular file" in refusal(Path("/dev/zero"), reader)
    assert "is a folder" in refusal(tmp_path, reader)
    if Path("/proc/self/status").exists():
        assert "not a regular file" in refusal(Path("/proc/self/status"), reader)


def test_a_missing_file_gets_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text("[]")
    assert "does not exist. Did you mean 'names.json'?" in refusal(tmp_path / "nams.json")
    assert refusal(tmp_path / "nothing.json").endswith("does not exist.")  # the ending alone is alike
    assert refusal(tmp_path / "absent" / "x").endswith("does not exist.")
    assert "cannot be the name of a file" in refusal("a\0b")


def test_an_error_while_reading_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read: Input/output error"), open_regular(tmp_path / "a", "a file"):
        raise OSError(5, "Input/output error")


def test_size_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", "a file", 5) == b"12345"
    with pytest.raises(InputError, match="a file of at most"):
        read_bytes(tmp_path / "a", "a file", 4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_of_every_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes('["Grüße", "日本"]'.encode(encoding))
    assert read_json(tmp_path / "a", "names") == ["Grüße", "日本"]


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("Grüße".encode("latin-1"))
    assert "in UTF-8" in refusal(tmp_path / "a", read_text)


# --- JSON

BROKEN = {
    "[" * 100_000: "nested deeper",
    '{"a":' * 2_000 + "1" + "}" * 2_000: "nested deeper",
    "[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1): "nested deeper",
    "9" * 5_000: "does not fit into 64 bits",
    "-9223372036854775809": "does not fit into 64 bits",
    "NaN": "not finite",
    "[-Infinity]": "not finite",
    "1e999": "not finite",
    '{"a": 1, "a": 2}': "'a' appears twice",
    '"\\ud800"': "surrogate",
    "": "line 1, column 1",
    "[1,\n2,]": "line 2, column",
    "['a']": "line 1",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:20])
def test_json_outside_the_limits_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert BROKEN[text] in refusal(tmp_path / "a.json")


def test_json_inside_the_limits_is_parsed_as_json() -> None:
    text = "[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT
    assert parse_json(text, "it") == json.loads(text)
    text = '{"a": [1, -9223372036854775808, 18446744073709551615, 0.5, null, true, "\\ud83d\\ude00"]}'
    assert parse_json(text, "it") == json.loads(text)


@given(st.text(alphabet='[]{}",:0123456789eE+-.tfnull\\ud8NaIy \n', max_size=60))
@example('{"a":NaN}')
@ONCE
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        content = parse_json(text, "it")
    except InputError:
        return
    assert json.loads(json.dumps(content, allow_nan=False)) == content


# --- arrays


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def with_members(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


EXAMPLES = {
    "half": np.arange(12, dtype=np.float16).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "scalar": np.array("a card"),
    "none": np.empty((0, 5), np.float32),
    "no text": np.array([], dtype=np.str_),
    "names": np.array(["é", "日本", ""]),
    "flags": np.array([True, False]),
    "codes": np.array([1, 2**64 - 1], dtype=np.uint64),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_in_their_own_type(tmp_path: Path, save) -> None:
    save(tmp_path / "a.npz", **EXAMPLES, swapped=np.arange(3, dtype=">f4"))
    found = read_npz(tmp_path / "a.npz", "a file")
    np.testing.assert_array_equal(found.pop("swapped"), np.arange(3, dtype=np.float32), strict=True)
    assert found.keys() == EXAMPLES.keys()
    for name, array in EXAMPLES.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def declaring(shape: str) -> bytes:
    """An array of 8 floats whose header promises another shape."""
    data = npy(np.zeros(8))
    return data.replace(b"(8,), }" + b" " * (len(shape) - 4), shape.encode() + b", }")


REFUSED = {
    "pickle": (npy(np.array([{"run": "me"}], dtype=object)), "numbers or strings"),
    "record": (npy(np.zeros(2, dtype=[("a", "f4")])), "numbers or strings"),
    "complex": (npy(np.zeros(2, complex)), "numbers or strings"),
    "time": (npy(np.zeros(2, "M8[s]")), "numbers or strings"),
    "bytes": (npy(np.array([b"a"])), "numbers or strings"),
    "nan": (npy(np.array([0.0, np.nan])), "'x' holds NaN or infinity"),
    "infinity": (npy(np.array([np.inf], np.float16)), "'x' holds NaN or infinity"),
    "negative shape": (declaring("(-8,)"), "the array 'x'"),
    "rows of nothing": (declaring("(99999999999999, 0)"), "has the shape"),
    "short": (npy(np.zeros(8))[:-1], "shorter or longer"),
    "long": (npy(np.zeros(8)) + b"\0", "shorter or longer"),
    "huge shape": (declaring("(99999999999999,)"), "shorter or longer"),
    "no array": (b"text", "damaged|is not one"),
    "empty": (b"", "damaged"),
    "header is code": (npy(np.zeros(8)).replace(b"{'descr'", b"exit(42)"), "damaged"),
    "long header": (b"\x93NUMPY\2\0" + (2**31).to_bytes(4, "little") + b" " * 99, "damaged"),
    "no character": (npy(np.array(["ab"])).replace(b"a\0\0\0", b"\xff\xff\xff\x7f"), "characters that do not exist"),
    "half a pair": (npy(np.array(["ab"])).replace(b"a\0\0\0", b"\0\xd8\0\0"), "characters that do not exist"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_arrays_are_refused_by_name(tmp_path: Path, name: str) -> None:
    data, reason = REFUSED[name]
    path = with_members(tmp_path / "a.npz", {"x.npy": data})
    with pytest.raises(InputError, match=reason) as raised:
        read_npz(path, "a features file (.npz)")
    assert "allow_pickle" not in str(raised.value)


def test_an_array_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    path = with_members(tmp_path / "a.npz", {"vectors.npy": npy(np.eye(2)), "labels.txt": b"1"})
    assert "'labels.txt', which is not an array" in refusal(path, read_npz)
    np.save(tmp_path / "a.npy", np.eye(2))
    assert "single array" in refusal(tmp_path / "a.npy", read_npz)


def test_what_unpacks_to_far_more_than_its_size_is_refused_before_memory_is_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(arrays_module, "_EXPANDED_ANYWAY", 2**16)
    path = with_members(tmp_path / "a.npz", {"x.npy": npy(np.zeros(2**20))}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    assert "more than 100 times its size" in refusal(path, read_npz)


def test_too_many_arrays_are_refused(tmp_path: Path) -> None:
    members = {f"{i}.npy": b"" for i in range(arrays_module.MEMBER_LIMIT + 1)}
    assert "1001 arrays" in refusal(with_members(tmp_path / "a.npz", members), read_npz)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@given(data=st.data())
@ONCE
def test_a_damaged_file_gives_the_same_arrays_or_one_sentence(tmp_path: Path, method: int, data) -> None:
    whole = {"vectors.npy": npy(EXAMPLES["half"]), "names.npy": npy(EXAMPLES["names"]), "card.npy": npy(np.array("{}"))}
    content = bytearray(with_members(tmp_path / "whole.npz", whole, method).read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged.npz").write_bytes(content)
    try:
        found = read_npz(tmp_path / "damaged.npz", "a file")
    except InputError:
        return
    for name, array in found.items():
        original = {"vectors": EXAMPLES["half"], "names": EXAMPLES["names"]}.get(name, array)
        np.testing.assert_array_equal(array, original, strict=True)
