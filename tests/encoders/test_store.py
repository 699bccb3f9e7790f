"""The store: rows are found by content, never lost, never doubled, and damage is named."""

import sqlite3
import time

import numpy as np
import pytest

from modalign.core.errors import InputError
from modalign.encoders.features.store import FeatureStore, default_cache, is_settled

D = 8
SECOND = 10**9


def content(i):
    return i.to_bytes(32, "big")


def rows(numbers):
    return np.array([[n + k / 16 for k in range(D)] for n in numbers], dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def test_files_are_recognized_by_everything_that_changes_with_them(store):
    identity = ("/a/b.jpg", 10, 20, 30, 40)
    with store.files() as files:
        files.record([(identity, content(1)), (("/a/c.jpg", 1, 2, 3, 4), content(2))])
        assert files.contents([identity, None, ("/a/c.jpg", 1, 2, 3, 4)]) == [content(1), None, content(2)]
        for k in range(5):
            changed = tuple(f"{v}x" if k == 0 == i else v + (i == k) if i else v for i, v in enumerate(identity))
            assert files.contents([changed]) == [None], changed
        files.record([(identity, content(3))])
        assert files.contents([identity]) == [content(3)]


def test_refusals_are_kept_for_this_version_of_the_decoder(store, monkeypatch):
    with store.files() as files:
        files.refuse([(content(1), "truncated"), (content(2), "no image")])
        assert files.refusals([content(1), content(5)]) == {content(1): "truncated"}
        monkeypatch.setattr("modalign.encoders.features.store.DECODER", "pillow 99")
        assert files.refusals([content(1)]) == {}


def test_a_damaged_refusal_is_none(store):
    with store.files() as files:
        files.refuse([(content(i), "truncated") for i in range(4)])
    path = store.root / "files.sqlite"
    with sqlite3.connect(path) as index:
        index.execute("UPDATE refused SET reason = 'truncatee' WHERE content = ?", (content(1),))
        index.execute("UPDATE refused SET decoder = 'pillow' WHERE content = ?", (content(2),))
        index.execute("UPDATE refused SET content = ? WHERE content = ?", (content(9), content(3)))
    with store.files() as files:
        assert files.refusals([content(i) for i in range(10)]) == {content(0): "truncated"}


def test_where_an_encoder_lies_is_remembered_by_its_fingerprint(store):
    assert store.encoder_location("a" * 64) is None
    assert not store.root.exists(), "asking makes nothing"
    store.record_encoder("a" * 64, "/x")
    store.record_encoder("a" * 64, "/y")
    store.record_encoder("b" * 64, "/z")
    assert [store.encoder_location(c * 64) for c in "abc"] == ["/y", "/z", None]


@pytest.mark.parametrize(
    ("age", "fine_stamps", "settled"),
    [
        (0.01, True, False),
        (0.5, True, True),
        (0.5, False, False),
        (2, False, False),
        (3, False, True),
        (-5, True, False),
    ],
)
def test_a_file_changed_just_before_reading_is_not_trusted(age, fine_stamps, settled):
    now, long_ago = 1_700_000_000 * SECOND, 1_000 * SECOND
    stamp = now - int(age * SECOND) + (123_457 if fine_stamps else 0)
    assert is_settled(("p", 1, long_ago, stamp, 1), now) is settled
    assert is_settled(("p", 1, stamp, stamp, 1), now) is settled
    assert not is_settled(("p", 1, now, long_ago, 1), now), "the time of modification counts as well"
    assert not is_settled(None)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        FeatureStore(tmp_path / "file" / "below").files()


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("MODALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_cache() == tmp_path / "x" / "modalign"


def test_time_stamps_of_this_machine_settle(tmp_path):
    path = tmp_path / "x"
    path.write_text("x")
    status = path.stat()
    identity = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert not is_settled(identity, status.st_ctime_ns)
    assert is_settled(identity, time.time_ns() + 3 * SECOND)
