"""Embedding through the store: nothing twice, bad files named, and no interruption leaves a trace."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import as_bytes, picture
from PIL import Image

import modalign as ma
from modalign.core.errors import InputError, UnknownNameError
from modalign.core.progress import is_visible
from modalign.data.items import Items, load_items
from modalign.encoders.features import extraction
from modalign.encoders.features.ahead import read_ahead


@pytest.fixture
def encoder(checkpoints, tmp_path):
    return ma.load_encoder(checkpoints("clip"), device="cpu", cache=tmp_path / "cache")


@pytest.fixture
def passes(encoder, monkeypatch):
    """Sizes of the forward passes so far."""
    sizes = []
    forward = encoder._forward

    def counted(inputs, tokens):
        sizes.append(len(inputs["pixel_values"]))
        return forward(inputs, tokens)

    monkeypatch.setattr(encoder, "_forward", counted)
    return sizes


@pytest.fixture
def reads(monkeypatch):
    """Items whose bytes were read so far."""
    read, seen = Items.read, []
    monkeypatch.setattr(Items, "read", lambda self, i: (seen.append(self.ids[i]), read(self, i))[1])
    return seen


@pytest.fixture
def mixed(photos, tmp_path):
    return spoiled(photos, tmp_path / "mixed")


def spoiled(photos, root):
    """Sound pictures, two copies and four bad files, interleaved."""
    shutil.copytree(photos, root)
    names = sorted(root.rglob("*.jpg"))
    shutil.copy(names[3], root / "cats" / "zz copy of 3.jpg")
    shutil.copy(names[25], root / "cats" / "00 copy of 25.jpg")
    (root / "cats" / "05 empty.jpg").write_bytes(b"")
    (root / "dogs" / "11 cut.jpg").write_bytes(names[4].read_bytes()[:300])
    (root / "dogs" / "12 cut too.jpg").write_bytes(names[5].read_bytes()[:300])
    (root / "dogs" / "99 text.jpg").write_text("no picture")
    time.sleep(0.15)  # until the change times of the copies are no longer fresh
    return root


BAD = {"cats/05 empty.jpg", "dogs/11 cut.jpg", "dogs/12 cut too.jpg", "dogs/99 text.jpg"}


def test_equals_embedding_without_a_store_and_runs_once(encoder, mixed, passes, reads, checkpoints):
    plain = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False).embed_images(mixed)
    reads.clear()
    first = encoder.embed_images(mixed)
    np.testing.assert_allclose(first.vectors, plain.vectors, atol=1e-6)
    assert first.ids == plain.ids
    assert first.class_names == ("cats", "dogs")
    np.testing.assert_array_equal(first.labels, plain.labels)
    assert {q.id for q in first.quarantined} == BAD == {q.id for q in plain.quarantined}
    assert sum(passes) == 40, "42 sound files, two of them copies"
    assert len(reads) == 46
    assert {q.id: q.reason for q in first.quarantined} == {q.id: q.reason for q in plain.quarantined}

    passes.clear()
    reads.clear()
    second = encoder.embed_images(mixed)
    assert (passes, reads) == ([], []), "a second run neither encodes nor reads"
    np.testing.assert_array_equal(second.vectors, first.vectors)
    assert second.quarantined == first.quarantined
    assert second.ids == first.ids


def test_moved_and_renamed_images_are_found_by_their_content(encoder, mixed, passes, tmp_path):
    first = encoder.embed_images(mixed)
    passes.clear()
    moved = mixed.rename(tmp_path / "moved")
    (moved / "cats").rename(moved / "felines")
    second = encoder.embed_images(moved)
    assert passes == []
    assert second.class_names == ("dogs", "felines")
    assert {v.tobytes() for v in first.vectors} == {v.tobytes() for v in second.vectors}


def test_an_edited_image_is_encoded_again_even_with_the_old_size_and_time(encoder, photos, passes, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "edited"))
    path = sorted(folder.rglob("*.jpg"))[0]
    time.sleep(0.15)
    before = encoder.embed_images(folder)
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-40] ^= 0x11
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    passes.clear()
    after = encoder.embed_images(folder)
    assert passes == [1]
    assert (before.vectors != after.vectors).any(axis=1).tolist() == [True] + [False] * 39


def test_a_file_written_a_moment_ago_is_hashed_again(encoder, reads, tmp_path, monkeypatch):
    """Its time stamps may not change if it is written again at once, so they prove nothing yet."""
    monkeypatch.setattr(extraction, "is_settled", lambda *_: False)
    path = tmp_path / "fresh.png"
    path.write_bytes(as_bytes(picture(1)))
    encoder.embed_images([path])
    encoder.embed_images([path])
    assert len(reads) == 2


def test_views_are_kept_apart_and_mirrors_are_mirrors(encoder, passes):
    image = picture(1, 64, 64)
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    center, mirror = (encoder.embed_images([image], view=view).vectors for view in ("center", "mirror"))
    assert passes == [1, 1]
    assert np.abs(center - mirror).max() > 1e-3
    np.testing.assert_allclose(encoder.embed_images([flipped]).vectors, mirror, atol=1e-6)
    with pytest.raises(UnknownNameError, match="did you mean 'mirror'"):
        encoder.embed_images([image], view="miror")


def test_pictures_in_memory_are_kept_by_their_pixels(encoder, passes):
    pixels = np.asarray(picture(2))
    first = encoder.embed_images(pixels[None])
    second = encoder.embed_images([Image.fromarray(pixels)])
    assert passes == [1]
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_a_warm_folder_is_a_memory_map(encoder, photos):
    encoder.embed_images(photos)
    assert isinstance(encoder.embed_images(photos).vectors, np.memmap)


def test_batches_are_made_of_what_is_missing_in_order(encoder, mixed, passes):
    names = sorted(str(p) for p in mixed.rglob("*.jpg") if str(p.relative_to(mixed)) not in BAD)
    encoder.embed_images(names[10:15], batch_size=4)
    assert passes == [4, 1]
    encoder.embed_images(mixed, batch_size=10)
    # 42 sound files less 2 copies less the 5 that are there.
    assert passes[2:] == [10, 10, 10, 5]


def test_a_file_that_vanishes_is_listed_and_embedded_when_it_is_back(encoder, photos, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "vanishing"))
    items = load_items(folder)
    path = folder / items.ids[7]
    hidden = path.rename(tmp_path / "hidden.jpg")
    first = encoder.embed_images(items)
    assert [q.id for q in first.quarantined] == [items.ids[7]]
    assert len(first) == 39
    hidden.rename(path)
    assert len(encoder.embed_images(items)) == 40


def test_nothing_decodable_is_an_error_that_lists_why(encoder, tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"can be decoded, got none: '0.jpg' \(.*and 1 more"):
        encoder.embed_images(tmp_path)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
def test_batch_size_is_checked(encoder, photos, size):
    with pytest.raises(InputError, match="batch_size to be an integer of at least 1"):
        encoder.embed_images(photos, batch_size=size)


def test_vectors_that_are_not_finite_are_never_kept(encoder, photos, monkeypatch):
    monkeypatch.setattr(
        encoder, "_forward", lambda inputs, tokens: (torch.full((len(inputs["pixel_values"]), 24), torch.nan), None)
    )
    with pytest.raises(InputError, match="not finite in float32"):
        encoder.embed_images(photos)
    assert not list(encoder.store.root.glob("*-centre/vectors.f32"))


def test_an_interrupt_keeps_what_was_encoded(encoder, photos, monkeypatch):
    encode, calls = encoder.encode, []

    def interrupted(prepared, **options):
        calls.append(len(prepared))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(prepared, **options)

    monkeypatch.setattr(encoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.embed_images(photos, batch_size=4)
    encoder.embed_images(photos, batch_size=4)
    assert sum(calls) - 4 == 40


def test_progress_names_the_device_and_counts_what_is_missing(encoder, photos, capfd, monkeypatch):
    bars = []

    def track(steps, description, total, unit):
        bars.append((description, total, unit, is_visible()))
        yield from steps

    encoder.embed_images(photos)
    monkeypatch.setattr(extraction, "track", track)
    encoder.embed_images(photos, progress=True)
    encoder.embed_images(photos, view="mirror", progress=False)
    assert bars == [("Embedding on cpu", 0, "images", True), ("Embedding on cpu", 40, "images", False)]
    encoder.cast(torch.bfloat16).embed_images(photos)
    assert bars[-1] == ("Embedding on cpu in bfloat16", 40, "images", False)
    assert capfd.readouterr() == ("", "")


def test_read_ahead_keeps_order_and_distance():
    started, consumed = [], []

    def work(some):
        started.extend(some)
        assert max(some) <= len(consumed) + 2 * 20
        time.sleep(0.002 * (some[0] % 3))
        return [i * i for i in some]

    for value in read_ahead(work, range(400), window=20):
        consumed.append(value)
    assert consumed == [i * i for i in range(400)]
    assert sorted(started) == list(range(400))
    assert list(read_ahead(work, [], window=20)) == []
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda some: [1 // (i - 3) for i in some], range(10), window=2))


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, checkpoints, photos):
    """What interrupted.py found, which takes a process of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("kills forked processes, which this system has not")
    work = tmp_path_factory.mktemp("disturbed")
    script = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, str(script), str(work), str(checkpoints("clip")), str(spoiled(photos, work / "mixed"))],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_killed_at_20_random_moments_the_result_is_the_same_bit_for_bit(disturbed):
    killed = disturbed["killed"]
    kept = [size for size, _, _ in killed]
    assert len(kept) == 20
    assert sum(0 < size < disturbed["whole"] for size in kept) >= 5, f"killed too early or too late to matter: {kept}"
    assert all(features for _, features, _ in killed)
    assert all(file for _, _, file in killed), "the file of vectors, too, is the same"


@pytest.mark.slow
def test_three_processes_at_once_make_what_one_makes(disturbed):
    assert disturbed["together"] == {"same": [True] * 3, "table": True}


@pytest.mark.slow
def test_two_processes_from_opposite_ends_agree(disturbed):
    crossing = disturbed["crossing"]
    assert crossing["apart"] == 0, "both read the same rows"
    assert crossing["from alone"] < 1e-6
    assert crossing["sizes"][0] == crossing["sizes"][1], "no row twice"
