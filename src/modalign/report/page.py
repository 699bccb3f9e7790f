"""One self-contained HTML page: no request leaves it, no script runs in it, it reads well on paper and in the dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol, Self

from modalign.errors import InputError
from modalign.files import write
from modalign.record import plain
from modalign.report.style import FONT, style_sheet, words


class Block(Protocol):
    """What can stand in a section: a table, a picture, a strip of examples. Its HTML is escaped by itself."""

    def html(self) -> str: ...


class Page:
    """A report, built section by section.

    >>> page = Page("Digits", "A model that has never seen a digit names most of them.")
    >>> page.section("How it did", "Better with more labels.").html().startswith("<!doctype html>")
    True

    Parameters
    ----------
    title : of the page.
    summary : one or two plain sentences that say what came out.
    facts : a few numbers to see first, as (number, what it is).
    record : what the numbers rest on — versions, seeds, fingerprints — for the foot of the page.
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
        self._sections: list[str] = []

    def section(
        self,
        heading: str,
        text: str = "",
        *,
        table: Block | Sequence[Block] = (),
        figure: Block | Sequence[Block] = (),
    ) -> Self:
        """Add a section: heading, plain text (a blank line starts a paragraph), then tables and figures, side by side
        where the page is wide enough."""
        blocks = "".join(block.html() for block in (*_blocks(table), *_blocks(figure)))
        blocks = f'<div class="blocks">{blocks}</div>' if blocks else ""
        self._sections.append(f"<section><h2>{words(heading)}</h2>{_paragraphs(text)}{blocks}</section>")
        return self

    def html(self) -> str:
        """The whole document."""
        facts = "".join(f"<div><dt>{words(what)}</dt><dd>{words(number)}</dd></div>" for number, what in self.facts)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            "img-src data:; base-uri 'none'; form-action 'none'\">"
            f'<link rel="icon" href="data:,"><title>{escape(self.title)}</title>'
            f"<style>{style_sheet()}{_STYLE}</style></head><body><main>"
            f"<header><h1>{words(self.title)}</h1>{_paragraphs(self.summary, kind='lead')}"
            + (f'<dl class="facts">{facts}</dl>' if facts else "")
            + f"</header>{''.join(self._sections)}{_footer(self.record)}</main></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page; the whole file or nothing."""
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"Expected a page name ending in .html, got '{path.name}'.")
        return write(path, self.html().encode())


def _blocks(given: Block | Sequence[Block]) -> list[Block]:
    return [given] if hasattr(given, "html") else list(given)  # type: ignore[arg-type, list-item]


def _paragraphs(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return "".join(f"<p{attribute}>{words(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _footer(record: Mapping[str, Any]) -> str:
    if not record:
        return ""
    entries = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(_words(v))}</dd></div>" for k, v in record.items())
    text = escape(json.dumps(plain(record), indent=1, ensure_ascii=False))
    return (
        f"<footer><h2>What these numbers rest on</h2><dl>{entries}</dl>"
        f"<details><summary>The same for machines</summary><pre>{text}</pre></details></footer>"
    )


def _words(value: Any) -> str:
    value = plain(value)
    if isinstance(value, dict):
        return " · ".join(f"{key} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return str(value)


_STYLE = f"""
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%}}
body{{margin:0;background:var(--surface);color:var(--ink);font:16px/1.6 {FONT}}}
main{{max-width:64rem;margin:0 auto;padding:clamp(1.5rem,6vw,4.5rem) clamp(1rem,4vw,2.5rem)}}
h1,h2,p,footer dl{{max-width:42rem}}
h1{{margin:0 0 1rem;font-size:clamp(1.75rem,1.3rem + 2.2vw,2.6rem);line-height:1.15;letter-spacing:-.022em;
font-weight:680;text-wrap:balance}}
h2{{margin:0 0 .6rem;font-size:1.3rem;line-height:1.3;letter-spacing:-.012em;font-weight:640;text-wrap:balance}}
p{{margin:0 0 1rem;text-wrap:pretty}}
.lead{{font-size:1.16rem;line-height:1.55;color:var(--muted)}}
section{{margin-top:clamp(2.5rem,6vw,4rem)}}
figure{{margin:0}}
figcaption,caption,small,footer{{color:var(--muted)}}
.facts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,max-content));gap:1rem 2rem;margin:2rem 0 0}}
.facts div{{display:flex;flex-direction:column-reverse}}
.facts dd{{margin:0;font-size:2rem;line-height:1.2;font-weight:640;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}}
.facts dt{{color:var(--muted);font-size:.9rem}}
.blocks{{display:flex;flex-wrap:wrap;gap:2rem;align-items:flex-start;margin-top:1.5rem}}
.picture{{max-width:100%;overflow-x:auto}}
.picture svg{{display:block;max-width:100%;min-width:var(--least);height:auto}}
.table{{max-width:100%;overflow-x:auto}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}
th,td{{padding:.55rem 1.4rem .55rem 0;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--rule)}}
tr>:last-child{{padding-right:0}}
th.number,td.number{{text-align:right}}
thead th{{font-size:.85rem;font-weight:500;color:var(--muted);line-height:1.3;vertical-align:bottom}}
tbody th{{font-weight:500}}
td small{{display:block;font-size:.78rem;line-height:1.3;white-space:nowrap}}
caption{{caption-side:bottom;padding-top:.7rem;text-align:left;font-size:.85rem;line-height:1.45}}
.examples{{display:grid;grid-template-columns:repeat(auto-fill,minmax(5.5rem,1fr));gap:1.1rem .9rem;width:100%}}
.examples img{{display:block;width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;
background:var(--rule);outline:1px solid var(--rule);outline-offset:-1px}}
.examples .crisp{{image-rendering:pixelated}}
.examples .wrong img{{outline:2px solid var(--series-2)}}
.examples figcaption{{margin-top:.35rem;font-size:.85rem;line-height:1.35;color:var(--ink);overflow-wrap:anywhere}}
.examples small{{white-space:nowrap}}
.examples .truth{{display:block;color:var(--series-2)}}
footer{{margin-top:clamp(3rem,8vw,5rem);padding-top:1.5rem;border-top:1px solid var(--rule);font-size:.85rem}}
footer h2{{font-size:1rem;color:var(--ink)}}
footer dl{{margin:0 0 1rem;display:grid;gap:.35rem}}
footer dl div{{display:grid;grid-template-columns:9rem 1fr;gap:1rem}}
footer dt{{color:var(--muted)}}
footer dd{{margin:0;color:var(--ink);overflow-wrap:anywhere}}
summary{{cursor:pointer}}
pre{{overflow-x:auto;font-size:.8rem;line-height:1.45}}
:focus-visible{{outline:2px solid var(--series-1);outline-offset:3px}}
@media (max-width:32rem){{
.facts dd{{font-size:1.6rem}}
th,td{{padding-right:.9rem}}
tr>:last-child{{padding-right:0}}
footer dl div{{grid-template-columns:1fr;gap:0}}
}}
@media print{{section{{break-inside:avoid}}details{{display:none}}}}
"""
