"""The store: rows are found by content, never lost, never doubled, and damage is named."""

import os
import sqlite3
import threading
import time

import numpy as np
import pytest

from modalign.encoders.store import FeatureStore, default_cache, is_settled
from modalign.errors import InputError

D = 8
SECOND = 10**9


def content(i):
    return i.to_bytes(32, "big")


def rows(numbers):
    return np.array([[n + k / 16 for k in range(D)] for n in numbers], dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def shelf(store, fingerprint="f" * 64, view="centre", dim=D):
    return store.shelf(fingerprint, view, dim)


def test_what_was_added_is_found_by_another_process_object(store):
    with shelf(store) as first:
        first.add([content(i) for i in range(5)], rows(range(5)))
    with shelf(store) as second:
        assert len(second) == 5
        assert second.find([content(3), content(9)]) == {content(3): 3}
        np.testing.assert_array_equal(second.read(np.array([4, 0, 4])), rows([4, 0, 4]))


def test_consecutive_rows_are_a_memory_map_and_nothing_can_be_written(store):
    with shelf(store) as s:
        s.add([content(i) for i in range(10)], rows(range(10)))
        part = s.read(np.arange(2, 7))
        assert isinstance(part, np.memmap)
        np.testing.assert_array_equal(part, rows(range(2, 7)))
        gathered = s.read(np.array([1, 3]))
        assert not isinstance(gathered, np.memmap)
        for found in (part, gathered):
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 0
        assert s.read(np.array([], dtype=int)).shape == (0, D)
        s.add([content(10)], rows([10]))
        np.testing.assert_array_equal(part, rows(range(2, 7)))


def test_first_come_first_kept(store):
    with shelf(store) as s:
        s.add([content(1), content(2), content(1)], rows([1, 2, 77]))
        s.add([content(2), content(3)], rows([88, 3]))
        assert len(s) == 3
        np.testing.assert_array_equal(s.read(np.arange(3)), rows([1, 2, 3]))


def test_bytes_of_a_killed_writer_are_overwritten(store):
    with shelf(store) as s:
        s.add([content(0)], rows([0]))
    path = next(store.root.glob("*/vectors.f32"))
    with path.open("ab") as file:
        file.write(os.urandom(3 * D * 4 + 5))  # appended but never committed, and not even whole rows
    with shelf(store) as s:
        assert len(s) == 1
        s.add([content(1)], rows([1]))
        np.testing.assert_array_equal(s.read(np.arange(2)), rows([0, 1]))


def test_many_threads_write_at_once(store):
    def work(k):
        with shelf(store) as s:
            for start in range(0, 60, 6):
                numbers = [(start + j * (k + 1)) % 60 for j in range(6)]
                s.add([content(n) for n in numbers], rows(numbers))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shelf(store) as s:
        where = s.find([content(n) for n in range(60)])
        assert sorted(where.values()) == list(range(len(s)))
        for key, row in where.items():
            np.testing.assert_array_equal(s.read(np.array([row])), rows([int.from_bytes(key, "big")]))


def test_encoders_and_views_do_not_meet(store):
    with shelf(store) as a, shelf(store, view="mirror") as b, shelf(store, "e" * 64) as c:
        a.add([content(1)], rows([1]))
        assert (len(a), len(b), len(c)) == (1, 0, 0)
    # The folder name holds only the beginning of the fingerprint; the card inside decides.
    with pytest.raises(InputError, match="got others; delete it"):
        shelf(store, "f" * 40 + "0" * 24)
    with pytest.raises(InputError, match="got others"):
        shelf(store, dim=D + 1)


def test_files_are_recognised_by_everything_that_changes_with_them(store):
    identity = ("/a/b.jpg", 10, 20, 30, 40)
    with store.files() as files:
        files.remember([(identity, content(1)), (("/a/c.jpg", 1, 2, 3, 4), content(2))])
        assert files.contents([identity, None, ("/a/c.jpg", 1, 2, 3, 4)]) == [content(1), None, content(2)]
        for k in range(5):
            changed = tuple(f"{v}x" if k == 0 == i else v + (i == k) if i else v for i, v in enumerate(identity))
            assert files.contents([changed]) == [None], changed
        files.remember([(identity, content(3))])
        assert files.contents([identity]) == [content(3)]


def test_refusals_are_kept_for_this_version_of_the_decoder(store, monkeypatch):
    with store.files() as files:
        files.refuse([(content(1), "truncated"), (content(2), "no image")])
        assert files.refusals([content(1), content(5)]) == {content(1): "truncated"}
        monkeypatch.setattr("modalign.encoders.store._DECODER", "pillow 99")
        assert files.refusals([content(1)]) == {}


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


def test_damage_is_named_in_a_sentence(store):
    with shelf(store) as s:
        s.add([content(i) for i in range(4)], rows(range(4)))
    folder = next(store.root.glob("*-centre"))
    os.truncate(folder / "vectors.f32", 3 * D * 4)
    with shelf(store) as s:
        for use in (lambda: s.read(np.arange(4)), lambda: s.add([content(9)], rows([9]))):
            with pytest.raises(InputError, match=r"got 96: it was cut or replaced; delete the folder"):
                use()
    (folder / "index.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match=r"damaged or no index at all .* delete the folder"):
        shelf(store)


def test_a_database_of_somebody_else_is_left_alone(store):
    path = store.root / f"{'f' * 20}-centre" / "index.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE vectors (mine TEXT)")
    with pytest.raises(InputError, match="got a database of something else"):
        shelf(store)
    with sqlite3.connect(path) as foreign:
        foreign.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match="format 1"):
        shelf(store)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("vectors",)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        shelf(FeatureStore(tmp_path / "file" / "below"))


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("MODALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_cache() == tmp_path / "x" / "modalign"


def test_ten_thousand_rows_are_found_in_a_moment(store):
    contents = [content(i) for i in range(10_000)]
    with shelf(store) as s:
        s.add(contents, np.zeros((10_000, D), dtype=np.float32))
        queries = []
        s._index._connection.set_trace_callback(queries.append)
        assert len(s.find(contents)) == 10_000
        assert len(queries) == 20, "a few large queries, not one a row"


def test_time_stamps_of_this_machine_settle(tmp_path):
    path = tmp_path / "x"
    path.write_text("x")
    status = path.stat()
    identity = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert not is_settled(identity, status.st_ctime_ns)
    assert is_settled(identity, time.time_ns() + 3 * SECOND)
