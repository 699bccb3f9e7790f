"""The table: rows are found by content, never lost, never doubled, and never other than they were written."""

import os
import sqlite3
import stat
import threading
from contextlib import nullcontext, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalign.core.errors import InputError
from modalign.encoders.features.store import FeatureStore
from modalign.encoders.features.vector_table import DamagedRowsError, checksums, remaking

D = 8


def content(i):
    return i.to_bytes(32, "big")


def contents(numbers):
    return [content(i) for i in numbers]


def rows(numbers):
    return np.array([[n + k / 16 for k in range(D)] for n in numbers], dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def open_table(store, fingerprint="f" * 64, view="center", dim=D):
    return store.table(fingerprint, view, dim)


def folder(store):
    return next(store.root.glob("*-centre"))


def test_what_was_added_is_found_by_another_process_object(store):
    with open_table(store) as first:
        first.add(contents(range(5)), rows(range(5)))
    with open_table(store) as second:
        assert len(second) == 5
        assert second.find([content(3), content(9)]) == {content(3): 3}
        np.testing.assert_array_equal(second.read(contents([4, 0, 4])), rows([4, 0, 4]))


def test_consecutive_rows_are_a_memory_map_and_nothing_can_be_written(store):
    with open_table(store) as s:
        s.add(contents(range(10)), rows(range(10)))
        part = s.read(contents(range(2, 7)))
        assert isinstance(part, np.memmap)
        np.testing.assert_array_equal(part, rows(range(2, 7)))
        gathered = s.read(contents([1, 3]))
        assert not isinstance(gathered, np.memmap)
        for found in (part, gathered):
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 0
        assert s.read([]).shape == (0, D)
        s.add([content(10)], rows([10]))
        np.testing.assert_array_equal(part, rows(range(2, 7)))


def test_first_come_first_kept(store):
    with open_table(store) as s:
        s.add([content(1), content(2), content(1)], rows([1, 2, 77]))
        s.add([content(2), content(3)], rows([88, 3]))
        assert len(s) == 3
        np.testing.assert_array_equal(s.read(contents([1, 2, 3])), rows([1, 2, 3]))


def test_bytes_of_a_killed_writer_are_overwritten(store):
    with open_table(store) as s:
        s.add([content(0)], rows([0]))
    path = next(store.root.glob("*/vectors.f32"))
    with path.open("ab") as file:
        file.write(os.urandom(3 * D * 4 + 5))  # appended but never committed, and not even whole rows
    with open_table(store) as s:
        assert len(s) == 1
        s.add([content(1)], rows([1]))
        np.testing.assert_array_equal(s.read(contents([0, 1])), rows([0, 1]))


def test_many_threads_write_at_once(store):
    def work(k):
        with open_table(store) as s:
            for start in range(0, 60, 6):
                numbers = [(start + j * (k + 1)) % 60 for j in range(6)]
                s.add([content(n) for n in numbers], rows(numbers))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_table(store) as s:
        where = s.find([content(n) for n in range(60)])
        assert sorted(where.values()) == list(range(len(s)))
        for key in where:
            np.testing.assert_array_equal(s.read([key]), rows([int.from_bytes(key, "big")]))


def test_encoders_and_views_do_not_meet(store):
    with open_table(store) as a, open_table(store, view="mirror") as b, open_table(store, "e" * 64) as c:
        a.add([content(1)], rows([1]))
        assert (len(a), len(b), len(c)) == (1, 0, 0)
    # The folder name holds only the beginning of the fingerprint; the card inside decides.
    with pytest.raises(InputError, match="got others; delete it"):
        open_table(store, "f" * 40 + "0" * 24)
    with pytest.raises(InputError, match="got others"):
        open_table(store, dim=D + 1)


def test_an_index_that_is_none_is_named_in_a_sentence(store):
    with open_table(store) as s:
        s.add(contents(range(4)), rows(range(4)))
    (folder(store) / "index.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match=r"damaged or no index at all .* delete the folder"):
        open_table(store)


def test_a_database_of_somebody_else_is_left_alone(store):
    path = store.root / f"{'f' * 20}-centre" / "index.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE vectors (mine TEXT)")
    with pytest.raises(InputError, match="got a database of something else"):
        open_table(store)
    with sqlite3.connect(path) as foreign:
        foreign.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match="format 1"):
        open_table(store)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("vectors",)]


def test_ten_thousand_rows_are_found_in_a_moment(store):
    many = contents(range(10_000))
    with open_table(store) as s:
        s.add(many, np.zeros((10_000, D), dtype=np.float32))
        queries = []
        s._index._connection.set_trace_callback(queries.append)
        assert len(s.find(many)) == 10_000
        assert len(queries) == 20, "a few large queries, not one per row"


def reread(store, numbers):
    """What is read in the end: rows that fail their checksums are written once more, as an encoder would."""
    with open_table(store) as s:

        @remaking
        def embed():
            here = s.find(contents(numbers))
            new = [n for n in numbers if content(n) not in here]
            if new:
                s.add(contents(new), rows(new))
            return s.read(contents(numbers))

        return np.array(embed())


@settings(max_examples=60)
@given(
    name=st.sampled_from(["vectors.f32", "checksums.u64", "index.sqlite"]),
    position=st.integers(0, 10**6),
    damage=st.binary(min_size=1, max_size=64),
)
@pytest.mark.filterwarnings("ignore:.* were damaged on the disk")
def test_what_is_read_is_what_was_written_whatever_happens_to_the_files(tmp_path_factory, name, position, damage):
    store = FeatureStore(tmp_path_factory.mktemp("cache"))
    with open_table(store) as s:
        s.add(contents(range(20)), rows(range(20)))
    path = folder(store) / name
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position : position + len(damage)] = damage
    path.write_bytes(data)
    refusal = suppress(InputError) if name == "index.sqlite" else nullcontext()  # rows and checksums are made anew
    with refusal:
        np.testing.assert_array_equal(reread(store, range(20)), rows(range(20)))


@pytest.mark.parametrize("size", [0, 3 * D * 4, 3 * D * 4 + 5])
def test_a_file_that_was_cut_is_made_again(store, size):
    with open_table(store) as s:
        s.add(contents(range(6)), rows(range(6)))
    os.truncate(folder(store) / "vectors.f32", size)
    with pytest.warns(UserWarning, match=rf"{6 - size // (4 * D)} of 6 cached vectors .* They are embedded again"):
        np.testing.assert_array_equal(reread(store, range(6)), rows(range(6)))
    with open_table(store) as s:
        assert len(s.find(contents(range(6)))) == 6
        s.add(contents([7]), rows([7]))
        np.testing.assert_array_equal(s.read(contents([5, 7])), rows([5, 7]))


def test_a_row_is_not_handed_to_another_item(store):
    with open_table(store) as s:
        s.add(contents(range(4)), rows(range(4)))
    with sqlite3.connect(folder(store) / "index.sqlite") as index:
        for row, owner in ((1, b"x" * 32), (2, content(1)), (1, content(2))):
            index.execute("UPDATE vectors SET content = ? WHERE row = ?", (owner, row))
    with open_table(store) as s:
        np.testing.assert_array_equal(s.read(contents([0, 3])), rows([0, 3]))
        with pytest.raises(DamagedRowsError, match="2 of 4"):
            s.read(contents(range(4)))
        assert sorted(s.find(contents(range(4)))) == contents([0, 3]), "struck from the index"
    np.testing.assert_array_equal(reread(store, range(4)), rows(range(4)))


def test_the_place_of_a_damaged_row_is_not_used_again(store):
    """Another process may have mapped it, and would read the vector of another item there."""
    with open_table(store) as s:
        s.add(contents(range(4)), rows(range(4)))
        held = s.read(contents(range(4)))
        with (folder(store) / "vectors.f32").open("r+b") as file:
            file.seek(3 * D * 4)
            file.write(b"\xff")
        seen = np.array(held)
    with pytest.warns(UserWarning, match="1 of 4 cached vectors"):
        np.testing.assert_array_equal(reread(store, range(4)), rows(range(4)))
    np.testing.assert_array_equal(held, seen)


def test_damage_that_comes_back_is_an_error(store):
    with open_table(store) as s:
        s.add(contents([1]), rows([1]))
        with pytest.warns(UserWarning, match="1 of 2"), pytest.raises(InputError, match=r"twice; check the disk"):
            remaking(s.read)(contents([1, 2]))  # the second was never added


def test_rows_of_a_version_without_checksums_are_kept_and_stamped(store):
    with open_table(store) as s:
        s.add(contents(range(10)), rows(range(10)))
        with s._index.transaction():
            s._index.write("DELETE FROM vectors WHERE row = ?", [(4,)])  # a row that belongs to nothing
    path, vectors = folder(store) / "checksums.u64", folder(store) / "vectors.f32"
    os.truncate(path, 2 * 8)
    table = np.fromfile(vectors, "<f4").reshape(-1, D)
    table[7, 3] = np.nan
    table.tofile(vectors)
    sound = [n for n in range(10) if n not in (4, 7)]
    with open_table(store) as s:
        assert path.stat().st_size == 10 * 8
        np.testing.assert_array_equal(s.read(contents(sound)), rows(sound))
        with pytest.raises(DamagedRowsError, match="2 of 10"):
            s.read(contents(range(10)))
    table[5, 0] += 1
    table.tofile(vectors)
    with open_table(store) as s, pytest.raises(DamagedRowsError, match="1 of 8"):
        s.read(contents(sound))


def test_a_cache_without_checksums_that_cannot_be_written_is_read_as_it_is(store, monkeypatch):
    with open_table(store) as s:
        s.add(contents(range(3)), rows(range(3)))
    (folder(store) / "checksums.u64").unlink()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with open_table(store) as s:
        np.testing.assert_array_equal(s.read(contents(range(3))), rows(range(3)))
    assert not (folder(store) / "checksums.u64").exists()


@given(seed=st.integers(0, 2**32), column=st.integers(0, 36), flip=st.integers(1, 2**32 - 1))
def test_a_checksum_is_the_documented_sum_and_changes_with_every_word(seed, column, flip):
    rng = np.random.default_rng(seed)
    keys, words = rng.integers(0, 2**32, (3, 8), np.uint32), rng.integers(0, 2**32, (3, 29), np.uint32)
    weights = [int(w) | 1 for w in np.random.Philox(key=0).random_raw(8 + 29)]
    found = checksums([key.tobytes() for key in keys], words.view(np.float32))
    both = np.concatenate([keys, words], axis=1)
    assert found.tolist() == [sum(w * int(x) for w, x in zip(weights, row, strict=True)) % 2**64 for row in both]
    both[1, column] ^= np.uint32(flip)
    changed = checksums([key.tobytes() for key in both[:, :8]], np.ascontiguousarray(both[:, 8:]).view(np.float32))
    assert (changed != found).tolist() == [False, True, False]


def test_many_rows_have_the_checksums_of_single_ones():
    table = np.random.default_rng(0).normal(size=(1000, D)).astype(np.float32)
    single = [checksums([content(i)], table[i : i + 1])[0] for i in range(1000)]
    np.testing.assert_array_equal(checksums(contents(range(1000)), table), single)


@pytest.mark.skipif(os.name == "nt", reason="no rights in the manner of Unix")
def test_the_cache_is_private_whatever_the_umask_and_an_older_one_becomes_so(tmp_path):
    def modes():
        return {stat.S_IMODE(p.stat().st_mode) for p in (root, *root.rglob("*"))}

    root, before = tmp_path / "new" / "cache", os.umask(0)
    try:
        store = FeatureStore(root)
        with open_table(store) as s, store.files() as files:
            s.add(contents([1]), rows([1]))
            with files._database.transaction():
                assert modes() == {0o700, 0o600}, "with the journal of a transaction"
        store.record_encoder("f" * 64, "/somewhere")
        assert modes() == {0o700, 0o600}
        for path in (root, *root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        store = FeatureStore(root)
        with open_table(store), store.files():
            assert store.encoder_location("f" * 64) == "/somewhere"
        assert modes() == {0o700, 0o600}
    finally:
        os.umask(before)


def test_a_folder_that_holds_other_things_keeps_its_rights(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    tmp_path.chmod(0o755)
    with open_table(FeatureStore(tmp_path)):
        pass
    assert stat.S_IMODE(FeatureStore(tmp_path).root.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["vectors.f32", "checksums.u64", "index.sqlite"])
def test_a_planted_link_is_not_written_through(store, tmp_path, name):
    with open_table(store):
        pass
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder(store) / name).unlink(missing_ok=True)
    (folder(store) / name).symlink_to(victim)
    with pytest.raises(InputError, match="got a link"), open_table(store) as s:
        s.add(contents([1]), rows([1]))
    assert victim.read_bytes() == b"precious"
