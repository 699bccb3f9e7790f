"""A default cache that cannot be used costs a note and not the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import modalign as ma
from modalign.encoders.store import FeatureStore, default_cache
from modalign.errors import InputError
from modalign.files import write


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
def test_a_cache_that_was_asked_for_and_cannot_be_read_is_one_sentence(
    tmp_path: Path, denied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, denied, refuse)
    with pytest.raises(InputError, match="cannot be used: Permission denied"):
        FeatureStore(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
def test_a_user_who_may_not_look_into_the_cache_can_work(tmp_path: Path) -> None:
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
