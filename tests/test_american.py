"""Texts and names are American English; the names of the library are not words of its texts."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BRITISH = re.compile(
    r"label(?:led|ling|ler)s?\b|colour|behaviour|favour|honour|neighbour|\bcentre|\bcentring\b|\bgrey\b|\blearnt\b|\bwhilst\b"
    r"|\blicence|artefact|(?:normal|recogn|optim|general|minim|maxim|summar|regular|penal|token|vector|stabil|random"
    r"|initial|organ|standard|symmetr|serial)is(?:e[drs]?|ing|ation)\b",
    re.IGNORECASE,
)
NAMES = (
    re.compile(  # code, names in quotes, expressions, identifiers, options and the head of a parameter's description
        r"``[^`]*``|`[^`\n]*`|\"[\w.-]+\"|'[\w.-]+'|\{[^{}]*\}|\w*_\w*|:\w+:`[^`]*`|\b\w+=|--\w[\w-]*|^ +[\w, *]+ : ",
        re.MULTILINE,
    )
)


def british(text: str) -> list[str]:
    return BRITISH.findall(NAMES.sub(" ", text))


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "README.md",
        *(p for d in ("guide", "methods", "notes", "tutorials") for p in (ROOT / "docs" / d).glob("*.md")),
    ],
    ids=lambda page: page.name,
)
def test_pages(page: Path) -> None:
    assert not british(page.read_text())


def test_messages_and_docstrings() -> None:
    found = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            if token.type == tokenize.STRING and " " in token.string and (words := british(token.string)):
                found.append(f"{file.relative_to(ROOT)}:{token.start[0]}: {', '.join(words)}")
    assert not found, "\n".join(found)


def test_names_in_the_code() -> None:
    """Former names are accepted by ``core/renaming.py`` alone, and words of users by ``core/name_matching.py``."""
    found = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        if file.name in ("renaming.py", "name_matching.py"):
            continue
        lines = file.read_text().splitlines()
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            line = lines[token.start[0] - 1] if token.start[0] <= len(lines) else ""
            former = any(word in line for word in ("former_attributes(", "renamed_arguments(", "Formerly("))
            words = BRITISH.findall(re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", token.string))
            if token.type == tokenize.NAME and words and not former:
                found.append(f"{file.relative_to(ROOT)}:{token.start[0]}: {token.string}")
    assert not found, "\n".join(found)


def test_names_are_distinguished_from_words() -> None:
    assert british("the labelled images, normalised and grey") == ["labelled", "normalised", "grey"]
    assert not british(
        '    neighbours : `centre`, "labelled", --unlabelled, labelled=True, {unlabelled} and x_labelled'
    )
