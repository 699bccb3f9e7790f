"""Untrusted names of files and classes are shown on terminals and pages and never interpreted."""

from __future__ import annotations

import contextlib
import io
import json
import re
import traceback
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from modalign.cli.terminal import print_json, print_lines, print_table, report_quarantine
from modalign.core.display import html_table, shorten_repr, text_table, visible
from modalign.core.errors import (
    InputError,
    MissingExtraError,
    ModalignError,
    UnavailableError,
    UndecodableError,
    UnknownNameError,
)
from modalign.core.name_matching import quoted

NASTY = [
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "a\rb",
    "a\nerror: b",
    "\x9b31m",
    "\u202egpj.exe",
    "\u2066x",
    "\u2028",
    "\x7f",
    "\udc80",
]
names = st.text(max_size=12) | st.sampled_from(NASTY)


def printed(call: Callable[[], None]) -> str:
    """What a call prints, to both streams."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        call()
    return "".join(stream.buffer.getvalue().decode() for stream in streams)


def obeyed(text: str) -> set[str]:
    """Characters other than line ends that do something in a terminal, by an independent table of Unicode."""
    bidi = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return {
        c for c in text if (unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") and c != "\n")
        or unicodedata.bidirectional(c) in bidi
    }  # fmt: skip


@given(names)
def test_nothing_shown_is_obeyed_and_ordinary_names_stay(name: str) -> None:
    assert not obeyed(visible(name))
    assert "\n" not in visible(name)
    visible(name).encode()
    if name.isprintable():
        assert visible(name) == name


@pytest.mark.parametrize("name", ["کتاب\u200cها", "👩\u200d🔬", "日本語", "a b", "Ünïcode", "a\u3000b"])
def test_letters_of_the_world_are_not_touched(name: str) -> None:
    assert visible(name) == name


@given(names, st.sampled_from([InputError, UndecodableError, UnavailableError, MissingExtraError]))
def test_an_error_shows_the_names_in_it_also_where_python_prints_it(name: str, kind: type[ModalignError]) -> None:
    error = kind(f"Expected an image, got '{name}'.")
    assert str(error) == f"Expected an image, got '{visible(name)}'."
    assert not obeyed("".join(traceback.format_exception_only(error)))
    assert not obeyed(str(UnknownNameError("method", name, ["cmm"])))
    assert not obeyed(quoted([name, name]))


@given(st.lists(st.tuples(names, names), max_size=5))
def test_a_piped_table_has_one_line_a_row_whole_and_aligned(rows: list[tuple[str, str]]) -> None:
    lines = text_table(["one", "two"], rows).split("\n")
    assert len(lines) == len(rows) + 1
    width = max(cell_len(visible(first)) for first, _ in [("one", ""), *rows])
    for line, (first, second) in zip(lines[1:], rows, strict=True):
        assert line == (visible(first) + " " * (width - cell_len(visible(first))) + "  " + visible(second)).rstrip()
        assert not obeyed(line)


@given(names, names)
def test_everything_that_the_command_line_prints_is_shown(name: str, other: str) -> None:
    assert not obeyed(printed(lambda: print_lines(f"note: {name}")))
    assert printed(lambda: print_lines(f"note: {name}")).count("\n") == 1
    assert not obeyed(printed(lambda: print_table(["image", name], [[other, name]])))
    assert not obeyed(printed(lambda: report_quarantine([{"id": name, "reason": other}])))


@given(st.dictionaries(names, names, max_size=3))
def test_json_is_exact_and_still_obeyed_by_nothing(content: dict[str, str]) -> None:
    text = printed(lambda: print_json(content))
    assert json.loads(text) == content
    assert not obeyed(text)


def test_json_has_non_finite_numbers_as_text(capsys: pytest.CaptureFixture) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 0.1]})
    assert json.loads(capsys.readouterr().out) == {"a": "nan", "b": ["inf", 0.1]}


@given(st.lists(st.tuples(names, names), max_size=4))
def test_an_html_table_holds_text_only(rows: list[tuple[str, str]]) -> None:
    page = html_table("<b>", ["<i>", "&"], rows, total=len(rows) + 3)
    assert set(re.findall(r"</?([a-z]+)", page)) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "… 3 more" in page
    assert not obeyed(page)


@given(names, st.integers(5, 60))
def test_a_shortened_name_is_short_and_marked(name: str, limit: int) -> None:
    shown = shorten_repr(name, limit)
    assert len(shown) <= limit
    assert (shown == repr(name)) != shown.endswith(("…'", '…"'))
    assert not obeyed(shown)
