"""The docs agree with the code."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_pages_of_the_methods_are_current(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "argv", ["make_docs.py", "--check"])
    assert import_module("make_docs").main() == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_readme_starts_with_the_title_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# modalign\n")
    first = text.split("```")[1].splitlines()
    assert [line.split()[:2] for line in first[1:3]] == [["make", "demo"], ["make", "test"]]


def test_readme_counts_the_methods() -> None:
    from modalign.methods import ALL_METHODS

    assert f"\n{len(ALL_METHODS)} methods are included." in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_in_the_readme_exists() -> None:
    from modalign.cli import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    pages = [ROOT / "README.md", *(ROOT / "docs" / "guide").glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    used = set(re.findall(r"modalign (\w+) [\w-]+[/.]", text)) | {"list", "doctor"}
    assert used <= known
