"""Write one page a method into docs/methods, and what is listed of all, from what their classes say about themselves.

python scripts/make_docs.py           write the pages
python scripts/make_docs.py --check   exit 1 if a page is not what it would write
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

import modalign
from modalign.cli.overview import LIBRARY, described, requirements
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.contract.parameters import format_annotation, parameters

MATH_BLOCK = re.compile(r"^\.\. math::[ \n]*((?:.+\n?)(?:[ \t]+.+\n?|\n(?=[ \t]))*)", flags=re.MULTILINE)
FOLDER = Path(__file__).parents[1] / "docs" / "methods"


def page(name: str) -> str:
    """The page of one method: its docstring, a table of its hyper-parameters, and how to call it."""
    cls = method_class(name)
    doc = inspect.getdoc(cls) or ""
    sections = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    parts = [f"# {cls.title}", f"*{cls.paper}*", _prose(sections[0])]
    uses = requirements(described(cls))
    needs = [f"labels: {uses['labels']}", f"class text: {uses['text']}"]
    home = "ma" if cls.__name__ in modalign.__all__ else cls.__module__
    parts.append(f"`{home}.{cls.__name__}` · `--method {name}` · {' · '.join(needs)}")
    rows = [
        f"| `{p.name}` | {format_annotation(p.annotation).replace('|', '/')} | `{p.default!r}` | {_prose(p.meaning)} |"
        for p in parameters(cls)
    ]
    parts += ["## Hyper-parameters", "\n".join(["| name | type | default | meaning |", "|---|---|---|---|", *rows])]
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        if title != "Parameters":
            parts += [f"## {title}", _prose(body)]
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """A list of the pages."""
    lines = [f"- [{method_class(name).title}]({name}.md)" for name in ALL_METHODS]
    return "# Methods\n\n" + "\n".join(lines) + "\n"


def table() -> str:
    """The file that ``modalign list`` reads, a line for each fact and hyper-parameter."""
    methods = []
    for name in ALL_METHODS:
        facts = described(method_class(name))
        rows = ",\n   ".join(json.dumps(row, ensure_ascii=False) for row in facts.pop("parameters"))
        lines = [f"{json.dumps(fact)}: {json.dumps(value, ensure_ascii=False)}" for fact, value in facts.items()]
        lines.append(f'"parameters": [\n   {rows}\n  ]' if rows else '"parameters": []')
        methods.append(f" {json.dumps(name)}: {{\n  " + ",\n  ".join(lines) + "\n }")
    return "{\n" + ",\n".join(methods) + "\n}\n"


def _prose(text: str) -> str:
    """Docstring conventions as Markdown: mathematics between dollars, roles as names, double backticks as single."""
    text = MATH_BLOCK.sub(_display, text.strip())
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def _display(match: re.Match[str]) -> str:
    """A block of equations, aligned where the docstring aligns it."""
    body = inspect.cleandoc(match.group(1)).strip()
    if "&" in body:
        body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"
    return f"$$\n{body}\n$$\n"


def main() -> int:
    """Write or check; the exit code says whether all pages were current."""
    pages = {LIBRARY: table(), FOLDER / "index.md": index()}
    pages |= {FOLDER / f"{name}.md": page(name) for name in ALL_METHODS}
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        print(f"stale: {', '.join(stale)}; run make docs" if stale else "docs are current")
        return bool(stale)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
