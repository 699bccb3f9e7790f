"""One self-contained HTML page without requests and scripts, with styles for print and dark mode."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, Self

from markupsafe import Markup, escape

from modalign.core.errors import InputError
from modalign.core.files import write
from modalign.core.record import plain
from modalign.report.style import FONT, style_sheet
from modalign.report.templating import render
from modalign.report.text import one_line, without_folders

NAMES = {
    "random_state": "random seed",
    "shots": "labeled images per class",
    "asked": "uses of the test labels per run",
    "features": "fingerprint of the features",
    "jobs": "runs in parallel",
    "seconds": "total time, s",
}
"""Entries of a record → description for the reader."""


class PageSection(Protocol):
    """Part of a section, such as a table, a picture or a strip of examples. Its HTML is escaped."""

    def html(self) -> str: ...


class Page:
    """A report, built section by section.

    >>> page = Page("Digits", "A model that was trained on no digit names most of them.")
    >>> page.section("Accuracy", "Better with more labels.").html().startswith("<!doctype html>")
    True

    Parameters
    ----------
    title : str
        Title of the page.
    summary : str
        One or two sentences with the result; a blank line starts a paragraph.
    facts : sequence of (str, str), default=()
        Main numbers, each with its meaning.
    record : mapping, default=None
        Versions, seeds, fingerprints and similar entries, for the foot of the page. Empty entries are left out, and
        absolute paths are cut to their last part.
    """

    def __init__(
        self,
        title: str,
        summary: str,
        *,
        facts: Sequence[tuple[str, str]] = (),
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.title, self.summary, self.facts, self.record = title, summary, tuple(facts), dict(record or {})
        self._sections: list[dict[str, Any]] = []

    def section(self, heading: str, text: str = "", *, blocks: PageSection | Sequence[PageSection] = ()) -> Self:
        """Add a section: heading, plain text (a blank line starts a paragraph), then blocks, which are placed side by
        side where the page is wide enough."""
        parts = [blocks] if hasattr(blocks, "html") else list(blocks)
        shown = [Markup(part.html()) for part in parts]
        self._sections.append({"heading": heading, "paragraphs": _paragraphs(text), "blocks": shown})
        return self

    def html(self) -> str:
        """The whole document."""
        style = files("modalign.report").joinpath("templates/page.css").read_text(encoding="utf-8")
        record = _public(plain(self.record))
        entries = {NAMES.get(name, name.replace("_", " ")): _in_words(value) for name, value in record.items()}
        return render(
            "page.html",
            page=self,
            summary=_paragraphs(self.summary),
            sections=self._sections,
            style=Markup(style_sheet() + style.replace("FONT", FONT)),
            facts=[(name, value) for name, value in entries.items() if value],
            json=_lines(json.dumps(record, indent=1, ensure_ascii=False)),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, atomically."""
        _require_html(path)
        return write(path, self.html().encode())


def _require_html(path: str | Path) -> None:
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"Expected a page name ending in .html in a folder that exists, got '{path}'.")


def _paragraphs(text: str) -> list[str]:
    return [part for part in text.split("\n\n") if part.strip()]


def _lines(text: str) -> Markup:
    """Text that keeps its line breaks."""
    return Markup("\n").join(escape(visible_line) for visible_line in map(_visible_line, text.split("\n")))


def _visible_line(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + one_line(line)


def _public(value: Any) -> Any:
    """A plain value with absolute paths in it cut to their last part."""
    if isinstance(value, dict):
        return {key: _public(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_public(entry) for entry in value]
    return without_folders(value) if isinstance(value, str) else value


def _in_words(value: Any) -> str:
    """Return a value as text; empty for an empty value."""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_in_words(entry) or 'none'}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
