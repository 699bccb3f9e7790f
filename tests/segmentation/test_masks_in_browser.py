"""The page about masks in a browser: it makes no requests, and its switches and sliders work."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import ColorSegmenter, draw_scenes
from PIL import Image

from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.report.masks.mask_page import page_classes, save_mask_page
from modalign.segmentation.mask_run import segment_to_folder

NAMES = ("cat", "<b>grass</b> & co", "sky")
PIXELS = """() => {
  const c = document.querySelector("canvas");
  return btoa(String.fromCharCode(...c.getContext("2d").getImageData(0, 0, c.width, c.height).data));
}"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos and a broken file, with a page."""
    folder = tmp_path_factory.mktemp("page")
    photos = draw_scenes(folder / "photos", 3)
    (photos / 'it\'s "broken".jpg').write_bytes(b"\xff\xd8\xff")
    items = load_items(photos)
    run = segment_to_folder(ColorSegmenter(radius=25, names=NAMES), items, folder / "out")
    save_mask_page(run.document, items, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def page(browser: Any, out: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.trouble = []
    for event in ("console", "pageerror"):
        opened.on(event, lambda what: opened.trouble.append(str(what)))
    address = (out / "index.html").as_uri()
    opened.on("request", lambda r: r.url in (address,) or r.url.startswith("data:") or opened.trouble.append(r.url))
    opened.goto(address)
    opened.wait_for_function(
        "document.querySelector('canvas').width > 0 && document.querySelector('canvas').width != 300"
    )
    yield opened
    context.close()


def test_the_page_has_every_photo_in_words_and_escapes_names(out: Path) -> None:
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "<b>grass" not in text
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(text)
    alts = [a["alt"] for tag, a in found if tag == "img"]
    assert len(alts) == 3
    assert all(alt.startswith(f"photo00{i}.png: ") and "sky" in alt and "no class" in alt for i, alt in enumerate(alts))
    links = {a[key] for _, a in found for key in ("src", "href") if key in a}
    assert {link for link in links if not link.startswith("data:")} == {f"photo00{i}.png" for i in range(3)}
    ranges = [a for tag, a in found if tag == "input" and a.get("type") == "range"]
    assert all(a.get("aria-label") for a in ranges)
    assert text.count('data-class="') == 3


def test_shares_over_all_photos_are_weighted_by_their_pixels() -> None:
    entries = [
        {"width": w, "height": 1, "none_share": 0.0, "segments": [{"class_id": k, "share": 1.0, "mean_confidence": c}]}
        for w, k, c in ((30, 0, 0.5), (10, 1, 0.2), (10, 1, 0.6))
    ]
    classes = [{"name": n, "names": [n], "color": [1, 2, 3]} for n in ("a", "b", "c")]
    first, second, third = page_classes({"images": entries, "classes": classes})
    assert (first.share, second.share, third.share) == pytest.approx((0.6, 0.4, 0))
    assert (first.confidence, third.confidence, third.n_images) == (0.5, None, 0)
    assert second.confidence == pytest.approx(0.4)


def test_no_error_and_no_request(page: Any) -> None:
    page.evaluate("document.querySelectorAll('figure').forEach((f) => f.scrollIntoView())")
    page.wait_for_timeout(100)
    assert page.trouble == []


def pixels(page: Any) -> np.ndarray:
    """What the first canvas shows, (50, 70, 4)."""
    return np.frombuffer(base64.b64decode(page.evaluate(PIXELS)), dtype=np.uint8).reshape(50, 70, 4)


def test_the_canvas_has_the_colors_of_the_labels(page: Any, out: Path) -> None:
    shown = pixels(page)
    with Image.open(out / "photo000.png") as mask:
        labels = np.asarray(mask)
        colors = np.asarray(mask.convert("RGB"))
    np.testing.assert_array_equal(shown[labels < 3][:, :3], colors[labels < 3])
    assert (shown[labels < 3][:, 3] == 255).all()
    assert (shown[labels == 255][:, 3] == 0).all()


def test_a_class_is_switched_off_and_on(page: Any, out: Path) -> None:
    labels = np.asarray(Image.open(out / "photo000.png"))

    def seen() -> set[int]:
        return set(labels[pixels(page)[..., 3] > 0].tolist())

    box = page.locator("input[data-class='1']")
    assert seen() == {0, 1, 2}
    box.uncheck(force=True)
    assert seen() == {0, 2}
    assert page.locator("[data-of='1'].off").count() == page.locator("[data-of='1']").count() > 0
    page.get_by_role("button", name="No class").click()
    assert seen() == set()
    page.get_by_role("button", name="All classes").click()
    assert seen() == {0, 1, 2}
    box.focus()
    page.keyboard.press("Space")
    assert seen() == {0, 2}
    page.keyboard.press("Space")
    assert seen() == {0, 1, 2}


def test_sliders_move_the_mask_over_one_photo_and_over_all(page: Any) -> None:
    def clipped(i: int) -> str:
        return page.evaluate(f"getComputedStyle(document.querySelectorAll('canvas')[{i}]).clipPath")

    page.locator("input[data-one]").nth(1).fill("25")
    assert "75%" in clipped(1)
    assert "75%" not in clipped(0)
    page.locator("input[data-every]").fill("40")
    assert all("60%" in clipped(i) for i in range(3))
    page.locator("input[data-strength]").fill("80")
    assert page.evaluate("getComputedStyle(document.querySelector('canvas')).opacity") == "0.8"


def test_nothing_is_wider_than_the_window_and_colors_follow_the_reader(page: Any) -> None:
    grounds = {"light": "rgb(254, 254, 254)", "dark": "rgb(20, 24, 29)"}
    for scheme, ground in grounds.items():
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_page_needs_a_folder_that_exists(tmp_path: Path) -> None:
    document = {"encoder": "x", "images": [], "classes": [], "quarantined": [], "settings": {}}
    with pytest.raises(InputError, match="to be writable"):
        save_mask_page(document, load_items([Image.new("RGB", (4, 4))]), tmp_path / "lacking")
