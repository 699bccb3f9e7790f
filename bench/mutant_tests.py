"""The tests that belong to a source file, which should detect faults in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_FILES = 8  # of tests per source file, beside the contract tests
CONTRACTS = ("tests/methods/test_contract.py", "tests/methods/test_tower_contract.py")
DEFAULT_METHODS = ("zero_shot", "tip_adapter", "gda", "cmm")  # for what no single method uses


def stages_of(name: str) -> list[list[str]]:
    """Arguments of pytest for the tests of a source file, in the order in which they are to run.

    First the file of tests of the same name; for a module without one, such as a private module, that of the modules
    that import it. Then the tests of the same paper and those that import the module or one of its names, the smallest
    first. Last the contract tests of the methods that the file is part of.
    """
    path = Path(name)
    files = _distinct([*mirrored(path), *_of_the_paper(path), *_importing(path)])[:MAX_FILES]
    stages = [[file] for file in files]
    methods = _methods_of(path)
    if path.parts[2:4] == ("methods", "contract"):
        stages += [[f"tests/methods/{file}"] for file in ("test_base.py", "test_matched_names.py")]
    stages.append([*CONTRACTS, "-k", " or ".join(methods or DEFAULT_METHODS)])
    return [*stages, ["tests/test_docs.py", "-k", "current"]] if methods else stages  # whose pages hold the defaults


def mirrored(path: Path) -> list[str]:
    """Files of tests named after a source file, or after the modules that import it where there is none."""
    level, visited = [path], set()
    while level:
        found = [test for source in level for test in _same_name(source)]
        if found:
            return _distinct(found)
        visited.update(level)
        level = [user for source in level for user in _users(source) if user not in visited]
    return []


def _same_name(path: Path) -> list[str]:
    """Files of tests of the same name, in the folder of the package or in that of all tests."""
    found = (ROOT / "tests").rglob(f"test_{path.stem.removeprefix('_')}.py")
    relative = [test.relative_to(ROOT) for test in found]
    return [str(test) for test in relative if len(test.parts) == 2 or test.parts[1] == path.parts[2]]


def _users(path: Path) -> list[Path]:
    """Source files of the same package that import a module."""
    statement = re.compile(rf"^(?:from|import) {re.escape(_module(path))}\b", re.MULTILINE)
    return [user for user in _sources(path.parts[2]) if user != path and statement.search(_text(ROOT / user))]


def _of_the_paper(path: Path) -> list[str]:
    """The tests of the paper in whose folder a method's file is, such as ``test_gpua_losses.py``."""
    if path.parts[2] != "methods" or path.parts[3] == "contract":
        return []
    tests = (ROOT / "tests/methods").glob(f"test_{path.parent.name}*.py")
    return [str(test.relative_to(ROOT)) for test in sorted(tests, key=lambda test: test.stat().st_size)]


def _importing(path: Path) -> list[str]:
    """Files of tests that import a module or one of its public names, the smallest first."""
    defined = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", _text(ROOT / path), re.MULTILINE)
    names = rf"|import [^\n]*\b(?:{'|'.join(defined)})\b" if defined else ""
    statement = re.compile(rf"{re.escape(_module(path))}\b{names}")
    tests = [*(ROOT / "tests").glob("test_*.py"), *(ROOT / "tests" / path.parts[2]).glob("test_*.py")]
    if path.parts[2] == "linalg":
        tests += (ROOT / "tests/methods").glob("test_*.py")
    using = [test for test in tests if statement.search(_text(test))]
    return [str(test.relative_to(ROOT)) for test in sorted(using, key=lambda test: test.stat().st_size)]


def _methods_of(path: Path) -> list[str]:
    """Names of the methods that a file of a paper defines, or those that import it."""
    if path.parts[2] != "methods" or path.parts[3] == "contract":
        return []
    level, visited = [path], set()
    while level:
        if found := [method for source in level for method in _defined_methods(source)]:
            return _distinct(found)
        visited.update(level)
        level = [user for source in level for user in _users(source) if user not in visited]
    return []


def _defined_methods(path: Path) -> list[str]:
    module = re.escape(_module(path).removeprefix("modalign.methods."))
    return re.findall(rf'"(\w+)": "{module}\.\w+"', _text(ROOT / "src/modalign/methods/__init__.py"))


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts[1:])


@cache
def _sources(package: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "src/modalign" / package).rglob("*.py"))


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
