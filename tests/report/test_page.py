"""A page is self-contained, makes no requests, and shows text as text."""

from __future__ import annotations

import doctest
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modalign.core.display import is_safe
from modalign.core.errors import InputError
from modalign.evaluate.metrics import mean_interval
from modalign.evaluate.runs import Summary
from modalign.report import page as page_module
from modalign.report.confusion import confusion_matrix
from modalign.report.examples import Example, Examples, thumbnail
from modalign.report.page import Page
from modalign.report.run_tables import Fold, Table, TableCell, accuracy_table

NASTY = "</p></style><script>alert('x')</script><img src=https://evil.example/x.png onerror=1> & \"q\""
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Collects the visible text, and checks that every element is closed."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def full_page(words: str = "plain") -> Page:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3)
    table = Table([words, "n"], {words: [[words, TableCell(words, words)]]}, words, title=words, foot=[[words, "1"]])
    page = Page(words, words, facts=[(words, words)], record={words: words, "versions": {"numpy": "2"}})
    page.section(words, words, blocks=[table, Fold(words, [table])])
    page.section("Picture", blocks=confusion_matrix(np.eye(2, dtype=int), [words, "b"]))
    return page.section("Images", blocks=Examples([Example(image, words, "other", 0.5, words)]))


def test_text_is_text_wherever_it_stands() -> None:
    reader = Reader(full_page(NASTY).html())
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in reader.tags}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    # title, heading, summary, fact ×2, section heading and text, the table (title, header, group, row head, cell, its
    # note, foot, caption) twice, the fold's summary, the answer, the record's key and value, and both in its JSON
    whole = "".join(reader.text).replace("\u00a0", " ")
    assert whole.count("<script>alert('x')</script>") >= 7 + 2 * 8 + 1 + 1 + 2 + 2


@given(st.text(st.characters(exclude_categories=()), max_size=30))
@settings(max_examples=25, deadline=None)
def test_any_name_gives_a_page_of_valid_xml_that_obeys_no_control_character(name: str) -> None:
    document = full_page(f"{NASTY}\x1b[2J\x00\u202e\ufffe\ud800{name}").html()
    document.encode()  # no half of a surrogate pair
    body = document.partition("<body>")[2].partition("</body>")[0]
    closed = re.sub(r"<(img|link|meta)( [^>]*)?>", r"<\1\2/>", body)
    ElementTree.fromstring(re.sub(r"&(nbsp|copy);", "", closed).strip())
    assert all(is_safe(c) or c in "\n\t" for c in document)


def test_nothing_is_loaded_from_anywhere() -> None:
    document = full_page().html()
    assert not re.findall(r"(?:https?:)?//[a-z]", document)
    for tag, attributes in Reader(document).tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name, address)
    assert not re.findall(r"@import|@font-face|url\((?!#)", document)


def test_headers_make_the_browser_refuse_loads_and_scripts() -> None:
    tags = Reader(full_page().html()).tags
    (policy,) = (a["content"] for t, a in tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_page_is_readable_by_anyone() -> None:
    tags = Reader(full_page().html()).tags
    assert ("html", {"lang": "en"}) in tags
    assert [t for t, _ in tags if t == "h1"] == ["h1"]
    assert any(a.get("name") == "viewport" for _, a in tags)
    assert any(a.get("content") == "light dark" for _, a in tags)
    assert all(a.get("alt") for t, a in tags if t == "img")
    assert all(a.get("aria-label") and a.get("role") == "img" for t, a in tags if t == "svg")
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_same_page_is_the_same_file() -> None:
    assert full_page().html() == full_page().html()


def test_blank_lines_make_paragraphs_and_sections_keep_their_order() -> None:
    document = Page("t", "s").section("first", "one\n\ntwo\nstill two").section("second").html()
    assert "<p>one</p>" in document
    assert "<p>two still two</p>" in document
    assert document.index("first") < document.index("second")


def test_the_record_is_there_for_people_and_machines_without_empty_rows_and_folders() -> None:
    record = {
        "random_state": 3, "notes": [], "clip_encoder": None, "asked": 1, "versions": {"numpy": "2.4", "torch": "2.13"},
        "share": np.float32(0.5), "encoder": "/home/jane/clip (0123)", "parameters": {"file": "/home/jane/a.json"},
    }  # fmt: skip
    document = Page("t", "s", record=record).html()
    rows = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", document))
    assert rows == {
        "random seed": "3", "uses of the test labels per run": "1", "versions": "numpy 2.4, torch 2.13",
        "share": "0.5", "encoder": "clip (0123)", "parameters": "file a.json",
    }  # fmt: skip
    assert "/home" not in document
    text = re.search(r"<pre[^>]*>(.*?)</pre>", document, flags=re.DOTALL).group(1)  # type: ignore[union-attr]
    plain = {"share": 0.5, "encoder": "clip (0123)", "parameters": {"file": "a.json"}}
    assert json.loads(unescape(text)) == {**record, **plain}


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    assert Page("old", "s").save(path) == path

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(InputError, match="No space left"):
            Page("new", "s").save(path)
    assert "<title>old</title>" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match=r"ending in \.html"):
        Page("t", "s").save(tmp_path / "report.pdf")


def test_the_example_in_the_docs_runs() -> None:
    assert doctest.testmod(page_module).failed == 0


# -- tables -----------------------------------------------------------------------------------------------------------


def test_numbers_are_set_right_and_words_left() -> None:
    tags = Reader(Table(["name", "n", "share"], [["a", 3, "94.1 %"], ["b", 12, "–"]]).html()).tags
    assert [a.get("class") for t, a in tags if t == "th"][:3] == [None, "number", "number"]
    assert sum(a.get("class") == "number" for t, a in tags if t == "td") == 4


def test_rows_must_fit_the_header() -> None:
    with pytest.raises(InputError, match="2 cells"):
        Table(["a", "b"], [["only one"]])


def test_groups_and_foot_stand_in_bodies_of_their_own() -> None:
    table = Table(["name", "n"], {"cats": [["a", 3]], "dogs": [["b", 4], ["c", 5]]}, foot=[["Chance level", "1"]])
    tags = [t for t, _ in Reader(table.html()).tags]
    assert (tags.count("tbody"), tags.count("tfoot"), tags.count("tr")) == (2, 1, 1 + 2 + 3 + 1)
    assert ("th", {"scope": "rowgroup", "colspan": "2"}) in Reader(table.html()).tags
    with pytest.raises(InputError, match="2 cells"):
        Table(["a", "b"], [], foot=[["only one"]])


def test_accuracy_table_has_a_column_a_budget_marks_the_best_and_ends_with_chance() -> None:
    rows = [
        Summary("zero-shot", 0, mean_interval([0.7, 0.7, 0.7], bounds=(0, 1)), 0.0),
        Summary("probe", 1, mean_interval([0.5, 0.6, 0.7], bounds=(0, 1)), 0.0),
        Summary("cmm", 1, mean_interval([0.8, 0.9, 1.0], bounds=(0, 1)), 0.0),
        Summary("cmm", 4, mean_interval([0.9], bounds=(0, 1)), 0.0),
    ]
    table = accuracy_table(rows, chance=0.1)
    assert list(table.header) == ["", "no labels", "1 label", "4 labels"]
    assert table.rows[0] == ["zero-shot", TableCell("70.0", "all runs equal"), TableCell("–"), TableCell("–")]
    assert table.rows[2] == [
        "cmm",
        TableCell("–"),
        TableCell("90.0", "65.2 to 100.0", strong=True),
        TableCell("90.0", "one run"),
    ]
    assert table.foot == [["Chance level", "10.0", "10.0", "10.0"]]
    assert "3 seeds" in table.caption
    assert "so there is no interval" in accuracy_table(rows[-1:], chance=0.1).caption


# -- example images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(8, 8), (640, 300)])
def test_images_of_every_kind_become_small_data(mode: str, size: tuple[int, int]) -> None:
    uri = thumbnail(Image.new(mode, size), 96)
    assert uri.startswith("data:image/png;base64," if max(size) <= 48 else "data:image/jpeg;base64,")
    assert len(uri) < 8000


@pytest.mark.parametrize("size", [(48, 48), (49, 49), (300, 200), (4000, 5)])
def test_even_noise_becomes_small_data(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    assert len(thumbnail(Image.fromarray(noise))) < 16_100


def test_wrong_answers_are_marked_in_words() -> None:
    image = Image.new("L", (8, 8))
    wrong = Examples([Example(image, "three", "eight", 0.614, "a/b.png")]).html()
    text = " ".join("".join(Reader(wrong).text).split())
    assert text == "three 61.4 % is eight"
    assert 'class="wrong"' in wrong
    assert 'alt="predicted three (61.4\u00a0%), true class eight"' in wrong
    assert 'title="a/b.png"' in wrong
    for fine in (Example(image, "three", "three"), Example(image, "three")):
        assert "wrong" not in Examples([fine]).html()
