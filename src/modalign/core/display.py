"""Display of untrusted names without control characters, and tables as plain text and HTML."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # of Persian words and of emoji: they affect their neighbors only
_COMMANDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
SHOWN = 10
"""Rows in the table of an object's ``repr``."""


def is_safe(character: str) -> bool:
    """Return whether a character has no effect beyond being displayed.

    False for control characters, escapes, line breaks, text direction marks, unpaired surrogates, and the last two code
    points of a plane, which XML forbids.
    """
    if ord(character) & 0xFFFE == 0xFFFE:
        return False
    return character in _JOINERS or unicodedata.category(character) not in _COMMANDS


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can hold a text: it has no half of a surrogate pair."""
    return text.encode(errors="replace").decode() == text


def visible(text: str) -> str:
    r"""Replace control characters by escapes such as ``\x1b`` or ``\n``, so that a terminal does not execute them."""
    if text.isprintable():
        return text
    return "".join(c if is_safe(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def markdown(text: str) -> str:
    """Escape text for Markdown, on one line and without control characters or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", visible(" ".join(text.split())))


def shorten_repr(text: str, limit: int = 40) -> str:
    """Quote ``text`` for a ``repr``, truncated to ``limit`` characters."""
    shown = repr(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 2]}…{shown[0]}"


def shorten_all(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names for a ``repr``."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(shorten_repr(name) for name in names[:limit])}{more}"


def n_images(count: int) -> str:
    """Return ``"1 image"`` or ``"3 images"``."""
    return "1 image" if count == 1 else f"{count} images"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns to their widest cell, in terminal character cells. Nothing is truncated or wrapped."""
    from rich.cells import cell_len

    lines = [[visible(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], total: int | None = None) -> str:
    """Return an escaped HTML table for a notebook; ``total`` is the number of rows if only some are passed."""

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(visible(cell))}</{tag}>' for cell in cells)}</tr>"

    body = [line(row, "td") for row in rows]
    hidden = (len(rows) if total is None else total) - len(rows)
    if hidden > 0:
        body.append(f'<tr><td colspan="{len(header)}">… {hidden} more</td></tr>')
    return (
        f"<table><caption>{html.escape(visible(caption))}</caption><thead>{line(header, 'th')}</thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )
