"""Docstrings as Markdown, for the API pages and docs/methods: dollars around mathematics, links or code for roles."""

from __future__ import annotations

import inspect
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import griffe

MATH_BLOCK = re.compile(r"^( *)\.\. math::[ \n]*((?:.+\n?)(?:[ \t]+.+\n?|\n(?=[ \t]))*)", flags=re.MULTILINE)
ROLE = re.compile(r":\w+:`(?P<short>~?)(?P<target>[\w.]+)`")


def markdown(text: str, *, links: bool = False) -> str:
    """Turn the reStructuredText of a docstring into Markdown; ``links`` makes links of the roles."""
    text = MATH_BLOCK.sub(_display, text)
    text = re.sub(r":math:`([^`]+)`", lambda match: f"${' '.join(match[1].split())}$", text)
    text = ROLE.sub(_link if links else (lambda match: f"`{match['target'].rpartition('.')[2]}`"), text)
    return re.sub(r"\n{3,}", "\n\n", text.replace("``", "`"))


def _display(match: re.Match[str]) -> str:
    """Format a block of equations, aligned where the docstring aligns it."""
    indent = match[1]
    body = inspect.cleandoc(match[2]).strip()
    if "&" in body:
        body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"
    block = f"\n$$\n{body}\n$$\n\n"
    return "".join(f"{indent}{line}" if line.strip() else line for line in block.splitlines(keepends=True))


def _link(match: re.Match[str]) -> str:
    target = match["target"]
    name = target.rpartition(".")[2]
    home = _home(target)
    return f"[`{name}`][{home}]" if home else f"`{name}`"


def _home(target: str) -> str | None:
    """The full name under which an API page documents ``target``; None if none does."""
    if not target.startswith("modalign."):
        return None
    import modalign

    package, _, name = target.partition(".")
    if name in modalign._HOME:
        return f"{package}.{modalign._HOME[name]}.{name}"
    owner, _, last = target.rpartition(".")
    if last.startswith("_") or not (_module(owner) or _module(target) or _module(owner.rpartition(".")[0])):
        return None
    return target


def _module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


try:
    from griffe import Extension
except ImportError:  # the pages of the methods are written without the tools of the site
    pass
else:

    class DocstringMarkdown(Extension):
        """Converts every docstring before mkdocstrings reads its sections."""

        def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
            """Convert the docstring of one object."""
            if obj.docstring is not None:
                obj.docstring.value = markdown(obj.docstring.value, links=True)
