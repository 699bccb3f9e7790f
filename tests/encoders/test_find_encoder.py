"""The encoder that a file names is found on this machine, by what it is and not by where it was, or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

import modalign as ma
from modalign.core.errors import EncoderMismatchError, InputError, ModalignError, UnavailableError, options
from modalign.core.features import EncoderSpec
from modalign.encoders import find_encoder

STRANGERS = ["org/x", "tiny+org/x", "org/x+tiny", "org/x@refs/pr/1", "org/x@../../../../etc", "../x", "~nobody/x"]
STRANGERS += ["/proc", "x" * 300, "//host/share", "\\\\host\\share", "a/b/c", "+", "https://host/x", "nul\0l"]


def spec(name, fingerprint="f" * 64, dtype="float32"):
    return EncoderSpec(name, fingerprint, 8, dtype)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_name_in_a_file_makes_no_request(name, no_network):
    with pytest.raises(UnavailableError, match=r"\(ffffffffffff\) on this machine, got none; nothing is fetched"):
        find_encoder(spec(name))


def test_the_way_out_is_in_the_language_of_the_caller(no_network):
    with pytest.raises(UnavailableError, match=r"give encoder='org/x' to fetch it if you trust it, or the path of"):
        find_encoder(spec("org/x"))
    with (
        options({"encoder": "--encoder"}),
        pytest.raises(UnavailableError, match=r"give --encoder 'org/x' to"),
    ):
        find_encoder(spec("org/x"))


def test_another_encoder_of_that_name_is_a_mismatch(no_network):
    with pytest.raises(EncoderMismatchError):
        find_encoder(spec("tiny"))


def test_an_unknown_compute_type_is_refused(no_network):
    with pytest.raises(InputError, match="compute type"):
        find_encoder(spec("tiny", dtype="int8"))


def test_an_encoder_in_a_folder_keeps_its_path_to_itself_and_is_found_again(checkpoint_copy, tmp_path, no_network):
    folder = checkpoint_copy("clip")
    encoder = ma.load_encoder(folder, dtype="float32")
    assert encoder.name == encoder.spec.name == folder.name
    assert str(tmp_path) not in repr(encoder)
    found = find_encoder(encoder.spec)
    assert found.spec == encoder.spec
    for path in (os.path.relpath(folder), str(folder), f"{folder}/"):  # as older files name it
        assert find_encoder(replace(encoder.spec, name=path)).spec.fingerprint == encoder.spec.fingerprint
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    with pytest.raises(UnavailableError, match="on this machine"):
        find_encoder(encoder.spec)
    assert ma.load_encoder(moved, dtype="float32").spec.fingerprint == encoder.spec.fingerprint
    assert find_encoder(encoder.spec).name == "elsewhere"


def test_a_folder_whose_content_changed_is_not_taken_for_the_same(checkpoint_copy, checkpoints, no_network):
    folder = checkpoint_copy("clip")
    before = ma.load_encoder(folder, dtype="float32").spec
    shutil.rmtree(folder)
    shutil.copytree(checkpoints("dinov2"), folder)
    with pytest.raises(EncoderMismatchError):
        find_encoder(before)


def test_joined_encoders_in_folders_are_found_again(checkpoints, no_network):
    joined = ma.load_encoder(f"tiny+{checkpoints('dinov2')}", dtype="float32")
    assert joined.name == f"tiny+{checkpoints('dinov2').name}"
    assert find_encoder(joined.spec).spec == joined.spec
    with pytest.raises(UnavailableError):
        find_encoder(joined.spec, cache=False)


@pytest.fixture
def hub_cache(tmp_path, checkpoints, monkeypatch):
    """The hub's cache on the disk with one repository, as huggingface_hub lays it out."""
    repository = tmp_path / "hub" / "models--org--x"
    shutil.copytree(checkpoints("clip"), repository / "snapshots" / "abc")
    shutil.copytree(checkpoints("clip"), repository / "snapshots" / "bare")
    (repository / "snapshots" / "bare" / "model.safetensors").unlink()
    for revision, snapshot in (("main", "abc"), ("refs/pr/1", "abc"), ("pickled", "bare")):
        (repository / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / revision).write_text(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def test_what_was_downloaded_earlier_is_found(hub_cache, checkpoints, no_network):
    fingerprint = ma.load_encoder(checkpoints("clip"), cache=False, dtype="float32").spec.fingerprint
    for name in ("org/x", "org/x@refs/pr/1", "org/x@abc"):
        found = find_encoder(spec(name, fingerprint), cache=False)
        assert (found.name, found.spec.fingerprint) == (name, fingerprint)
    for name in ("org/x@pickled", "org/x@unknown", "org/y"):
        with pytest.raises(UnavailableError):
            find_encoder(spec(name, fingerprint), cache=False)
    (hub_cache / "refs" / "main").write_text("bare")  # pickles only; the hub's conversion lies beside it
    assert find_encoder(spec("org/x", fingerprint), cache=False).name == "org/x"


def test_a_failing_hub_leaves_no_chain_of_tracebacks(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModalignError) as caught:
        ma.load_encoder("org/x")
    assert caught.value.__suppress_context__
