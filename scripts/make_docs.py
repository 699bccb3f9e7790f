"""Write docs/methods, one page per method, and the data of ``modalign list``, from the classes of the methods.

python scripts/make_docs.py           write the pages
python scripts/make_docs.py --check   exit 1 if a page is not current
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

from docstring_markdown import markdown

import modalign
from modalign.cli.overview import LIBRARY, described, requirements
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.contract.parameters import format_annotation, parameters

DOCS = Path(__file__).parents[1] / "docs"
FOLDER, NOTES = DOCS / "methods", DOCS / "notes"
ELSEWHERE = re.compile(r"\s*Equations:\s+:mod:`[^`]+`\.")  # of docstrings; a page has the equations itself
ENTRY = re.compile(r"^(\S.*)\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", flags=re.MULTILINE)


def page(name: str) -> str:
    """The page of one method: its docstring, a table of its hyper-parameters, its equations and its notes.

    Equations are in the docstring of the class or, for long ones, of its module. ``docs/notes/NAME.md`` has what is not
    needed to use the method: differences from the paper, published and measured results.
    """
    cls = method_class(name)
    doc = inspect.getdoc(cls) or ""
    sections = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    parts = [
        f"# {cls.title}",
        *([f"*{cls.paper}*"] if cls.paper else []),
        markdown(ELSEWHERE.sub("", sections[0])).strip(),
    ]
    uses = requirements(described(cls))
    needs = [f"labels: {uses['labels']}", f"class text: {uses['text']}"]
    home = "ma" if cls.__name__ in modalign.__all__ else cls.__module__
    parts.append(f"`{home}.{cls.__name__}` · `--method {name}` · {' · '.join(needs)}")
    equations = (inspect.getdoc(inspect.getmodule(cls)) or "").partition("\n\n")[2]
    if equations:
        parts += ["## Equations", markdown(equations).strip()]
    rows = [
        f"| `{p.name}` | {format_annotation(p.annotation).replace('|', '/')} | `{p.default!r}` | {_cell(p.meaning)} |"
        for p in parameters(cls)
    ]
    parts += ["## Hyper-parameters", "\n".join(["| name | type | default | meaning |", "|---|---|---|---|", *rows])]
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        if title != "Parameters":
            parts += [f"## {title}", SHOWN.get(title, _text)(body.strip("\n"))]
    notes = NOTES / f"{name}.md"
    if notes.exists():
        parts.append(notes.read_text("utf-8").strip())
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


def _text(body: str) -> str:
    return re.sub(r"^\.\. (\[\d+\]) ", r"\1 ", markdown(body).strip(), flags=re.MULTILINE)


def _cell(text: str) -> str:
    return " ".join(markdown(text).split()).replace("|", "\\|")


def _entries(body: str) -> str:
    """Names with their types and meanings, a table."""
    rows = []
    for head, meaning in ENTRY.findall(body + "\n"):
        name, _, kind = head.partition(" : ")
        code = ", ".join(f"`{part}`" for part in name.split(", "))
        rows.append(f"| {code} | {_cell(kind)} | {_cell(meaning)} |")
    return "\n".join(["| name | type | meaning |", "|---|---|---|", *rows])


def _code(body: str) -> str:
    return f"```python\n{body.strip()}\n```"


SHOWN = {"Attributes": _entries, "Raises": _entries, "Warns": _entries, "Examples": _code}


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
