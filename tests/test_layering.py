"""The folder order is the data flow: an import against it fails here, with the line that does it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "modalign"
LINES, FUNCTION, ARGUMENTS, MODULES, IGNORED = 300, 60, 8, 22, 20

LEARNING = {"core", "linalg", "methods", "methods.contract"}
TUNING = LEARNING | {"tune", "data", "encoders"}
LIBRARY = {"core", "linalg", "data", "encoders", "methods", "evaluate", "model.persistence"}

# The longest name that a module lies in decides. "methods" alone is the table of all methods.
ALLOWED = {
    "__init__": {"core", "methods"},
    "core": {"core", "__version__"},
    "linalg": {"core", "linalg"},
    "data": {"core", "data"},
    "encoders": {"core", "linalg", "data", "encoders"},
    "encoders.towers": {"core", "encoders.towers"},
    "tune": {"core", "linalg", "data", "encoders", "tune"},
    "methods": {"core", "methods.contract"},  # what a method of another package has to be
    "methods.contract": TUNING,
    "methods.baselines": LEARNING | {"methods.baselines", "tune.threads"},
    "methods.anchored": LEARNING | {"methods.anchored"},
    "methods.added": LEARNING | {"methods.added"},
    "methods.multi_label": LEARNING | {"methods.multi_label"},
    "methods.cmm": LEARNING | {"tune", "methods.cmm"},
    "methods.gpua": LEARNING | {"methods.gpua", "methods.anchored"},  # its default preset
    "methods.auto": LEARNING | {"methods.auto"},
    "methods.prompts": TUNING | {"methods.prompts"},
    "methods.align": TUNING | {"methods.align", "methods.prompts"},  # PLOT is its special case
    "methods.dam": TUNING | {"methods.dam"},
    "methods.fair": TUNING | {"methods.fair"},
    "evaluate": LIBRARY,
    "evaluate.masks": LIBRARY | {"segmentation"},
    "segmentation": {"core", "linalg", "data", "encoders", "methods.gpua", "segmentation"},
    "model": LIBRARY | {"methods.added", "model", "segmentation"},
    "model.explaining": LIBRARY | {"model", "segmentation", "report"},  # an explanation is saved as a page
    "model.persistence": LEARNING | {"model.persistence"},
    "audit": {"core", "linalg", "data", "encoders", "methods", "audit"},
    "testing": LEARNING | {"data", "encoders", "model.persistence", "testing"},
    "export": {"core", "data", "encoders", "methods.contract", "model", "export"},
    "report": LIBRARY | {"model", "segmentation", "audit", "report"},
    "shards": {"core", "data", "encoders", "model", "shards"},
    "app": set(),
    "app.web": {"core", "app.web"},
    "app.studio": LIBRARY | {"model", "report", "app.web", "app.studio"},
    "app.serving": LIBRARY | {"model", "report", "app.web", "app.serving", "__version__"},
    "cli": LIBRARY
    | {"model", "segmentation", "audit", "report", "export", "shards", "app", "cli", "tune.training_state"}
    | {"__version__"},
}


def part(path: Path) -> str:
    """The longest entry of the table that a file lies in."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    names = [".".join(parts[:depth]).removesuffix(".__init__") for depth in range(len(parts), 0, -1)]
    return next(name for name in names if name in ALLOWED)


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name without ours) for every import of ours anywhere in the file, functions included.

    Imports under ``if TYPE_CHECKING`` are for types only and are no dependencies.
    """
    found = []
    nodes = list(ast.walk(tree(path)))
    blocks = [node for node in nodes if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    typing_only = {id(node) for block in blocks for statement in block.body for node in ast.walk(statement)}
    for node in nodes:
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
    """Whether the table has the module or a folder it lies in. ``methods`` allows no folder of it but by its name."""
    parts = name.split(".")
    if parts[0] == "methods" and len(parts) > 2 and table >= {"methods.contract"}:
        return ".".join(parts[:2]) in table
    return any(".".join(parts[:depth]) in table for depth in range(1, len(parts) + 1))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


FILES = sorted(SOURCE.rglob("*.py"))


def test_imports_follow_the_data_flow() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {name}; {part(path)} may import {sorted(ALLOWED[part(path)])}"
        for path in FILES
        for line, name in imports(path)
        if not allowed(name, ALLOWED[part(path)])
    ]
    assert not wrong, "\n".join(wrong)


def test_a_table_may_name_one_module_of_a_folder() -> None:
    assert allowed("encoders.towers.vision_tower.TextTower", {"encoders.towers"})
    assert not allowed("encoders.clip.ClipEncoder", {"encoders.towers"})
    assert not allowed("encoders.towers_of_others", {"encoders.towers"})
    assert not allowed("methods.cmm.cmm.CMM", LEARNING)
    assert allowed("methods.method_class", LEARNING)


def test_files_stay_small() -> None:
    lines = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > LINES}


def body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function behind its docstring."""
    begin = node.body[0].end_lineno if ast.get_docstring(node) else node.body[0].lineno - 1
    return (node.end_lineno or 0) - (begin or 0)


def test_functions_stay_small() -> None:
    long, wide = [], []
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                place = f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
                long += [place] * (body(node) > FUNCTION)
                if part(path) != "cli":  # a command has an argument for each option
                    wide += [place] * (len(node.args.posonlyargs + node.args.args) > ARGUMENTS)
    assert not long
    assert not wide


def test_no_folder_is_crowded_and_no_file_name_occurs_twice() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]
    assert max(Counter(path.parent for path in FILES).values()) <= MODULES


def test_no_two_public_things_have_one_name() -> None:
    homes: dict[str, set[str]] = {}
    for path in FILES:
        if part(path) == "cli":  # commands are named after the functions that they call
            continue
        for node in tree(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(path.relative_to(SOURCE).as_posix())
    assert not {name: sorted(places) for name, places in homes.items() if len(places) > 1}


def test_nothing_executes_what_it_loads_or_solves_by_batched_lu() -> None:
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load"), f"{path}:{node.lineno}"
                assert not called.endswith((".inverse", "linalg.inv", "linalg.solve")), f"{path}:{node.lineno}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not {"pickle", "joblib"} & set(ast.unparse(node).replace(",", " ").split()), f"{path}"


def test_few_type_errors_are_ignored_and_each_has_a_reason() -> None:
    lines = (line for path in FILES for line in path.read_text(encoding="utf-8").splitlines())
    ignored = [line for line in lines if "# type: ignore" in line]
    assert len(ignored) <= IGNORED
    assert not [line for line in ignored if not re.search(r"# type: ignore\[[a-z, -]+\]  # \S", line)]


def test_warnings_show_the_line_of_the_caller() -> None:
    """A constant stack level would count the frames of decorators."""
    constant = re.compile(r"stacklevel=\d|warnings\.warn\((?:(?!stacklevel)[^()]|\([^()]*\))*\)")
    assert not {path.name for path in FILES if constant.search(path.read_text(encoding="utf-8"))}
