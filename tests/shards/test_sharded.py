"""Sharded work: each image once, with any workers, kills and divisions."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, active_children
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

import modalign as ma
from modalign import cli
from modalign.core.child_processes import usable_cpus
from modalign.core.errors import InputError, ModalignError
from modalign.core.part_files import is_features_source, stream_parts
from modalign.data.digits import load_digits
from modalign.shards import embed_shards, predict_shards, workers
from modalign.shards.shard_jobs import EmbeddingJob
from modalign.shards.workers import gpu_of, in_processes

COUNT, SHARDS = 48, 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 digits in a folder per class, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    digits = load_digits().select(range(COUNT))
    for i, name in enumerate(digits.ids):
        folder = root / digits.class_names[digits.labels[i]]
        folder.mkdir(exist_ok=True)
        (folder / Path(name).name).write_bytes(digits.read(i))
    (root / "one" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def reference(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts as one process makes them."""
    out = tmp_path_factory.mktemp("reference") / "features"
    embed_shards(photos, out, shards=SHARDS)
    return out


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def rows_of(folder: Path) -> list[str]:
    return [name for path in sorted(folder.glob("part-*")) for name in parquet.read_table(path)["id"].to_pylist()]


def test_parts_hold_what_one_call_embeds(photos: Path, reference: Path) -> None:
    direct = ma.load_encoder("tiny", cache=False).embed_images(photos)
    opened = ma.Features.open(reference)
    assert opened.ids == direct.ids
    assert opened.class_names == direct.class_names
    assert (opened.labels == direct.labels).all()
    assert opened.quarantined == direct.quarantined
    assert opened.spec == direct.spec
    assert isinstance(opened.vectors, np.memmap)
    assert (opened.vectors == direct.vectors.astype(np.float16)).all()
    contents = [content for part in stream_parts(reference) for content in part.contents]
    assert contents == [hashlib.sha256((photos / name).read_bytes()).digest() for name in direct.ids]


def test_a_second_run_computes_nothing_and_changes_nothing(photos: Path, reference: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in reference.glob("part-*")}
    again = embed_shards(photos, reference, shards=SHARDS)
    assert (again.computed, again.skipped, again.finished) == (0, SHARDS, True)
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in reference.glob("part-*")}


def test_a_run_that_was_stopped_computes_only_what_is_missing(photos: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    shutil.copytree(reference, out)
    for path in sorted(out.glob("part-*"))[:2]:
        path.unlink()
    (out / "_manifest.json").unlink()
    with pytest.raises(InputError, match="run the same command again to finish it"):
        ma.Features.open(out)
    assert embed_shards(photos, out, shards=SHARDS).computed == 2
    assert parts_of(out) == parts_of(reference)


def test_a_changed_image_costs_its_shard_alone(photos: Path, reference: Path, tmp_path: Path) -> None:
    source, out = tmp_path / photos.name, tmp_path / "features"
    shutil.copytree(photos, source, copy_function=shutil.copy2)
    shutil.copytree(reference, out)
    name = ma.load_items(source).ids[0]
    (source / name).write_bytes(load_digits().read(60))
    assert embed_shards(source, out, shards=SHARDS).computed == 1
    features = ma.Features.open(out)
    assert len(features) == COUNT
    assert not (features.vectors[0] == ma.Features.open(reference).vectors[0]).all()


def test_calls_that_know_nothing_of_each_other_divide_the_shards(photos: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    first = embed_shards(photos, out, shards=SHARDS, only=(0, 2))
    assert (first.computed, first.finished) == (3, False)
    assert not (out / "_manifest.json").exists()
    second = embed_shards(photos, out, shards=SHARDS, only=(1, 2))
    assert (second.computed, second.finished) == (3, True)
    assert parts_of(out) == parts_of(reference)
    with pytest.raises(InputError, match=r"got 2/2"):
        embed_shards(photos, out, shards=SHARDS, only=(2, 2))


def test_another_view_type_or_source_is_refused(photos: Path, reference: Path, tmp_path: Path) -> None:
    for job, what in (
        (EmbeddingJob(view="mirror"), "view"),
        (EmbeddingJob(store_type="float32"), "type"),
    ):
        with pytest.raises(InputError, match=rf"holds parts with {what} of another run"):
            embed_shards(photos, reference, job, shards=SHARDS)
    with pytest.raises(InputError, match="source"):
        embed_shards(load_digits().select(range(9)), reference)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        embed_shards(photos, tmp_path)


def test_answers_are_those_of_the_model(photos: Path, tmp_path: Path) -> None:
    model = ma.adapt(photos, method="zero_shot", mirror=False)
    folder = model.save(tmp_path / "model")
    run = predict_shards(folder, photos, tmp_path / "answers", shards=4)
    assert (run.rows, run.unreadable, run.finished) == (COUNT, 1, True)
    manifest = json.loads((tmp_path / "answers" / "_manifest.json").read_text())
    tables = [parquet.read_table(tmp_path / "answers" / part["file"]) for part in manifest["parts"]]
    rows = [row for table in tables for row in table.to_pylist() if row["reason"] is None]
    direct = model.predict(photos)
    assert [row["id"] for row in rows] == list(direct.ids)
    assert [row["name"] for row in rows] == list(direct.names)
    found = np.array([row["probabilities"] for row in rows])
    assert np.abs(found - direct.probabilities).max() < 1e-5
    assert json.loads(tables[0].schema.metadata[b"modalign"])["classes"] == list(model.class_names)
    assert predict_shards(folder, photos, tmp_path / "answers", shards=4).computed == 0

    embed_shards(photos, tmp_path / "features", EmbeddingJob(store_type="float32"), shards=3)
    run = predict_shards(folder, tmp_path / "features", tmp_path / "from vectors")
    assert (run.shards, run.rows, run.unreadable, run.finished) == (3, COUNT, 1, True)
    manifest = json.loads((tmp_path / "from vectors" / "_manifest.json").read_text())
    tables = [parquet.read_table(tmp_path / "from vectors" / part["file"]) for part in manifest["parts"]]
    again = {row["id"]: row for table in tables for row in table.to_pylist()}
    for row in rows:
        np.testing.assert_allclose(again[row["id"]].pop("probabilities"), row.pop("probabilities"), atol=1e-5)
        assert again[row["id"]] | {"probability": 0} == row | {"probability": 0}
    assert cli.run(["predict", str(folder), str(tmp_path / "features"), "--out", str(tmp_path / "answers.csv")]) == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 1 + COUNT + 1
    with pytest.raises(InputError, match="Expected images to embed, got a folder of vectors"):
        embed_shards(tmp_path / "features", tmp_path / "more")


def test_a_shard_without_a_single_image_has_reasons_for_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.png", "b.png"):
        (source / name).write_bytes(b"no image")
    (source / "c.png").write_bytes(load_digits().read(0))
    run = embed_shards(source, tmp_path / "features", shards=3)
    assert (run.rows, run.unreadable) == (1, 2)
    assert [entry.id for entry in ma.Features.open(tmp_path / "features").quarantined] == ["a.png", "b.png"]


def test_a_missing_or_damaged_part_is_named(photos: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns("_features*"))
    part = sorted(out.glob("part-*"))[3]
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    with pytest.raises(InputError, match=f"{part.name}.*damaged|{part.name}"):
        ma.Features.open(out)
    part.unlink()
    with pytest.raises(InputError, match="does not exist"):
        ma.Features.open(out)


def test_more_processes_than_processors_are_refused() -> None:
    for count, threads in ((10_000, None), (1, 10_000), (0, 1)):
        with pytest.raises(InputError, match=r"Expected at most \d+ processes × threads"):
            in_processes(count, threads)


def test_each_process_has_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [gpu_of(k)["CUDA_VISIBLE_DEVICES"] for k in range(3)] == ["3", "5", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert gpu_of(1) == {}


def test_a_failure_in_a_process_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "follow_parent", lambda: None)
    for thing in ("set_num_threads", "share_cpus"):
        monkeypatch.setattr(workers.torch if thing.startswith("set") else workers, thing, lambda count: None)
    ours, theirs = Pipe()
    workers._serve(theirs, EmbeddingJob("no-such-encoder"), tmp_path, 1, None)
    assert "no-such-encoder" in ours.recv().message
    monkeypatch.setattr(EmbeddingJob, "start", lambda self: 1 / 0)
    workers._serve(theirs, EmbeddingJob(), tmp_path, 1, None)
    assert ours.recv().message.startswith("A worker process failed: ZeroDivisionError (division by zero) in ")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_killed_workers_and_drivers_lose_and_repeat_nothing(photos: Path, reference: Path, tmp_path: Path) -> None:
    out, draw = tmp_path / "features", random.Random(0)
    count = min(2, usable_cpus())
    with ThreadPoolExecutor(1) as pool:
        driver = pool.submit(embed_shards, photos, out, shards=SHARDS, scheduler=in_processes(count, 1))
        wait_for(lambda: len(active_children()) == count)
        delay = draw.random()
        wait_for(lambda: any(out.glob("part-*")) or driver.done())
        time.sleep(0.02 * delay)
        for victim in active_children()[:1]:
            os.kill(victim.pid, signal.SIGKILL)
        error = driver.exception(timeout=120)  # None if it was done already
        assert error is None or isinstance(error, ModalignError)
        assert re.search(r"None|ended from outside \(signal 9\).*run the same command again", str(error))
    assert not active_children()
    for path in sorted(out.glob("part-*"))[1:]:
        path.unlink()  # so that something is left to do
    (out / "_manifest.json").unlink(missing_ok=True)

    command = [sys.executable, "-m", "modalign.cli", "embed", str(photos), "--out", str(out), "--shards", str(SHARDS)]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # two drivers on one output
    wait_for(lambda: len(list(out.glob("part-*"))) > 1 or other.poll() is not None)
    with ThreadPoolExecutor(1) as pool:
        driver = pool.submit(embed_shards, photos, out, shards=SHARDS)
        other.kill()
        other.wait()
        assert driver.result(timeout=120).finished
    assert parts_of(out) == parts_of(reference)
    rows = rows_of(out)
    assert len(rows) == len(set(rows)) == COUNT + 1
    assert not list(out.glob(".modalign-*"))


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_compare_takes_a_folder_of_parts(reference: Path) -> None:
    result = ma.compare(reference, methods=["gda"], shots=[1], seeds=2, ablations=False)
    assert {run.method for run in result.runs} >= {"gda"}
    assert is_features_source(reference)
    assert not is_features_source(reference.parent)
