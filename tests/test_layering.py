"""The folder order is the data flow: an import against it fails here, with the line that does it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "modalign"
BASE = {
    "arrays",
    "display",
    "encoder_spec",
    "errors",
    "features",
    "files",
    "labels",
    "lazy",
    "progress",
    "record",
    "spelling",
}
METHODS = BASE | {"linalg", "methods"}
CORE = METHODS | {"data", "encoders", "persistence", "evaluate"}

ALLOWED = {
    "display": set(),
    "spelling": {"display"},
    "errors": {"display", "spelling"},
    "arrays": {"errors"},
    "labels": {"errors", "spelling"},
    "encoder_spec": {"errors"},
    "files": {"errors", "files"},
    "lazy": {"spelling"},
    "progress": set(),
    "record": {"__version__"},
    "features": {"arrays", "encoder_spec", "errors", "files", "labels"},
    "linalg": {"linalg", "arrays", "errors"},
    "data": BASE | {"data"},
    "encoders": BASE | {"data", "encoders", "linalg"},
    "tune": BASE | {"data", "encoders", "linalg", "tune"},
    "methods": METHODS | {"tune", "encoders.towers"},  # of the encoders only what is opened up for tuning
    "persistence": METHODS | {"persistence"},
    "evaluate": CORE,
    "exports": {"errors", "files", "spelling"},
    "predictions": CORE | {"exports"},
    "scoring": CORE | {"tune.crops"},
    "classifier": CORE | {"predictions", "scoring"},
    "adaptation": CORE | {"adaptation", "classifier", "scoring"},
    "listing": CORE,
    "doctor": CORE,
    "report": CORE | {"classifier", "predictions", "report"},
    "demo": CORE | {"classifier", "report", "scoring"},
    "cli": CORE
    | {"adaptation", "classifier", "cli", "demo", "doctor", "exports", "listing", "predictions", "report"}
    | {"__version__", "tune.checkpoint"},
    "__init__": {"lazy", "methods"},
}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name without ours) for every import of ours anywhere in the file, functions included.

    What stands under ``if TYPE_CHECKING`` names a type and makes nothing depend on anything.
    """
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    typing_only = {id(node) for block in blocks for statement in block.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        found += [(node.lineno, m.removeprefix("modalign.")) for m in modules if m.startswith("modalign.")]
    return found


def allowed(name: str, table: set[str]) -> bool:
    """Whether the table has the module or a folder it lies in."""
    parts = name.split(".")
    return any(".".join(parts[:depth]) in table for depth in range(1, len(parts) + 1))


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_imports_follow_the_data_flow(path: Path) -> None:
    table = ALLOWED[part(path)]
    wrong = [f"{path.name}:{line} imports {name}" for line, name in imports(path) if not allowed(name, table)]
    assert not wrong, f"{part(path)} may import {sorted(table)}; {wrong}"


def test_a_table_may_name_one_module_of_a_folder() -> None:
    assert allowed("encoders.towers.TextTower", {"encoders.towers"})
    assert not allowed("encoders.clip.ClipEncoder", {"encoders.towers"})
    assert not allowed("encoders.towers_of_others", {"encoders.towers"})


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_nothing_executes_what_it_loads_or_solves_by_batched_lu() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load"), f"{path}:{node.lineno}"
                assert not called.endswith((".inverse", "linalg.inv", "linalg.solve")), f"{path}:{node.lineno}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not {"pickle", "joblib"} & set(ast.unparse(node).replace(",", " ").split()), f"{path}"
