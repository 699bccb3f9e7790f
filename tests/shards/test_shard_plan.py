"""What the shards of a source are, and that remote sources are the local ones by another name."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

import modalign as ma
from modalign.core.errors import InputError, UndecodableError
from modalign.data import remote
from modalign.data.digits import load_digits
from modalign.data.interchange.tar_samples import sample_of
from modalign.data.items import Items
from modalign.shards.shard_plan import plan_shards
from modalign.shards.shard_sources import key_of

DIGITS = load_digits().select(range(12))


def tar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def parquet_of(table: arrow.Table, rows: int = 4) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(table, stream, row_group_size=rows)
    return stream.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """One data set in every form: folders, a table, WebDataset archives, and Parquet with bytes and with paths."""
    pictures = [DIGITS.read(i) for i in range(12)]
    names = [DIGITS.class_names[k] for k in DIGITS.labels]
    found = {f"folder/{name}/{i:02d}.png": data for i, (name, data) in enumerate(zip(names, pictures, strict=True))}
    rows = [f"folder/{name}/{i:02d}.png,{name}" for i, name in enumerate(names)]
    found["table.csv"] = "\n".join(["path,label", *rows]).encode()
    for k in range(3):
        samples: dict[str, bytes] = {}
        for i in range(4 * k, 4 * k + 4):
            samples[f"{i:02d}.png"] = pictures[i]
            label = {"cls": str(DIGITS.labels[i])} if i % 2 else {"json": json.dumps({"label": int(DIGITS.labels[i])})}
            samples |= {f"{i:02d}.{ending}": text.encode() for ending, text in label.items()}
            samples[f"{i:02d}.txt"] = b"a caption is no class"
        found[f"tars/part-{k:03d}.tar"] = tar_of(samples)
    labels = arrow.array(DIGITS.labels)
    images = arrow.array([{"bytes": data, "path": None} for data in pictures])
    features = {"label": {"names": list(DIGITS.class_names), "_type": "ClassLabel"}}
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    table = arrow.table({"image": images, "label": labels}).replace_schema_metadata(note)
    found["tables/bytes.parquet"] = parquet_of(table)
    paths = [f"folder/{name}/{i:02d}.png" for i, name in enumerate(names)]
    found["paths.parquet"] = parquet_of(arrow.table({"path": [*paths, "absent.png"], "class": [*names, None]}), 5)
    return found


@pytest.fixture(scope="module")
def local(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("source")
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return str(root)


@pytest.fixture(scope="module")
def memory(files: dict[str, bytes]) -> str:
    store = fsspec.filesystem("memory")
    for name, data in files.items():
        store.pipe(f"/bucket/{name}", data)
    return "memory://bucket"


@pytest.fixture(scope="module")
def web(local: str):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=local))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


SOURCES = {  # source → number of shards, and the name of the class of digit k
    "folder": (3, lambda k: DIGITS.class_names[k]),
    "table.csv": (3, lambda k: DIGITS.class_names[k]),
    "tars": (3, str),
    "tars/part-{000..002}.tar": (3, str),
    "tars/*.tar": (3, str),
    "tables": (3, lambda k: DIGITS.class_names[k]),
    "paths.parquet": (3, lambda k: DIGITS.class_names[k]),
}
ON_THE_WEB = ("table.csv", "tars/part-{000..002}.tar", "paths.parquet")


def contents(source: str) -> list[tuple[bytes, str]]:
    """The bytes and the class of every image that is there, shard by shard."""
    found = []
    for shard in plan_shards(source, 3).shards:
        with shard.open() as items:
            for i, label in enumerate(items.labels):
                with suppress(UndecodableError):
                    found.append((items.read(i), items.class_names[label]))
    return found


CASES = [(place, source) for place in ("local", "memory") for source in SOURCES] + [("web", s) for s in ON_THE_WEB]


@pytest.mark.parametrize(("place", "source"), CASES)
def test_every_source_has_every_image_once_with_its_class(place: str, source: str, request) -> None:
    root = request.getfixturevalue(place)
    count, name_of = SOURCES[source]
    plan = plan_shards(f"{root}/{source}", 3)
    assert len(plan.shards) == count
    assert len({shard.name for shard in plan.shards}) == count
    expected = {(DIGITS.read(i), name_of(DIGITS.labels[i])) for i in range(12)}
    found = contents(f"{root}/{source}")
    assert len(found) == 12
    assert set(found) == expected


def test_rows_that_name_no_file_are_left_out_with_a_reason(local: str, memory: str) -> None:
    with plan_shards(f"{local}/paths.parquet").shards[-1].open() as items:
        assert [(entry.id, entry.reason) for entry in items.quarantined] == [("paths.parquet:2/2", "file not found")]
    with (
        plan_shards(f"{memory}/paths.parquet").shards[-1].open() as items,
        pytest.raises(ma.ModalignError, match="file not found"),
    ):
        items.read(len(items) - 1)


def test_keys_change_with_what_is_computed_and_with_nothing_else(local: str, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "folder"
    shutil.copytree(f"{local}/folder", copy, copy_function=shutil.copy2)

    def keys(source: object, count: int = 3, settings: str = "") -> list[str]:
        return [key_of(shard, settings) for shard in plan_shards(source, count).shards]

    before = keys(f"{local}/folder")
    assert keys(copy) == before == keys(f"{local}/folder")
    assert not set(keys(copy, settings="another encoder")) & set(before)
    assert not set(keys(copy, count=4)) & set(before)
    first = ma.load_items(copy).ids[0]
    (copy / first).write_bytes(DIGITS.read(5) + b" ")
    changed = keys(copy)
    assert [a == b for a, b in zip(before, changed, strict=True)] == [False, True, True]


def test_runs_hold_all_images_in_order_and_differ_by_one_at_most() -> None:
    for count in (1, 2, 5, 12, 50):
        shards = plan_shards(DIGITS, count).shards
        runs: list[Items] = []
        for shard in shards:
            with shard.open() as items:
                runs.append(items)
        assert [name for run in runs for name in run.ids] == list(DIGITS.ids)
        assert max(map(len, runs)) - min(map(len, runs)) <= 1
        assert len(shards) == min(count, 12)


def test_names_of_samples_end_at_the_first_dot() -> None:
    assert [sample_of(name) for name in ("./a.b/01.left.jpg", "01.cls", "x/y.tar.png")] == ["a.b/01", "01", "x/y"]


def test_what_is_no_source_is_refused_in_one_sentence(local: str, memory: str, tmp_path: Path) -> None:
    for source, message in {
        f"{local}/tars/*.zip": "none matches",
        f"{local}/tars/part-{{000..007}}.tar": "does not exist",
        f"{local}/tars/part-{{0..99999999999}}.tar": "at most 1,000,000 files",
        "a\0{0..1}.tar": "does not exist",
        f"{memory}/nothing/": "does not exist or is empty",
        "https://example.org/photos/": "has no folders",
    }.items():
        with pytest.raises(InputError, match=message):
            plan_shards(source)
    (tmp_path / "odd.parquet").write_bytes(parquet_of(arrow.table({"weight": np.arange(3.0)})))
    with pytest.raises(InputError, match="Expected a column named image"):
        plan_shards(tmp_path)
    (tmp_path / "odd.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="Expected a Parquet file of images"):
        plan_shards(tmp_path)


def test_archives_of_one_name_in_several_folders_have_names_and_parts_of_their_own(tmp_path: Path) -> None:
    digits = load_digits()
    for k in range(3):
        (tmp_path / str(k)).mkdir()
        archive = tmp_path / str(k) / "a.tar"
        archive.write_bytes(tar_of({"x/0.png": digits.read(k)}))
        os.utime(archive, (10**9, 10**9))  # as unpacked or copied together
    assert len({os.stat(tmp_path / str(k) / "a.tar").st_size for k in range(3)}) == 1
    for source in (f"{tmp_path}/{{0..2}}/a.tar", f"{tmp_path}/*/a.tar"):
        shards = plan_shards(source).shards
        assert [shard.name for shard in shards] == ["0/a.tar", "1/a.tar", "2/a.tar"]
        assert len({key_of(shard, "") for shard in shards}) == 3


def test_images_beside_archives_are_never_left_out_without_a_word(local: str, tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_bytes(tar_of({"x/0.png": load_digits().read(0)}))
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").touch()
    assert len(plan_shards(tmp_path).shards) == 1
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"either of archives and Parquet files or of images.*'old.tar' beside 'cat'"):
        plan_shards(tmp_path)
    assert len(plan_shards(f"{tmp_path}/*.tar").shards) == 1


def test_fewer_than_one_shard_is_refused() -> None:
    for count in (0, -5):
        with pytest.raises(InputError, match="at least 1"):
            plan_shards(load_digits().select(range(3)), count)


def test_addresses_in_a_list_are_read_only_if_requested(web: str, tmp_path: Path) -> None:
    name = f"{DIGITS.class_names[DIGITS.labels[0]]}/00.png"
    table = tmp_path / "list.csv"
    table.write_text(f"path,label\n{web}/folder/{name},zero\n")
    with pytest.raises(InputError, match="none of them is there"):
        ma.load_items(table)
    items = ma.load_items(table, addresses=True)
    assert items.read(0) == DIGITS.read(0)
    assert ma.load_items([f"{web}/folder/{name}"], addresses=True).read(0) == DIGITS.read(0)


def test_a_table_behind_an_address_reaches_no_other_server(memory: str) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/foreign.csv", b"path,label\nfolder/zero/00.png,a\nhttps://example.org/b.png,b\n")
    items = ma.load_items(f"{memory}/foreign.csv")
    assert [entry.reason for entry in items.quarantined] == ["an address of another server or bucket than the table"]
    store.rm("/bucket/foreign.csv")


def test_passing_failures_are_tried_again_and_missing_files_are_not(memory: str, monkeypatch) -> None:
    failures = [ConnectionError("reset by peer")] * 2

    def fail_now_and_then(self: remote.RemoteBlob) -> bytes:
        if failures:
            raise failures.pop()
        return b"here"

    monkeypatch.setattr(remote, "_PAUSE", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(remote.RemoteBlob, "_fetch", fail_now_and_then)
        assert remote.RemoteBlob("memory://bucket/a.png").read() == b"here"
        failures[:] = [ConnectionError("reset by peer")] * 3
        with pytest.raises(ma.ModalignError, match="cannot be fetched: reset by peer"):
            remote.RemoteBlob("memory://bucket/a.png").read()
    with pytest.raises(ma.ModalignError, match="file not found"):
        remote.RemoteBlob("memory://bucket/absent.png").read()


def test_the_error_for_a_store_without_its_package_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("no module")

    remote._files.cache_clear()
    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"s3:.*pip install s3fs"):
        ma.load_items("s3://bucket/photos")
