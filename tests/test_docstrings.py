"""Docstrings of public classes and functions are numpydoc: types where types belong, short, one example per name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import modalign

SOURCE = Path(__file__).parents[1] / "src" / "modalign"
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", flags=re.MULTILINE)
TYPED, NAMED = ("Parameters", "Attributes"), ("Raises", "Warns", "Returns", "Yields")
LINES, SUMMARY = 60, 120
KIND = re.compile(
    r"^(?:\{.+\}.*|['\"].+['\"]|(?:str|int|float|bool|bytes|complex|dict|list|tuple|set|frozenset|slice|type|object|callable"
    r"|sequence|iterable|iterator|collection|mapping|array|array-like|path-like|ndarray|generator|None|[A-Z]\w*"
    r"|(?:np|nn|torch|pandas|logging|threading|socket|PIL|os|re|ast)\.[\w.]+)\b.*)$"
)


class Docstring(NamedTuple):
    """A docstring of something public, with its sections."""

    path: str
    name: str
    text: str
    is_class: bool

    @property
    def sections(self) -> dict[str, str]:
        parts = SECTION.split(self.text)
        return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}

    def entries(self, section: str) -> list[tuple[str, str]]:
        """(head, indented text) of every entry of a section."""
        return re.findall(
            r"^(\S.*)\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", self.sections.get(section, "") + "\n", re.MULTILINE
        )


def docstrings() -> Iterator[Docstring]:
    """Of public classes and functions, and of the public methods of public classes."""

    def inside(body: list[ast.stmt], path: str, owner: str) -> Iterator[Docstring]:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                is_class, text = isinstance(node, ast.ClassDef), ast.get_docstring(node)
                if text:
                    yield Docstring(path, f"{owner}{node.name}", text, is_class)
                if is_class:
                    yield from inside(node.body, path, f"{owner}{node.name}.")

    for file in sorted(SOURCE.rglob("*.py")):
        path = file.relative_to(SOURCE).as_posix()
        yield from inside(ast.parse(file.read_text("utf-8")).body, path, "")


ALL = list(docstrings())


def test_many_are_searched() -> None:
    assert len(ALL) > 900
    assert sum(len(doc.entries(section)) for doc in ALL for section in TYPED) > 1500


def test_every_parameter_and_attribute_has_a_type_and_a_meaning() -> None:
    wrong = []
    for doc in ALL:
        for head, meaning in (entry for section in TYPED for entry in doc.entries(section)):
            name, colon, kind = head.partition(" : ")
            typed = name.startswith("*") or (colon and KIND.match(kind) and not kind.endswith("."))
            if not typed or not meaning.strip():
                wrong.append(f"{doc.path} {doc.name}: {head}")
    assert not wrong, "\n".join(wrong)


def test_errors_and_results_are_types_with_their_meaning_below() -> None:
    wrong = []
    for doc in ALL:
        for head, meaning in (entry for section in NAMED for entry in doc.entries(section)):
            kind = head.rpartition(" : ")[2]
            if not KIND.match(kind) or kind.endswith(".") or not meaning.strip():
                wrong.append(f"{doc.path} {doc.name}: {head}")
    assert not wrong, "\n".join(wrong)


def test_docstrings_of_classes_are_short() -> None:
    """At most 60 lines; longer equations go to the module, and results to ``docs/notes``."""
    lines = {f"{doc.path} {doc.name}": len(doc.text.splitlines()) for doc in ALL if doc.is_class}
    assert not {name: count for name, count in lines.items() if count > LINES}


def test_results_and_history_are_in_the_pages_of_the_methods() -> None:
    assert not [
        f"{doc.path} {doc.name}"
        for doc in ALL
        if doc.is_class and re.search(r"^(Published|Measured)\b.*[:,(]", doc.text, re.MULTILINE)
    ]


def test_the_summary_fits_on_one_line() -> None:
    wrong = [f"{doc.path} {doc.name}" for doc in ALL if len(doc.text.splitlines()[0]) > SUMMARY]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in modalign.__all__ if not name.startswith("__")])
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(modalign, name).__doc__ or ""), f"modalign.{name} has no example"
