"""The studio of several classes per image in a browser: sets by keyboard, and their results on the exam."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the studio needs the extra 'app'")

import uvicorn
from studio_pages import OTHER_IMAGE, opened_page, require_no_serious_finding, until, until_true

from modalign.app.studio.opening import open_session
from modalign.app.studio.routes import studio_app
from modalign.app.studio.sets.set_session import SetSession
from modalign.app.web import listen
from modalign.data.digit_pairs import load_digit_pairs

TWO_BADGES = "(t) => [...document.querySelectorAll('.tile .badge')].filter((b) => b.textContent === t).length === 2"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetSession]:
    """60 pairs, of which 12 are of the exam; the first digits have names of many kinds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
        found = open_session(
            load_digit_pairs(60, 0), state=tmp_path_factory.mktemp("sets") / "s", multi_label=True, thorough=False
        )
        assert isinstance(found, SetSession)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(browser: Any, session: SetSession) -> Iterator[Any]:
    opened, access = listen()
    server = uvicorn.Server(uvicorn.Config(studio_app(session, access), log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    yield from opened_page(browser, access.url)
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def truth(session: SetSession) -> dict[str, list[int]]:
    """Content hash → classes; class k has the number k."""
    pairs = load_digit_pairs(60, 0)
    place = {name: i for i, name in enumerate(pairs.items.ids)}
    return {
        content: np.flatnonzero(pairs.matrix[place[name]]).tolist()
        for name, content in zip(session.labeling.ids, session.labeling.contents, strict=True)
    }


def shown(page: Any) -> str:
    return str(page.locator(".card img").get_attribute("src")).split("/")[-1].removesuffix(".webp")


def answer(page: Any, classes: list[int]) -> None:
    before = page.locator(".card img").get_attribute("src")
    for number in classes:
        page.keyboard.press("1234567890"[number])
    page.keyboard.press("Enter")
    until(page, OTHER_IMAGE, before)


def test_sets_are_given_by_keyboard_and_measured_on_the_exam(
    page: Any, session: SetSession, truth: dict[str, list[int]]
) -> None:
    page.locator("#main").focus()
    first = shown(page)
    page.keyboard.press("1")
    page.keyboard.press("3")
    pressed = page.locator("button.class[aria-pressed=true]")
    assert pressed.evaluate_all("(found) => found.map((b) => b.dataset.id)") == ["0", "2"]
    page.keyboard.press("1")
    page.keyboard.press("3")
    assert pressed.count() == 0
    assert session.labeling.state.labels == {}  # nothing is kept before Enter
    for _ in range(12):
        answer(page, truth[shown(page)])
    page.get_by_label("Which images to label next").select_option("exam")
    until(page, "document.querySelector('.note') && document.querySelectorAll('.strip li').length === 10")
    assert page.locator(".guesses").count() == 0  # the prediction of an exam image is hidden
    for _ in range(9):
        answer(page, truth[shown(page)])
    until(page, "document.querySelector('.score').textContent.includes('mAP')")
    labeled = {content: list(label.of) for content, label in session.labeling.state.labels.items()}
    assert len(labeled) == 21
    assert first in labeled
    assert labeled == {content: truth[content] for content in labeled}
    page.locator("#tab-accuracy").click()

    def scores_are_on_the_page() -> bool:  # those of the present model: a refit may end meanwhile
        scores = session.exam_scores()
        assert scores is not None
        shown = f"{100 * scores.micro_f1.value:.1f} %", f"{100 * scores.mean_average_precision.low:.1f} %"
        return all(number in page.locator(".result").inner_text() for number in shown)

    until_true(scores_are_on_the_page)
    assert page.locator(".scores tbody tr").count() == 10


def test_a_key_adds_a_class_to_the_selected_images_or_takes_it_away(page: Any, session: SetSession) -> None:
    page.locator("#tab-browse").click()
    page.get_by_label("Which images", exact=True).select_option("unlabeled")
    count = int(((session.labeling.labels == -1) & ~session.labeling.reserved).sum())
    until(page, f"document.querySelector('.browse .toolbar').textContent.includes('{count} images')")
    page.locator(".grid").focus()
    page.keyboard.press("Shift+ArrowRight")
    until(page, "document.querySelectorAll('.tile[aria-selected=true]').length === 2")
    events = len(session.labeling.log.events)
    for keys, text in (("4", "three"), ("6", "three, five"), ("4", "five"), ("-", "none of these")):
        page.keyboard.press(keys)
        until(page, TWO_BADGES, text)
    until_true(lambda: len(session.labeling.log.events) == events + 4)
    assert [e["sets"] for e in session.labeling.log.events[-4:]] == [[[3]] * 2, [[3, 5]] * 2, [[5]] * 2, [[]] * 2]
    page.keyboard.press("Control+z")
    until(page, TWO_BADGES, "five")


def test_sets_are_exported(page: Any, session: SetSession, truth: dict[str, list[int]]) -> None:
    page.locator("#tab-export").click()
    assert page.get_by_role("button", name="Sorted folders").count() == 0
    with page.expect_download() as started:
        page.get_by_role("link", name="Labels").click()
    lines = Path(started.value.path()).read_text().splitlines()
    assert lines[0] == "path,labels,split,none_of_these,content"
    assert len(lines) == 1 + len(session.labeling.state.labels)


def test_sets_are_accessible_and_fit_a_phone(page: Any) -> None:
    require_no_serious_finding(page, ("label", "accuracy"))
    page.set_viewport_size({"width": 390, "height": 800})
    for view in ("label", "browse", "accuracy", "export"):
        page.locator(f"#tab-{view}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, view
    assert page.trouble == []
