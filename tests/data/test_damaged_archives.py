"""Damage to an archive never shortens the list silently: each member is read or has a reason."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from bad_files import encoded, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modalign.core.errors import InputError, UndecodableError
from modalign.data.archives import members, tars
from modalign.data.items import Items, load_items

FILES = {f"{c}/{i}.png": encoded(picture(8 + i, 8), "PNG") for c in ("cat", "dog") for i in range(6)}
LONG = "x" * 120  # a name that needs a header of its own
ZIPS = {"stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED, "bzip2.zip": zipfile.ZIP_BZIP2,
        "lzma.zip": zipfile.ZIP_LZMA}  # fmt: skip
TARS = {"ustar.tar": tarfile.USTAR_FORMAT, "gnu.tar": tarfile.GNU_FORMAT, "pax.tar": tarfile.PAX_FORMAT,
        "a.tar.gz": tarfile.GNU_FORMAT, "a.tar.bz2": tarfile.GNU_FORMAT, "a.tar.xz": tarfile.GNU_FORMAT}  # fmt: skip
PLAIN = [kind for kind in TARS if kind.endswith(".tar")]


def packed(folder: Path, kind: str, files: dict[str, bytes] = FILES) -> Path:
    path = folder / kind
    if kind in ZIPS:
        with zipfile.ZipFile(path, "w", ZIPS[kind]) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = "w:" + {".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, mode, format=TARS[kind]) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def headers(path: Path) -> list[int]:
    with tarfile.open(path) as archive:
        return [info.offset for info in archive.getmembers()]


def readable(items: Items) -> dict[str, bytes]:
    found = {}
    for i, name in enumerate(items.ids):
        with suppress(UndecodableError):
            found[name] = items.read(i)
    return found


@pytest.mark.parametrize("kind", [*ZIPS, *TARS])
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_missing_has_a_reason(tmp_path: Path, kind: str, data) -> None:
    whole = tmp_path / kind
    if not whole.exists():
        packed(
            tmp_path,
            kind,
            FILES | {f"cat/{LONG}.png": FILES["cat/0.png"]} if kind in TARS and kind[0] != "u" else FILES,
        )
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "zero", "insert", "remove"])):
        case "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del content[place:]
        case "zero":
            content[place // 512 * 512 : place // 512 * 512 + 512] = bytes(512)
        case "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=600))
        case "remove":
            del content[place : place + data.draw(st.integers(1, 600))]
    damaged = tmp_path / f"damaged-{kind}"
    damaged.write_bytes(content)
    try:
        items = load_items(damaged)
    except InputError:
        return
    told = [*items.quarantined, *items.notes, *(set(items.ids) - readable(items).keys())]
    assert told or FILES.keys() <= set(items.ids)


@pytest.mark.parametrize("kind", ZIPS)
@pytest.mark.parametrize("other", [b"\0", b"\0\0png", b"/", b"\0/x"])
def test_a_file_whose_damaged_name_is_that_of_a_folder_has_a_reason(tmp_path: Path, kind: str, other: bytes) -> None:
    content = packed(tmp_path, kind).read_bytes()
    place = content.rindex(b"cat/3.png") + len(b"cat/")
    damaged = tmp_path / f"damaged-{kind}"
    damaged.write_bytes(content[:place] + other.ljust(5, b"\0") + content[place + 5 :])
    items = load_items(damaged)
    assert items.quarantined
    assert FILES.keys() - set(items.ids) == {"cat/3.png"}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("damage", ["bit", "zeros", "noise"])
def test_one_damaged_header_costs_one_member(tmp_path: Path, kind: str, damage: str) -> None:
    path = packed(tmp_path, kind)
    places = headers(path)
    for number, place in enumerate(places):
        content = bytearray(path.read_bytes())
        if damage == "bit":
            content[place + 150] ^= 1
        else:
            content[place : place + 512] = bytes(512) if damage == "zeros" else bytes(range(256)) * 2
        (tmp_path / "damaged.tar").write_bytes(content)
        items = load_items(tmp_path / "damaged.tar")
        assert readable(items) == {name: data for i, (name, data) in enumerate(FILES.items()) if i != number}
        end = places[number + 1] if number + 1 < len(places) else None
        (lost,) = items.quarantined
        assert f"after member {number}" in lost.reason
        assert f"from byte {place} to {'the end' if end is None else f'byte {end}'}" in lost.reason


@pytest.mark.parametrize("blocks", [0, 1, 2, 20])
def test_only_two_blocks_of_zeros_are_an_end(tmp_path: Path, blocks: int) -> None:
    path = packed(tmp_path, "gnu.tar")
    with tarfile.open(path) as archive:
        archive.getmembers()
        end = archive.offset
    path.write_bytes(path.read_bytes()[:end] + bytes(512 * blocks))
    items = load_items(path)
    assert readable(items) == FILES
    assert bool(items.notes) == (blocks < 2)


def test_an_archive_that_was_not_copied_completely_is_noted(tmp_path: Path) -> None:
    path = packed(tmp_path, "gnu.tar", {f"cat/{i}.png": bytes(9000) for i in range(9)})
    place, size = headers(path)[3], path.stat().st_size
    path.write_bytes(path.read_bytes()[:place] + bytes(size - place))  # as a download that reserved its space
    items = load_items(path)
    assert len(items) == 3
    assert items.notes == (f"the archive ends with {size - place:,} bytes of zeros: if it was not copied completely, "
                           "members are missing",)  # fmt: skip
    path.write_bytes(path.read_bytes()[: place + 1024] + b"junk")
    assert load_items(path).notes == (f"the data after the end mark at byte {place} is not read",)


def test_members_behind_the_end_mark_are_read(tmp_path: Path) -> None:
    first = packed(tmp_path, "ustar.tar", {"cat/1.png": FILES["cat/1.png"]})
    second = packed(tmp_path, "gnu.tar", {"dog/2.png": FILES["dog/2.png"]})
    (tmp_path / "both.tar").write_bytes(first.read_bytes() + second.read_bytes())
    items = load_items(tmp_path / "both.tar")
    assert items.ids == ("cat/1.png", "dog/2.png")
    assert any("behind the end mark" in note for note in items.notes)


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_the_rest_of_a_compressed_tar_is_reported_as_lost(tmp_path: Path, kind: str) -> None:
    plain = packed(tmp_path, "gnu.tar")
    place = headers(plain)[4]
    content = bytearray(plain.read_bytes())
    content[place + 150] ^= 1
    opener = {".gz": tars.gzip.compress, ".bz2": tars.bz2.compress, ".xz": tars.lzma.compress}[Path(kind).suffix]
    (tmp_path / kind).write_bytes(opener(bytes(content)))
    items = load_items(tmp_path / kind)
    assert len(readable(items)) == 4
    (lost,) = items.quarantined
    assert lost.id == f"{kind} (byte {place} unpacked)"
    assert re.search("damaged after member 4: .*; what follows is lost", lost.reason)


def test_a_wrong_checksum_of_a_compressed_tar_is_reported(tmp_path: Path) -> None:
    path = packed(tmp_path, "a.tar.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    items = load_items(path)
    assert any("CRC" in q.reason for q in items.quarantined)


def test_a_table_of_contents_that_names_fewer_members_than_it_declares(tmp_path: Path) -> None:
    path = packed(tmp_path, "stored.zip")
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    entry = content.rindex(b"PK\1\2")
    size = int.from_bytes(content[end + 12 : end + 16], "little") - (end - entry)
    del content[entry:end]  # the last entry of the table
    end = entry
    content[end + 12 : end + 16] = size.to_bytes(4, "little")
    path.write_bytes(content)
    items = load_items(path)
    assert readable(items) == FILES
    assert "declares 12 members and names 11" in items.quarantined[0].reason


@pytest.mark.parametrize("kind", ZIPS)
@pytest.mark.parametrize("damage", ["table", "end", "cut"])
def test_without_its_table_of_contents_a_zip_is_read_from_its_headers(tmp_path: Path, kind: str, damage: str) -> None:
    path = packed(tmp_path, kind)
    content = bytearray(path.read_bytes())
    table = content.index(b"PK\1\2")
    if damage == "table":
        content[table] ^= 1
    elif damage == "end":
        del content[content.rindex(b"PK\5\6") :]
    else:
        del content[table - 20 :]  # and with it the end of the last member
    path.write_bytes(content)
    items = load_items(path)
    assert items.ids == tuple(FILES)
    assert readable(items) == (dict(list(FILES.items())[:-1]) if damage == "cut" else FILES)
    (told,) = items.quarantined
    assert re.fullmatch("its table of contents is damaged or cut off .*; its members are listed from .*", told.reason)
    whole = len(readable(items))
    content[content.index(b"cat/3.png") + 60] ^= 1  # in its data
    (tmp_path / "flipped.zip").write_bytes(content)
    assert len(readable(load_items(tmp_path / "flipped.zip"))) == whole - 1, "checksums are compared here, too"


def test_a_member_whose_size_is_only_in_the_damaged_table_has_a_reason(tmp_path: Path) -> None:
    class Stream(io.RawIOBase):  # which cannot go back to write the size into the header
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    path = tmp_path / "a.zip"
    path.write_bytes(stream.data)
    assert readable(load_items(path)) == FILES
    path.write_bytes(stream.data[:-30])
    items = load_items(path)
    assert not len(items)
    reasons = {q.id: q.reason for q in items.quarantined}
    assert FILES.keys() <= reasons.keys()
    assert "only in the table of contents" in reasons["cat/0.png"]


@pytest.mark.parametrize("kind", ["deflated.zip", "a.tar.gz"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_not_read_to_its_end(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_EXPANDED_ANYWAY", 2**20)
    monkeypatch.setattr(members, "EXPANSION", 10)
    files = {f"cat/{i}.png": bytes(2**18) for i in range(30)}
    items = load_items(packed(tmp_path, kind, files))
    assert len(items) <= 4
    told = [q.reason for q in items.quarantined] + list(items.notes)
    assert any("unpacks to more than 10 times its size" in reason for reason in told)


def test_a_member_gives_no_more_memory_than_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: (asked.append(n), read(self, n))[1])
    for kind in ZIPS:
        asked.clear()
        items = load_items(packed(tmp_path, kind))
        readable(items)
        assert 0 < max(asked) <= max(map(len, FILES.values()))
        assert min(asked) > 0


def test_a_lack_of_memory_is_no_property_of_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = load_items(packed(tmp_path, "stored.zip"))

    def short_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(zipfile.ZipExtFile, "read", short_of_memory)
    with pytest.raises(UndecodableError, match="memory") as raised:
        items.read(0)
    assert not raised.value.lasting
