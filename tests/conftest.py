"""For all tests: photos to work on, a cache of their own, and nothing that fails by the clock of a busy machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawings import draw
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of drawn discs and squares."""
    return draw(tmp_path / "photos")


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is embedded stays in the tests' own folder, where all of them find it."""
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
