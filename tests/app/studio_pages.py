"""What tests do with a page of the studio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

OTHER_IMAGE = "(old) => document.querySelector('.card img').getAttribute('src') !== old"


def opened_page(browser: Any, url: str) -> Iterator[Any]:
    """The page with its first image; ``trouble`` collects messages, errors, and requests to other servers."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    opened = context.new_page()
    opened.trouble = []
    opened.on("console", lambda message: opened.trouble.append(message.text))
    opened.on("pageerror", lambda error: opened.trouble.append(str(error)))
    opened.on("request", lambda r: r.url.startswith((url, "data:")) or opened.trouble.append(r.url))
    opened.goto(url)
    opened.wait_for_selector(".card img")
    yield opened
    context.close()


PATIENCE = 60.0
"""Seconds until a condition must hold; a machine that does other work beside the test is slow."""


def until(page: Any, condition: str, given: object = None) -> None:
    """Wait until an expression is true; Playwright's own way needs ``eval``, which the policy of the page forbids."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(condition, given):
        assert time.monotonic() < end, (condition, given, page.trouble)
        page.wait_for_timeout(50)


def until_true(holds: Callable[[], bool]) -> None:
    """Wait until the server has what the page shows already."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def require_no_serious_finding(page: Any, views: Sequence[str]) -> None:
    """No finding of axe in the views: of all rules in light colors, of those on colors in dark ones."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="accessibility needs axe-playwright-python"
    )
    source = Path(axe.__file__).parent / "axe.min.js"
    page.context.new_cdp_session(page).send(  # the policy of the page allows no script of a test
        "Runtime.evaluate", {"expression": source.read_text(encoding="utf-8")}
    )
    for scheme, only in (("light", None), ("dark", ["color-contrast"])):
        page.emulate_media(color_scheme=scheme)
        for view in views:
            page.locator(f"#tab-{view}").click()
            page.wait_for_timeout(100)
            found = page.evaluate(
                "(only) => axe.run({ resultTypes: ['violations'], ...(only ? { runOnly: only } : {}) })", only
            )
            serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
            assert not serious, [(view, scheme, v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in serious]
    page.emulate_media(color_scheme="light")
