"""The page of the papers' tables: all numbers, states under them, no request, and no sideways scrolling of the page."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from modalign.cli import run
from modalign.evaluate.publications.number_states import KINDS
from modalign.evaluate.published import published
from modalign.report.paper_tables_page import MEANING


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "tables.html"
    assert run(["tables", "all", "--page", str(path)]) == 0
    return path


def test_the_page_has_every_number_with_its_state(page: Path) -> None:
    text = unescape(page.read_text(encoding="utf-8"))
    cells = re.findall(r"<td[^>]*>(?:<strong>)?([^<]+?)(?:</strong>)?<small>([^<]+)</small>", text)
    assert len(cells) == len(published())
    assert sorted(re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+$", "", number) for number, _ in cells) == sorted(
        p.printed for p in published()
    )
    assert {state.partition(":")[0] for _, state in cells} == set(KINDS) == set(MEANING)
    assert text.count("Lu et al.") == 12  # a section per table of DAM


def test_the_page_is_whole_in_a_browser(tmp_path: Path, browser: Any) -> None:
    page = tmp_path / "some.html"
    assert run(["tables", "cmm", "fair:1", "--page", str(page)]) == 0
    for width in (1280, 390):
        opened = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        trouble: list[str] = []
        for event in ("console", "pageerror"):
            opened.on(event, lambda what: trouble.append(str(what)))  # noqa: B023
        opened.on("request", lambda r: r.url.startswith(("file:", "data:")) or trouble.append(r.url))  # noqa: B023
        opened.goto(page.as_uri())
        assert not trouble
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        boxes = opened.evaluate(
            "[...document.querySelectorAll('table')].filter(t => !t.closest('details')).map(t => t.offsetHeight)"
        )
        assert len(boxes) == 2 + 11 + 1
        assert min(boxes) > 50


def test_the_command_prints_rows_states_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tables", "cmm:4", "fair:9"]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"^Tip-Adapter-F +10k +5min +65\.51 +\+5\.18 +here: a setting; not reproducible: .*imagenet$", printed, re.M
    )
    assert "[1] 56.13 in Table 3." in printed
    assert re.search(r"^cmm +6 .* 32$", printed, re.M)
    assert re.search(r"^FAIR +45\.1K +91\.92 +here: 45,056; needs weights", printed, re.M)


def test_the_command_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tables", "dam:x", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [entry["printed"] for entry in content["tables"][0]["numbers"]][:2] == ["149620737", "149916697"]
    assert sum(content["counts"]["dam"].values()) == 10


def test_unknown_tables_and_missing_records_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["tables", "dam:12"]) == 2
    assert "Unknown table of dam '12'" in capsys.readouterr().err
    assert run(["tables", "dam:1", "--record", str(tmp_path / "no.jsonl")]) == 2
    assert "no.jsonl" in capsys.readouterr().err
    assert run(["tables", "dam:1", "--page", str(tmp_path / "page.pdf")]) == 2
