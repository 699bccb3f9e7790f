"""Hooks of MkDocs: pages made from other files, the API pages, and equations as MathML instead of a script."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from modalign import _HOME, __all__
from modalign.methods import METHODS, TOWER_METHODS, method_class

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "modalign"
COPIES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
WITHOUT_COLUMNS = "---\nhide:\n  - navigation\n  - toc\n---\n\n"  # the first page has no pages beside it
MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', flags=re.DOTALL)
SYNONYMS = {"{aligned}": "{align*}", r"\lVert": r"\|", r"\rVert": r"\|", r"\arg": r"\operatorname{arg}"}
ROOMS = {
    "model": "Adapting, predicting, saving",
    "methods": "Methods",
    "data": "Images, class names, splits",
    "encoders": "Encoders and stored features",
    "evaluate": "Metrics, protocols, comparison",
    "segmentation": "Segmentation",
    "audit": "Audit and search",
    "shards": "Work on many images",
    "export": "Export",
    "linalg": "Numerical methods",
    "tune": "Training inside an encoder",
    "report": "Figures and pages",
    "app": "Local pages and servers",
    "testing": "Contract of methods",
    "core": "Errors, features, files",
    "cli": "Command line",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation with the methods and the API pages."""
    for entry in config.nav or ():
        if "Methods" in entry:
            entry["Methods"] = [
                "methods/index.md",
                *({method_class(name).title: f"methods/{name}.md"} for name in [*METHODS, *TOWER_METHODS]),
            ]
        elif "API" in entry:
            entry["API"] = ["reference/index.md", *({title: uri} for uri, title, _ in _reference())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file below docs."""
    for uri, source in COPIES.items():
        head = WITHOUT_COLUMNS if uri == "index.md" else ""
        files.append(File.generated(config, uri, content=head + _relinked((ROOT / source).read_text("utf-8"))))
    files.append(File.generated(config, "reference/index.md", content=_index()))
    for uri, title, modules in _reference():
        blocks = "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, uri, content=f"# {title}\n\n{blocks}\n"))
    return files


def on_page_markdown(markdown: str, page: object, **_: object) -> str:
    """Point links that lead out of docs in the repository to the pages made of those files."""
    for uri, source in COPIES.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{source}", f"](../{uri}", markdown)
    return markdown


def on_page_content(html_text: str, **_: object) -> str:
    """Replace TeX by MathML, which browsers show without a script or a font."""
    return MATH.sub(_mathml, html_text)


def _mathml(match: re.Match[str]) -> str:
    tex = html.unescape(match[3]).strip()
    for name, other in SYNONYMS.items():
        tex = tex.replace(name, other)
    return convert(tex, display="block" if match[2] == "[" else "inline")


def _relinked(text: str) -> str:
    """A page of the root as one below docs."""
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r'src="docs/', 'src="', text)
    for uri, source in COPIES.items():
        text = text.replace(f"]({source}", f"]({uri}")
    return text


def _reference() -> Iterator[tuple[str, str, list[str]]]:
    """(address, title, modules with something public) of every API page; a page per folder of ``methods``."""
    for room, title in ROOMS.items():
        if room == "methods":
            yield "reference/methods.md", title, ["modalign.methods"]
            for folder in sorted(path for path in (SOURCE / room).iterdir() if (path / "__init__.py").exists()):
                yield f"reference/methods_{folder.name}.md", f"Methods: {folder.name}", list(_modules(folder))
        else:
            yield f"reference/{room}.md", title, list(_modules(SOURCE / room))


def _modules(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if not (path.parent / "__init__.py").is_file():  # programs that are copied, not imported
            continue
        private = any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(SOURCE).parts)
        if not private and any(True for _ in public(path)):
            parts = path.relative_to(SOURCE).with_suffix("").parts
            yield ".".join(["modalign", *parts]).removesuffix(".__init__")


def public(path: Path) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """The public classes and functions of a module that have a docstring."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_" and ast.get_docstring(node):
            yield node


def _index() -> str:
    """The names of ``modalign`` with their summaries, and where everything else is."""
    import modalign

    methods = {method_class(name).__name__ for name in [*METHODS, *TOWER_METHODS]}
    parts = ["# API", "`import modalign as ma` gives these names. They are loaded on first use."]
    for title, names in (
        ("Functions and classes", [n for n in __all__ if n in _HOME and n not in methods]),
        ("Methods", [n for n in __all__ if n in methods]),
    ):
        rows = ["| name | summary |", "|---|---|"]
        for name in names:
            summary = (getattr(modalign, name).__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
            rows.append(f"| [`ma.{name}`][modalign.{_HOME[name]}.{name}] | {summary} |")
        parts += [f"## {title}", "\n".join(rows)]
    rooms = [f"- [{title}]({uri.removeprefix('reference/')})" for uri, title, _ in _reference()]
    parts += [
        "## By folder",
        "The library has a folder per task; everything public in it has an entry.",
        "\n".join(rooms),
    ]
    return "\n\n".join(parts) + "\n"
