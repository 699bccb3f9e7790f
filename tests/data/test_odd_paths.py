"""Paths that are none, and files that cannot be read to an end: one sentence or one reason, without touching them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from bad_files import encoded, picture
from hypothesis import given
from hypothesis import strategies as st

import modalign as ma
from modalign import cli
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import Features
from modalign.core.files import check_writable, path_error, plain_path, read_json
from modalign.data.items import load_items

ADDRESSES = ["https://example.org/a.jpg", "s3://bucket/photos", "file:///home/me/a.jpg", "gs://b/c.zip", "HTTP://x/y"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="no pipes and devices there")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("spell", [str, Path], ids=["text", "path"])
@pytest.mark.parametrize(
    "reader",
    [
        lambda a: load_items([a]),
        Features.load,
        lambda a: read_json(a, "names"),
        check_writable,
        ma.load,
        ma.load_encoder,
    ],
    ids=["list", "features", "json", "output", "model", "encoder"],
)
def test_an_address_is_named_as_it_was_given(address: str, spell: type, reader) -> None:
    with pytest.raises(InputError) as raised:
        reader(spell(address))
    assert f"the address '{address}', and addresses are not read" in str(raised.value)
    assert ("give the path '/home/me/a.jpg'" in str(raised.value)) == address.startswith("file:")


def test_addresses_that_no_store_has_are_named_as_a_source_too() -> None:
    for address in ("nosuch://home/a.jpg", "ftp://example.org/a.jpg"):
        with pytest.raises(InputError, match=f"the address '{address}', and addresses are not read"):
            load_items(address)


@POSIX  # elsewhere file systems may not tell the two apart
@pytest.mark.parametrize(
    ("listed", "stored"),
    [(("NFC", "NFC"), ("NFD", "NFD")), (("NFD", "NFD"), ("NFC", "NFC")), (("NFC", "NFC"), ("NFC", "NFD")),
     (("NFD", "NFC"), ("NFC", "NFD"))],
)  # fmt: skip
def test_composed_and_decomposed_letters_name_one_file(
    listed: tuple[str, str], stored: tuple[str, str], tmp_path: Path
) -> None:
    given, there = ("/".join(map(unicodedata.normalize, forms, ("café", "Zoë.png"))) for forms in (listed, stored))
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "a.csv").write_text(f"path,label\n{given},café\n")
    assert load_items(tmp_path / "a.csv").ids == (given,)
    document = {"images": [{"id": 1, "file_name": given}], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(document | {"annotations": [{"image_id": 1, "category_id": 1}]}))
    for source in (tmp_path / "a.csv", tmp_path / "a.json", [tmp_path / given]):
        items = load_items(source)
        assert not items.quarantined
        items.open(0)


def test_a_name_that_no_file_system_takes_is_a_sentence(capsys) -> None:
    name = "x" * 5000
    for command in (["audit", name], ["compare", name], ["predict", name, name], ["bench", name]):
        assert cli.run(command) == 2
        assert capsys.readouterr().err.count("error:") == 1


@pytest.mark.parametrize("spell", [str, Path])
def test_a_file_address_is_its_path(spell: type, tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    (tmp_path / "my photos" / "a.png").write_bytes(encoded(picture(), "PNG"))
    for address in ((tmp_path / "my photos").as_uri(), f"FILE://{tmp_path}/my photos", f"file:///{tmp_path}/my photos"):
        assert load_items(spell(address)).ids == ("a.png",)
        assert Path(plain_path(spell(address))) == tmp_path / "my photos"
    for other in ("https://example.org/a%20b.jpg", "file.txt", "a%20b"):
        assert plain_path(spell(other)) == spell(other)


@given(st.from_regex(r"[A-Za-z0-9 ._\\-]{0,8}(/[A-Za-z0-9 .:_-]{1,8}){0,3}", fullmatch=True))
def test_paths_are_no_addresses(path: str) -> None:
    assert path_error(path) is None


@pytest.mark.parametrize("path", ["C:/photos/a.jpg", "C:\\photos", "a:b", "12:30/x.jpg", "photos//a.jpg", "./x:/y", ""])
def test_colons_alone_make_no_address(path: str) -> None:
    assert path_error(path) is None


def test_addresses_in_a_table_or_list_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "list.csv").write_text("image,label\na.png,x\nhttps://example.org/b.png,y\n")
    for source in (tmp_path / "list.csv", [tmp_path / "a.png", "https://example.org/b.png"]):
        (left_out,) = load_items(source).quarantined
        assert left_out.id == "https://example.org/b.png"
        assert "addresses are not read" in left_out.reason


@POSIX
def test_what_could_block_is_left_out_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    names = ["pipe.png", "zero.png"]
    if Path("/proc/self/status").exists():
        (tmp_path / "kernel.png").symlink_to("/proc/self/status")
        names.append("kernel.png")
    (tmp_path / "list.csv").write_text("image\n" + "\n".join(["a.png", *names]))
    for source in (tmp_path, tmp_path / "list.csv", [tmp_path / name for name in ("a.png", *names)]):
        items = load_items(source)
        reasons = {os.path.basename(q.id): q.reason for q in items.quarantined}
        for i, name in enumerate(items.ids):
            try:
                items.read(i)
            except UndecodableError as error:
                reasons[os.path.basename(name)] = str(error)
        assert reasons == dict.fromkeys(names, "not a regular file")


@POSIX
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "absent.png")
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    items = load_items(tmp_path)
    assert items.ids == ("a.png",)
    assert {q.id: q.reason for q in items.quarantined} == dict.fromkeys(["circle.png", "nowhere.png"], "a broken link")


@POSIX
@pytest.mark.parametrize("name", ["pipe.zip", "pipe.tar.gz", "pipe.csv", "pipe.jpg", "pipe"])
def test_a_pipe_as_source_is_refused_unread(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="not a regular file"):
        load_items(tmp_path / name)


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    for path in ("a\0b", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match="cannot be read"):
            load_items(path)
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    items = load_items([tmp_path / "a.png", "a\0b.png", tmp_path / ("n" * 300)])
    assert len(items) == 1
    assert [q.reason for q in items.quarantined] == ["file not found"] * 2
