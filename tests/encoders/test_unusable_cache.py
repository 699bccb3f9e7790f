"""A default cache that cannot be used costs a note and not the command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import modalign as ma
from modalign.core.errors import CacheError, InputError
from modalign.core.files import write
from modalign.encoders import find_encoder
from modalign.encoders.features.database import Database
from modalign.encoders.features.store import FeatureStore, default_cache


@pytest.mark.parametrize("place", ["below a file", "no home"])
def test_without_a_usable_default_cache_nothing_is_kept(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "no home":
        monkeypatch.delenv("MODALIGN_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", no_home)
        with pytest.raises(InputError, match="home folder"):
            default_cache()
    else:
        write(tmp_path / "file", "x")
        monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="Nothing is kept in a cache; set MODALIGN_CACHE"):
        encoder = ma.load_encoder("tiny")
    assert encoder.store is None


@pytest.mark.parametrize("denied", ["exists", "iterdir"])
def test_a_requested_cache_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, denied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, denied, refuse)
    with pytest.raises(InputError, match="cannot be used: Permission denied"):
        FeatureStore(tmp_path)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Database, "write", no_room)


def test_images_are_embedded_where_the_cache_has_no_room(tmp_path: Path, full_disk: None) -> None:
    pictures = [Image.new("L", (32, 32), shade) for shade in (40, 200)]
    encoder = ma.load_encoder("tiny", cache=tmp_path)
    with pytest.warns(UserWarning, match=r"No space left on device.*embedded without it"):
        found = encoder.embed_images(pictures)
    plain = ma.load_encoder("tiny", cache=False).embed_images(pictures)
    np.testing.assert_allclose(found.vectors, plain.vectors, atol=1e-6)


def test_a_damaged_cache_is_not_reported_as_a_missing_encoder(tmp_path: Path) -> None:
    spec = ma.load_encoder("tiny", cache=False).spec
    write(tmp_path / "files.sqlite", "no database " * 100)
    with pytest.raises(CacheError, match=r"damaged or no index at all.*delete the folder"):
        find_encoder(spec, cache=tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
def test_a_user_without_read_access_to_the_cache_can_work(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    code = (
        "import os; from modalign.encoders import load_encoder; load_encoder('tiny', cache=False)\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "print(load_encoder('tiny').store)"
    )
    places = {"MODALIGN_CACHE": str(secret / "cache"), "HOME": str(secret)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | places)
    assert run.stdout == "None\n", run.stderr
    assert "Nothing is kept in a cache" in run.stderr
