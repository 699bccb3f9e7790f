"""For all tests: photos to work on, a cache of their own, no deadlines, and the same drawn examples in every run.

Property tests draw the same examples every time, so that a failure comes with the change that causes it.
``HYPOTHESIS_PROFILE=explore`` draws new ones.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawings import draw
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_sessionstart() -> None:
    """Leave the thousands of tests out of garbage collection, which would go through all of them again and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for tests of pages; closed with its module, since it keeps an event loop in the thread."""
    api = pytest.importorskip("playwright.sync_api", reason="the page is opened with the package playwright")
    with api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        program = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(program).is_file():
            pytest.skip("the page is opened in Chromium, which is not on this machine: playwright install chromium")
        opened = playwright.chromium.launch(
            executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of drawn discs and squares."""
    return draw(tmp_path / "photos")


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is embedded stays in the tests' own folder, where all of them find it."""
    monkeypatch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A machine whose every attempt to reach the network is written down, and fails the test when it ends."""
    import huggingface_hub

    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in this test")

    for owner, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")):
        monkeypatch.setattr(owner, name, refuse)
    for name in ("snapshot_download", "hf_hub_download", "model_info", "get_repo_discussions"):
        monkeypatch.setattr(huggingface_hub, name, refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield attempts
    assert not attempts
