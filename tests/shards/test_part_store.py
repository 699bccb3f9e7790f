"""Parts in an object store: the same bytes as in a folder, one upload each, resumed, and verified."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from modalign.cli import run
from modalign.core.errors import InputError, ModalignError
from modalign.core.features import Features
from modalign.data import remote
from modalign.data.digits import load_digits
from modalign.shards import embed_shards
from modalign.shards.part_store import LocalParts, RemoteParts, part_store

DIGITS = load_digits().select(range(12))


class Bucket(DirFileSystem):
    """A folder as an object store under ``s3://``: files appear by upload, and requests are counted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), LocalFileSystem(auto_mkdir=True))
        self.requests: Counter[str] = Counter()
        self.broken = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://")

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        if self.broken:
            raise PermissionError("Access Denied")
        self.requests["PUT"] += 1
        super().pipe_file(path, value, **options)

    def mv(self, *arguments: Any, **options: Any) -> None:
        raise AssertionError("an object store cannot rename")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    found = Bucket(tmp_path / "store")
    monkeypatch.setattr(remote, "_files", lambda protocol, origin: found)
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "features"
    embed_shards(DIGITS, out, shards=3)
    return out


def content(store: RemoteParts | LocalParts) -> dict[str, bytes]:
    return {name: store.read(name, "a file") for name in store.names() if name.startswith(("part-", "_"))}


def test_an_object_store_holds_the_bytes_of_a_folder(bucket: Bucket, reference: Path) -> None:
    first = embed_shards(DIGITS, "s3://bucket/deep/features", shards=3)
    assert (first.computed, first.finished) == (3, True)
    assert content(RemoteParts("s3://bucket/deep/features")) == content(LocalParts(reference))
    assert bucket.requests["PUT"] == 3 + 2  # card and manifest

    again = embed_shards(DIGITS, "s3://bucket/deep/features/", shards=3)
    assert (again.computed, again.skipped, again.finished) == (0, 3, True)
    assert bucket.requests["PUT"] == 3 + 2 + 1  # the manifest


def test_memory_is_a_store_too(reference: Path) -> None:
    embed_shards(DIGITS, "memory://features-of-digits", shards=3, only=(1, 3))
    rest = embed_shards(DIGITS, "memory://features-of-digits", shards=3)
    assert (rest.computed, rest.skipped) == (2, 1)
    assert content(RemoteParts("memory://features-of-digits")) == content(LocalParts(reference))
    fsspec.filesystem("memory").rm("/features-of-digits", recursive=True)


@pytest.mark.parametrize("where", ["folder", "bucket"])
@pytest.mark.parametrize("damage", ["a byte of the schema", "a byte of a vector", "cut off", "no manifest"])
def test_verify_computes_damaged_parts_again(
    where: str, damage: str, bucket: Bucket, reference: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "features") if where == "folder" else "s3://bucket/features"
    store, whole = part_store(place), content(LocalParts(reference))
    store.prepare()
    for name, data in whole.items():
        store.write(name, data)
    victim = sorted(name for name in whole if name.startswith("part-"))[1]
    spoiled = bytearray(whole[victim])
    spoiled[-400 if "schema" in damage else 900] ^= 1  # vectors lie between bytes 450 and 1,400
    store.write(victim, bytes(spoiled[:2000] if damage == "cut off" else spoiled))
    if damage == "no manifest":
        store.remove("_manifest.json")
    run = embed_shards(DIGITS, place, shards=3, verify=True)
    assert (run.computed, run.skipped, run.finished) == (1, 2, True)
    assert content(store) == whole


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("manifest", ["whole", "cut off"])
@pytest.mark.parametrize("damage", ["flip", "copy", "swap"])
def test_no_damaged_part_enters_the_manifest(
    damage: str, manifest: str, verify: bool, reference: Path, tmp_path: Path
) -> None:
    """Without a manifest and without ``verify``, rows are not read; a part of another shard is refused even then."""
    out = shutil.copytree(reference, tmp_path / "features")
    whole = content(LocalParts(reference))
    first, second = sorted(out.glob("part-*"))[:2]
    spoiled = bytearray(second.read_bytes())
    spoiled[900] ^= 1
    second.write_bytes(bytes(spoiled) if damage == "flip" else whole[first.name])
    if damage == "swap":
        first.write_bytes(whole[second.name])
    if manifest == "cut off":
        (out / "_manifest.json").write_bytes(whole["_manifest.json"][:200])
        if not verify:
            if damage != "flip":
                with pytest.raises(InputError, match=r"it is a copy of the part of 'images \d'.*--verify"):
                    embed_shards(DIGITS, out, shards=3)
            embed_shards(DIGITS, out, shards=3, verify=True)
    assert embed_shards(DIGITS, out, shards=3, verify=verify).finished
    assert content(LocalParts(out)) == whole


def test_hashes_of_other_parts_are_kept_and_not_trusted_alone(reference: Path, tmp_path: Path) -> None:
    """A manifest may name the hash of a damaged part; a run for other shards keeps the hash of the whole one."""
    out = shutil.copytree(reference, tmp_path / "features")
    whole = content(LocalParts(reference))
    entries = json.loads(whole["_manifest.json"])
    victim = out / entries["parts"][1]["file"]
    spoiled = bytearray(victim.read_bytes())
    spoiled[900] ^= 1
    victim.write_bytes(spoiled)
    embed_shards(DIGITS, out, shards=3, only=(0, 3))
    assert content(LocalParts(out))["_manifest.json"] == whole["_manifest.json"]
    entries["parts"][1]["sha256"] = hashlib.sha256(spoiled).hexdigest()
    (out / "_manifest.json").write_text(json.dumps(entries))
    assert embed_shards(DIGITS, out, shards=3, verify=True).computed == 1
    assert content(LocalParts(out)) == whole


def test_a_folder_in_place_of_a_part_is_one_sentence(reference: Path, tmp_path: Path) -> None:
    out = shutil.copytree(reference, tmp_path / "features")
    victim = min(out.glob("part-*"))
    victim.unlink()
    victim.mkdir()
    for verify in (False, True):
        with pytest.raises(InputError, match=rf"{victim.name}.*it is a folder; delete it and run the command again"):
            embed_shards(DIGITS, out, shards=3, verify=verify)


def test_another_content_or_a_refused_upload_is_one_sentence(bucket: Bucket) -> None:
    bucket.pipe_file("bucket/other/notes.txt", b"mine")
    with pytest.raises(InputError, match=r"'s3://bucket/other' holds other files, such as 'notes.txt'"):
        embed_shards(DIGITS, "s3://bucket/other", shards=3)
    bucket.broken = True
    with pytest.raises(ModalignError, match=r"'s3://bucket/new/_card.json' cannot be written: Access Denied"):
        embed_shards(DIGITS, "s3://bucket/new", shards=3)


def test_the_command_takes_an_address(bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(DIGITS.read(i))
    arguments = ["embed", str(tmp_path), "--out", "s3://bucket/features", "--shards", "2", "--verify", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["out"] == "s3://bucket/features"
    assert len([name for name in RemoteParts("s3://bucket/features").names() if name.startswith("part-")]) == 2


def test_the_command_writes_where_its_address_says_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        (photos / f"{i}.png").write_bytes(DIGITS.read(i))
    for address in ("ftp://x", "nosuch://x/y", "https://example.org/x", "memory://x"):
        assert run(["embed", str(photos), "--out", address, "--shards", "2"]) == 2
        assert f"got '{address}'" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    target = tmp_path / "my features"
    assert run(["embed", photos.as_uri(), "--out", target.as_uri(), "--shards", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(target)
    assert run(["embed", photos.as_uri(), "--out", (tmp_path / "one.npz").as_uri()]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my features", "one.npz", "photos"]


@pytest.mark.parametrize("file", ["_card.json", "_manifest.json"])
def test_a_damaged_card_or_manifest_is_said_to_be_damaged(file: str, reference: Path, tmp_path: Path) -> None:
    """Wherever a bit flips: the run is refused, and goes on without the card, or makes the same files again."""
    out = shutil.copytree(reference, tmp_path / "features", ignore=shutil.ignore_patterns("_features*"))
    whole = content(LocalParts(reference))
    for place in range(20, len(whole[file]), 97):
        spoiled = bytearray(whole[file])
        spoiled[place] ^= 4
        (out / file).write_bytes(spoiled)
        found = json_or_none(spoiled)
        if found == json.loads(whole[file]) or (isinstance(found, dict) and "digest" not in found):
            continue  # a flip that changes no value
        with pytest.raises(InputError, match=f"{file}.*(digest|damaged|JSON|UTF-8)"):
            embed_shards(DIGITS, out, shards=3) if file == "_card.json" else Features.open(out)
    if file == "_card.json":
        (out / file).unlink()
    assert embed_shards(DIGITS, out, shards=3, verify=True).computed <= 1  # the last flip may be in a hash
    assert content(LocalParts(out)) == whole


def json_or_none(data: bytes | bytearray) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None
