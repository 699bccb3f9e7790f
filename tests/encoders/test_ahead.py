"""Reading ahead: in order, as far as allowed in files and in bytes, and never stuck."""

from __future__ import annotations

import os
import tarfile
import threading
import time
import warnings
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from bad_files import encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import modalign as ma
from modalign.data.items import load_items
from modalign.encoders.features import ahead
from modalign.encoders.features.ahead import read_ahead


class Meter:
    """Counts the bytes that are being read, and those of results that were not taken yet."""

    def __init__(self, sizes: list[int], held: int = 0) -> None:
        self.sizes, self.held = sizes, held
        self.reading = self.most = self.waiting = self.most_waiting = 0
        self.lock = threading.Lock()

    def work(self, jobs: list[int]) -> list[np.ndarray]:
        cost = sum(self.sizes[i] for i in jobs)
        with self.lock:
            self.reading += cost
            self.most = max(self.most, self.reading)
        time.sleep(0.0005)
        with self.lock:
            self.reading -= cost
            self.waiting += self.held * len(jobs)
            self.most_waiting = max(self.most_waiting, self.waiting)
        return [np.full(self.held, i % 251, np.uint8) for i in jobs]

    def taken(self) -> None:
        with self.lock:
            self.waiting -= self.held


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_bytes_that_are_read_at_a_time_are_bounded(sizes: list[int], window: int) -> None:
    meter = Meter(sizes, held=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "READ_BYTES", 64)
        patch.setattr(ahead, "_AT_ONCE_BYTES", 16)
        found = [int(result[0]) for result in read_ahead(meter.work, range(len(sizes)), window, sizes.__getitem__)]
    assert found == list(range(len(sizes)))
    assert meter.most <= max([64, *sizes])


def test_waiting_results_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "RESULT_BYTES", 3_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    meter = Meter([0] * 100, held=1000)
    for _ in read_ahead(meter.work, range(100), 90):
        time.sleep(0.001)
        meter.taken()
    assert meter.most_waiting <= 3_000 + 5 * 6 * 1000, "one portion of six for each thread and the consumer"


def test_a_consumer_that_stops_early_leaves_no_thread_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "READ_BYTES", 10)
    before = threading.active_count()
    with closing(read_ahead(lambda jobs: list(jobs), range(1000), 100, lambda _: 10)) as read:
        assert next(read) == 0
    assert threading.active_count() == before


def test_an_error_in_one_portion_reaches_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "READ_BYTES", 1)
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda jobs: [1 // (i - 30) for i in jobs], range(100), 10, lambda _: 5))


def test_every_source_has_the_sizes_of_its_items(tmp_path: Path) -> None:
    data = encoded(picture(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    for ending in ("tar", "tar.gz"):
        with tarfile.open(tmp_path / f"a.{ending}", "w:gz" if ending == "tar.gz" else "w") as archive:
            archive.add(tmp_path / "a.png", "a.png")
    for source in (tmp_path / "a.zip", tmp_path / "a.tar", tmp_path / "a.tar.gz", [tmp_path / "a.png"], [data]):
        assert load_items(source).size(0) == len(data)
    assert load_items([picture()]).size(0) == load_items([np.asarray(picture())]).size(0) == 48 * 32 * 3


@pytest.mark.parametrize("cache", [True, False])
def test_a_temporary_lack_of_memory_has_no_lasting_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    for i, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(encoded(picture(40 + i, 32), "PNG"))
        os.utime(tmp_path / name, (1e9, 1e9))
    encoder = ma.load_encoder("tiny", cache=tmp_path / "cache" if cache else False)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for target in ("PIL.ImageFile.ImageFile.load", "modalign.encoders.preprocess.Preprocessing.prepare"):

        def short_of_memory(*_: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(target, short_of_memory)
            with pytest.raises(ma.ModalignError, match="memory"):
                encoder.embed_images(paths)
    assert len(encoder.embed_images(paths)) == 2


@pytest.mark.parametrize("cache", [True, False])
def test_pictures_of_12_bits_in_16_are_noted_once_if_all_are(tmp_path: Path, cache: bool) -> None:
    for i, white in enumerate((4095, 4000, 65535)):
        ramp = np.tile(np.linspace(0, white, 32).astype(np.uint16), (32, 1))
        (tmp_path / f"{i}.png").write_bytes(encoded(Image.fromarray(ramp), "PNG"))
    encoder = ma.load_encoder("tiny", cache=tmp_path / "cache" if cache else False)
    with pytest.warns(UserWarning, match="all 2 pictures of 16 bits leave the top bits empty") as noted:
        encoder.embed_images([tmp_path / "0.png", tmp_path / "1.png"])
    assert len(noted) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.embed_images([tmp_path / f"{i}.png" for i in range(3)])
