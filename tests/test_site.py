"""The site: its navigation, its equations, and that no page makes requests to other servers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
METHOD_PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))


def script(name: str) -> ModuleType:
    """A module of ``scripts``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = script("site_hooks")
tutorials = script("run_tutorials")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in pages(entry)]


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(config: dict[str, Any]) -> None:
    class Config:
        nav = config["nav"]

    entries = pages(hooks.on_config(Config()).nav)
    files = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "notes"}
    generated = {*hooks.COPIES, "reference/index.md", *(uri for uri, _, _ in hooks._reference())}
    assert len(entries) == len(set(entries))
    assert set(entries) == files | generated


def test_the_api_pages_have_every_module_with_something_public() -> None:
    listed = [module for _, _, modules in hooks._reference() for module in modules]
    assert len(listed) == len(set(listed))
    assert {"modalign.linalg.sinkhorn", "modalign.methods.gpua.gpua", "modalign.model.classifier"} <= set(listed)
    assert not [name for name in listed if "._" in name]
    assert {room.name for room in hooks.SOURCE.iterdir() if (room / "__init__.py").exists()} == set(hooks.ROOMS)


def test_no_request_goes_to_another_server(config: dict[str, Any]) -> None:
    assert config["theme"]["font"] is False
    assert not {"extra_javascript", "repo_url"} & config.keys()
    assert "url(" not in (ROOT / "docs" / "assets" / "site.css").read_text("utf-8")


@pytest.mark.parametrize("page", METHOD_PAGES, ids=[p.stem for p in METHOD_PAGES])
def test_every_equation_becomes_mathml(page: Path) -> None:
    text = page.read_text("utf-8")
    for tex in re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL) + re.findall(r"(?<!\$)\$([^$\n]+)\$(?!\$)", text):
        shown = hooks.on_page_content(f'<div class="arithmatex">\\[{tex}\\]</div>')
        assert shown.startswith("<math")
        assert not re.search(r"\\\w|&amp;|&#x0*26;", shown), (tex, shown)


def test_links_of_the_readme_lead_to_pages() -> None:
    text = hooks._relinked((ROOT / "README.md").read_text("utf-8"))
    assert "](docs/" not in text
    assert "](guide/index.md)" in text
    assert "](contributing.md)" in text


@pytest.mark.parametrize("path", tutorials.sources(), ids=lambda path: path.stem)
def test_the_page_of_a_tutorial_has_its_text_and_its_code(path: Path) -> None:
    assert not tutorials.stale(path)


def test_the_gallery_shows_the_picture_of_every_example() -> None:
    folder = ROOT / "docs" / "gallery"
    index = (folder / "index.md").read_text("utf-8")
    examples = [path.stem for path in tutorials.sources() if path.parent == folder]
    assert len(examples) >= 6
    for name in examples:
        assert (folder / "images" / f"{name}_1.png").is_file()
        assert f"](images/{name}_1.png)" in index
        assert f"]({name}.md)" in index


def test_a_changed_tutorial_is_detected(tmp_path: Path) -> None:
    source = tmp_path / "one.py"
    source.write_text('"""One."""\n\n# %%\n# # Title\n#\n# Words.\n\nprint(1)\n')
    assert tutorials.stale(source)
    source.with_suffix(".md").write_text("# Title\n\nWords.\n\n```python\nprint(1)\n```\n")
    assert not tutorials.stale(source)
    source.write_text(source.read_text().replace("print(1)", "print(2)"))
    assert tutorials.stale(source)


def test_the_tutorial_without_labels_gives_the_output_of_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    path = next(path for path in tutorials.sources() if path.stem == "without_labels")
    printed = [output.splitlines() for _, output, _ in tutorials.run(path)]
    figures = [line for lines in printed for line in lines]
    assert figures[0] == "770 images; 9 of 10 classes occur"
    start, default, gpua = (float(line.split()[-1]) for line in figures[1:4])
    assert 0.93 < start < default < gpua


OTHERS = [path for path in tutorials.sources() if path.stem != "without_labels"]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # an example adds a folder
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert any(output for _, output, _ in tutorials.run(path))
