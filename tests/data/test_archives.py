"""Archives: read as a folder is, without unpacking, and nothing in them can reach out or blow up."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_files import encoded, picture

from modalign.core.errors import InputError, UndecodableError
from modalign.data import blobs
from modalign.data.archives import members, tars
from modalign.data.archives.archive import leaves_archive
from modalign.data.items import Items, load_items

KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
JPEG = encoded(picture(), "JPEG")


def contents(n: int = 8) -> dict[str, bytes]:
    return {f"{c}/img{i}.png": encoded(picture(8 + i, 8), "PNG") for c in ("cat", "dog") for i in range(n)}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Any names, also those that a well-behaved packer would refuse."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    level = {".gz": {"compresslevel": 1}, ".bz2": {"compresslevel": 1}, ".xz": {"preset": 0}}.get(path.suffix, {})
    with tarfile.open(path, mode, **level) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def reasons(items: Items) -> dict[str, str]:
    return {q.id: q.reason for q in items.quarantined}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_reads_as_the_folder_it_was_made_from(tmp_path: Path, kind: str) -> None:
    for name, data in contents().items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(data)
    folder = load_items(tmp_path / "x")
    items = load_items(pack(tmp_path / f"photos.{kind}", contents()))
    assert items.ids == folder.ids
    assert items.class_names == folder.class_names
    assert items.labels.tolist() == folder.labels.tolist()
    assert [items.read(i) for i in range(len(items))] == [folder.read(i) for i in range(len(items))]
    assert {p.name for p in tmp_path.iterdir()} == {"x", f"photos.{kind}"}, "nothing is unpacked"


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_and_many_threads(tmp_path: Path, kind: str) -> None:
    files = contents()
    items = load_items(pack(tmp_path / f"a.{kind}", files))
    order = list(range(len(items))) * 6
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(items.read, order))
    assert read == [files[items.ids[i]] for i in order]


def test_a_packed_tar_is_read_once_when_threads_are_a_little_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = load_items(pack(tmp_path / "a.tar.gz", contents(20)))
    opened = []
    original = tarfile.open
    monkeypatch.setattr(tars.tarfile, "open", lambda *a, **k: (opened.append(1), original(*a, **k))[1])
    order = [i + j for i in range(0, 40, 4) for j in (2, 0, 3, 1)]
    for i in order:
        items.read(i)
    assert len(opened) == 1


def test_what_is_kept_ahead_in_a_packed_tar_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(20)
    items = load_items(pack(tmp_path / "a.tar.gz", files))
    monkeypatch.setattr(tars, "AHEAD_LIMIT", 800)
    assert items.read(39) == files[items.ids[39]]
    tar = items.blobs[0].archive
    assert sum(map(len, tar._ahead.values())) <= 800
    assert items.read(0) == files[items.ids[0]], "what was not kept is read again from the start"


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_leaves_the_archive(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)
    bad = {
        "../secret.jpg": "leads out",
        "cat/../../secret.jpg": "leads out",
        "..\\secret.jpg": "leads out",
        str(secret): "absolute",
        "C:\\Windows\\x.jpg": "absolute",
        "\\\\server\\share\\x.jpg": "absolute",
        "../passwd": "leads out",
    }
    items = load_items(pack(tmp_path / f"evil.{kind}", {**dict.fromkeys(bad, JPEG), **contents(2)}))
    assert len(items) == 4
    found = reasons(items)
    assert found.keys() == bad.keys()
    assert all(bad[name] in reason for name, reason in found.items())


@pytest.mark.parametrize(
    ("name", "stays"),
    [("a/b.jpg", True), ("./a.jpg", True), ("a..b/c.jpg", True), ("..", False), ("a/..", False), ("/", False),
     ("a\\..\\..\\b", False), ("c:/x", False), ("...", True)],
)  # fmt: skip
def test_which_names_stay_inside(name: str, stays: bool) -> None:
    assert (leaves_archive(name) is None) == stays


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_links_and_devices_of_a_tar_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"links.{kind}"
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for name, data in contents(1).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, type_, target in (
            ("cat/soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("cat/hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"),
            ("cat/inside.jpg", tarfile.LNKTYPE, "cat/img0.png"),
            ("cat/pipe.jpg", tarfile.FIFOTYPE, ""),
            ("cat/device.jpg", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, target
            archive.addfile(info)
    items = load_items(path)
    assert len(items) == 2
    assert {name: reason.split(";")[0] for name, reason in reasons(items).items()} == {
        "cat/soft.jpg": "a link",
        "cat/hard.jpg": "a link",
        "cat/inside.jpg": "a link",
        "cat/pipe.jpg": "not a regular file",
        "cat/device.jpg": "not a regular file",
    }


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", contents(1))
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("cat/soft.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    items = load_items(path)
    assert reasons(items).keys() == {"cat/soft.jpg"}
    assert len(items) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_declare_too_much_are_not_touched(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (blobs, members, tars):
        monkeypatch.setattr(module, "SIZE_LIMIT", 10_000)
    files = {"cat/1.jpg": JPEG, "cat/bomb.jpg": bytes(50_000), "dog/1.jpg": JPEG}
    items = load_items(pack(tmp_path / f"a.{kind}", files))
    assert "too large" in reasons(items)["cat/bomb.jpg"]
    if kind in ("zip", "tar"):
        assert items.ids == ("cat/1.jpg", "dog/1.jpg")
    else:
        assert items.ids == ("cat/1.jpg",)
        assert any("not read beyond" in note for note in items.notes)


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.jpg", bytes(10_000_000))
        archive.writestr("dog/1.jpg", JPEG)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 100)
    path.write_bytes(data)
    items = load_items(path)
    with pytest.raises(UndecodableError, match="damaged in the archive"):
        items.read(0)
    assert items.read(1) == JPEG


def test_encrypted_members_have_a_reason(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", contents(1))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    assert reasons(load_items(path)) == {"cat/img0.png": "encrypted"}


def test_damaged_data_in_a_zip_is_one_bad_item(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"cat/1.jpg": JPEG, "dog/1.jpg": JPEG})
    data = bytearray(path.read_bytes())
    data[data.index(b"JFIF") + 40] ^= 0xFF
    path.write_bytes(data)
    items = load_items(path)
    with pytest.raises(UndecodableError, match="damaged in the archive"):
        items.read(0)
    assert items.read(1) == JPEG


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_was_cut_off(tmp_path: Path, kind: str) -> None:
    noise = random.Random(0)
    files = {f"cat/{i}.jpg": noise.randbytes(30_000) for i in range(40)}
    path = pack(tmp_path / f"a.{kind}", files)
    path.write_bytes(path.read_bytes()[: 30_000 * 30])
    items = load_items(path)
    assert len(items) > 25
    for i in range(len(items) - 1):
        assert items.read(i) == files[items.ids[i]]
    try:
        assert items.read(len(items) - 1) == files[items.ids[-1]]
    except UndecodableError:
        return
    assert items.quarantined or any("cut off" in note for note in items.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_archive_is_an_error_in_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(JPEG)
    with pytest.raises(InputError, match="Expected an archive"):
        load_items(path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_wrapping_folders_macos_rubbish_and_duplicates(tmp_path: Path, kind: str) -> None:
    files = {f"photos/{name}": data for name, data in contents(2).items()}
    files |= {"__MACOSX/photos/cat/._img0.png": b"x", "photos/.DS_Store": b"x", "photos/readme.txt": b"x"}
    items = load_items(pack(tmp_path / f"photos.{kind}", files))
    assert items.class_names == ("cat", "dog")
    assert len(items) == 4
    assert any("2 hidden files" in note for note in items.notes)


def test_a_flat_folder_called_as_the_archive_is_no_class(tmp_path: Path) -> None:
    assert load_items(pack(tmp_path / "trip.zip", {"trip/1.jpg": JPEG, "trip/2.jpg": JPEG})).class_names == ()
    assert load_items(pack(tmp_path / "other.zip", {"trip/1.jpg": JPEG, "trip/2.jpg": JPEG})).class_names == ("trip",)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"a.{kind}", {"cat/1.jpg": JPEG, "./cat/1.jpg": b"newer", "dog/1.jpg": JPEG})
    items = load_items(path)
    assert items.ids == ("cat/1.jpg", "dog/1.jpg")
    assert items.read(0) == b"newer"
    assert any("twice" in note for note in items.notes)


def test_identity_is_the_archives_with_the_member_behind_it(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", contents(1))
    items = load_items(path)
    status = os.stat(path)
    assert items.identity(0) == (
        f"{path}!cat/img0.png", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
    )  # fmt: skip
    assert items.identity(0) != items.identity(1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_vanishes(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"a.{kind}", contents(1))
    items = load_items(path)
    path.unlink()
    assert items.identity(0) is None
    with pytest.raises(UndecodableError, match="file not found"):
        items.read(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_forked_process_reads_for_itself(tmp_path: Path, kind: str) -> None:
    files = contents()
    items = load_items(pack(tmp_path / f"a.{kind}", files))
    items.read(0)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        right = all(items.read(i) == files[items.ids[i]] for i in range(1, len(items)))
        os.write(writer, b"1" if right else b"0")
        os._exit(0)
    assert all(items.read(i) == files[items.ids[i]] for i in range(1, len(items)))
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
