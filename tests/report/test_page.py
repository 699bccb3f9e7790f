"""A page stands alone, asks nobody for anything, and shows text as text."""

from __future__ import annotations

import doctest
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalign.errors import InputError
from modalign.evaluate.metrics import mean_interval
from modalign.evaluate.runs import Summary
from modalign.report import figures
from modalign.report import page as page_module
from modalign.report.examples import Example, Examples, thumbnail
from modalign.report.page import Page
from modalign.report.tables import Cell, Table, accuracy_table

NASTY = "</p></style><script>alert('x')</script><img src=https://evil.example/x.png onerror=1> & \"q\""
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Collects what a browser would see, and checks that every element is closed."""

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
    page = Page(words, words, facts=[(words, words)], record={words: words, "versions": {"numpy": "2"}})
    page.section(words, words, table=Table([words, "n"], [[words, Cell(words, words)]], words))
    page.section("Picture", figure=figures.confusion_matrix(np.eye(2, dtype=int), [words, "b"]))
    return page.section("Images", figure=Examples([Example(image, words, "other", 0.5, words)]))


def test_text_is_text_wherever_it_stands() -> None:
    reader = Reader(full_page(NASTY).html())
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in reader.tags}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    # title, heading, summary, fact ×2, section heading and text, table header, row head, cell, its note and caption,
    # the picture's label, the answer and its note, the record's key and value, and both in the machine's copy
    whole = "".join(reader.text).replace("\u00a0", " ")
    assert whole.count("<script>alert('x')</script>") >= 17


def test_nothing_is_loaded_from_anywhere() -> None:
    document = full_page().html()
    assert not re.findall(r"(?:https?:)?//[a-z]", document)
    for tag, attributes in Reader(document).tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name, address)
    assert not re.findall(r"@import|@font-face|url\((?!#)", document)


def test_the_browser_is_told_to_refuse_loads_and_scripts() -> None:
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
    assert "<p>one</p><p>two\nstill two</p>" in document
    assert document.index("first") < document.index("second")


def test_record_is_there_for_people_and_machines() -> None:
    record = {"seeds": [1, 2, 3], "versions": {"numpy": "2.4", "torch": "2.13"}, "share": np.float32(0.5)}
    document = Page("t", "s", record=record).html()
    assert "numpy 2.4 · torch 2.13" in document
    assert "<dd>1, 2, 3</dd>" in document
    text = re.search(r"<pre>(.*?)</pre>", document, flags=re.DOTALL).group(1)  # type: ignore[union-attr]
    assert json.loads(text.replace("&quot;", '"')) == {**record, "share": 0.5}


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


def test_accuracy_table_has_a_column_a_budget_and_marks_the_best() -> None:
    rows = [
        Summary("zero-shot", 0, mean_interval([0.7, 0.7, 0.7]), 0.0),
        Summary("probe", 1, mean_interval([0.5, 0.6, 0.7]), 0.0),
        Summary("cmm", 1, mean_interval([0.7, 0.8, 0.9]), 0.0),
        Summary("cmm", 4, mean_interval([0.9]), 0.0),
    ]
    table = accuracy_table(rows)
    assert list(table.header) == ["", "no labels", "1 label", "4 labels"]
    assert table.rows[0] == ["zero-shot", Cell("70.0", "± 0.0"), Cell("–"), Cell("–")]
    assert table.rows[2] == ["cmm", Cell("–"), Cell("80.0", "± 24.8", strong=True), Cell("90.0", "one run")]
    assert "3 seeds" in table.caption


# -- example images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(8, 8), (640, 300)])
def test_images_of_every_kind_become_small_data(mode: str, size: tuple[int, int]) -> None:
    uri = thumbnail(Image.new(mode, size), 96)
    assert uri.startswith("data:image/png;base64," if max(size) <= 48 else "data:image/jpeg;base64,")
    assert len(uri) < 8000


def test_wrong_answers_are_marked_in_words() -> None:
    image = Image.new("L", (8, 8))
    wrong = Examples([Example(image, "three", "eight", 0.61)]).html()
    assert "is eight" in wrong
    assert 'class="wrong"' in wrong
    assert "61\u00a0%" in wrong
    assert 'alt="named three, is eight"' in wrong
    for fine in (Example(image, "three", "three"), Example(image, "three")):
        assert "wrong" not in Examples([fine]).html()
