"""Fixtures for everything that encodes: checkpoints, photos, and a cache folder of the test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoints import as_bytes, picture, save_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """kind → folder of a checkpoint, each made once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_checkpoint(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return get


@pytest.fixture
def checkpoint_copy(checkpoints, tmp_path):
    """kind → a fresh copy to damage."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(checkpoints(kind), tmp_path / f"{kind}-copy"))

    return copy


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """40 pictures of several shapes in two folders."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(40):
        path = root / ("cats" if i % 2 else "dogs") / f"{i:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_bytes(picture(i, 40 + 7 * (i % 9), 40 + 11 * (i % 5)), "JPEG"))
    return root
