"""The studio in a browser: forty labels by keyboard, and everything around them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the studio needs the extra 'app'")

from studio_pages import OTHER_IMAGE, opened_page, require_no_serious_finding, until, until_true

from modalign.app.studio.opening import open_session
from modalign.app.studio.row_queries import session_summary
from modalign.app.studio.state_folder import state_folder
from modalign.cli import run
from modalign.data.digits import DIGIT_NAMES, load_digits

pytestmark = pytest.mark.slow
ORDER = sorted(DIGIT_NAMES)  # of the folders, and so of the keys
EVIL = '<img src=x onerror="window.hit=1"></script>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 digits in one folder; the names do not reveal the classes."""
    items, root = load_digits(), tmp_path_factory.mktemp("photos") / "digits"
    root.mkdir()
    for i in range(400):
        (root / f"{i:03d}.png").write_bytes(items.read(i))
    (root.parent / "names.txt").write_text("\n".join(ORDER))
    return root


class Server:
    """A studio in a process of its own."""

    def __init__(self, folder: Path) -> None:
        words = [
            sys.executable,
            "-m",
            "modalign.cli",
            "studio",
            str(folder),
            "--classes",
            str(folder.parent / "names.txt"),
        ]
        self.process = subprocess.Popen(
            [*words, "--fast-only"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Open http"):
            raise AssertionError(self.process.communicate()[1])
        self.url = line.split()[1]

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}api/state") as answer:
            return json.load(answer)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "shared-cache"))
        found = Server(folder)
        yield found
        found.kill()


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Iterator[Any]:
    yield from opened_page(browser, server.url)


def truth_of(page: Any) -> str:
    """The class of the image on the card, found by its bytes."""
    content = page.locator(".card img").get_attribute("src").split("/")[-1].removesuffix(".webp")
    return _NAME_OF[content]


def _names() -> dict[str, str]:
    from modalign.data.copies import content_hash

    items = load_digits().select(range(400))
    return {content_hash(items, i): DIGIT_NAMES[items.labels[i]] for i in range(400)}


_NAME_OF = _names()


def until_taught(server: Server, count: int) -> None:
    """Wait until the server has so many labels to learn from; the page shows a label before it is written."""
    until_true(lambda: server.state()["counts"]["taught"] == count)


ALL_THREES = """() => {
  const names = [...document.querySelectorAll('.tile .name')];
  return names.length > 5 && names.every((name) => name.textContent === 'three');
}"""


def press(page: Any, name: str) -> None:
    page.keyboard.press("1234567890"[ORDER.index(name)])


def test_forty_labels_by_keyboard_and_the_accuracy_of_the_exam(page: Any, server: Server) -> None:
    page.locator("#main").focus()
    for number in range(40):
        before = page.locator(".card img").get_attribute("src")
        press(page, truth_of(page))
        if number % 10 == 9:  # a new round is asked for
            until(page, OTHER_IMAGE, before)
    page.keyboard.press("Enter")
    until_true(lambda: (server.state()["method"]["labels"], server.state()["exam"]["answered"]) == (32, 8))
    state = server.state()
    assert state["counts"]["taught"] == 32
    assert state["exam"]["accuracy"] is None
    page.get_by_label("Which images to label next").select_option("exam")
    until(page, "document.querySelector('.note') && document.querySelectorAll('.strip li').length === 10")
    assert page.locator(".guesses").count() == 0  # the prediction of an exam image is hidden
    for _ in range(10):
        before = page.locator(".card img").get_attribute("src")
        press(page, truth_of(page))
        until(page, OTHER_IMAGE, before)
    until_true(lambda: server.state()["exam"]["answered"] == 18)
    state = server.state()
    assert state["exam"]["accuracy"]["top1"] >= 0.7
    score = page.locator(".score")  # of the model at that time: a thorough refit may end meanwhile
    until_true(lambda: f"{100 * server.state()['exam']['accuracy']['top1']:.1f}" in score.inner_text())
    page.locator("#tab-accuracy").click()
    assert "95 % interval" in page.locator(".result").inner_text()
    assert page.locator(".matrix button").count() >= 5


def test_a_cell_of_the_matrix_opens_its_images(page: Any) -> None:
    page.locator("#tab-accuracy").click()
    cell = page.locator(".matrix button").first
    number = int(cell.inner_text())
    cell.click()
    until(page, "(n) => document.querySelectorAll('.tile .badge.exam').length === n", number)
    assert page.locator(".tile").count() == number


def test_undo_a_new_class_and_names_as_text(page: Any, server: Server) -> None:
    page.locator("#tab-browse").click()
    page.get_by_label("Which images", exact=True).select_option("unlabeled")
    until(page, "document.querySelectorAll('.tile img').length > 10")
    before = server.state()["counts"]["taught"]
    page.locator(".grid").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".tile[aria-selected=true]").count() == 3
    page.keyboard.press("1")
    until(page, "document.querySelectorAll('.tile .badge').length === 3")
    until_taught(server, before + 3)
    page.keyboard.press("Control+z")
    until(page, "document.querySelectorAll('.tile .badge').length === 0")
    until_taught(server, before)
    page.get_by_label("Name of a new class").fill(EVIL)
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name=EVIL, exact=False).first.wait_for()
    page.locator(".grid").focus()
    page.keyboard.press("i")  # letters choose a class by its name
    page.get_by_label("Part of a class name").fill("<img")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.tile .badge').length >= 1")
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0


def test_filters_words_and_the_map(page: Any) -> None:
    page.locator("#tab-browse").click()
    page.get_by_label("Predicted class").select_option(label="Predicted: three")
    until(page, ALL_THREES)
    page.get_by_label("Predicted class").select_option("")
    page.keyboard.press("Escape")
    page.locator(".grid").focus()
    page.keyboard.press("/")
    page.keyboard.type("a photo of the digit seven")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.tile .name')?.textContent === 'seven'")
    page.locator("#tab-map").click()
    until(page, "document.querySelector('.map .toolbar').textContent.includes('images by')")
    assert ", without the exam. Draw" in page.locator(".map .toolbar").inner_text()
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for x, y in ((0.99, 0.02), (0.99, 0.98), (0.02, 0.98)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()
    assert "selected" in page.locator(".map .toolbar").inner_text()


def test_labels_are_exported(page: Any, server: Server) -> None:
    counts = server.state()["counts"]
    labeled = counts["taught"] + counts["exam"] + counts["none"]
    page.locator("#tab-export").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Labels").click()
    lines = Path(started.value.path()).read_text().splitlines()
    assert lines[0] == "path,label,split,none_of_these,content"
    assert len(lines) == 1 + labeled


def test_two_tabs_show_the_same(page: Any, browser: Any, server: Server) -> None:
    other = browser.new_page()
    other.goto(server.url)
    other.wait_for_selector(".card img")
    other.locator("#main").focus()
    press(other, truth_of(other))
    number = server.state()["counts"]
    text = f"{number['taught'] + number['exam']} labels"
    for tab in (page, other):
        until(tab, "(text) => document.querySelector('#facts').textContent.includes(text)", text)
    other.close()


def test_no_finding_of_axe_is_serious(page: Any) -> None:
    require_no_serious_finding(page, ("label", "browse", "map", "accuracy", "export"))


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for view in ("label", "browse", "map", "accuracy", "export"):
        page.locator(f"#tab-{view}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, view
    page.set_viewport_size({"width": 1280, "height": 860})


def test_the_browser_had_no_trouble(page: Any) -> None:
    assert page.trouble == []


def test_all_labels_are_there_after_a_kill(server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = server.state()["counts"]
    server.kill()
    again = open_session(folder, state=state_folder(folder), classes=folder.parent / "names.txt", thorough=False)
    assert session_summary(again)["counts"] == before
    assert run(["studio", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "used by a running studio" in told
    assert "--state" in told
    again.close()
