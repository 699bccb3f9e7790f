"""What there is, as tables: methods and their hyper-parameters, encoders, data sets."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modalign.core.errors import UnknownNameError
from modalign.methods import ALL_METHODS, OTHER_METHODS, TOWER_METHODS, is_known, is_vector_method, location

Table = tuple[list[str], list[list[str]]]


def listing(what: str) -> Table:
    """Header and rows for ``"methods"``, ``"encoders"``, ``"datasets"``, or the name of one method."""
    tables = {"methods": _methods, "encoders": _encoders, "datasets": _datasets}
    if what in tables:
        return tables[what]()
    if is_known(what):
        return _hyperparameters(what)
    raise UnknownNameError("list or method", what, [*tables, *ALL_METHODS, *OTHER_METHODS.names()])


def requirements(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a method makes of labels and of class text, in words.

    Parameters
    ----------
    facts : class attributes of the method.
    """
    labels = "needed" if facts["needs_labels"] else "optional"
    if not facts["needs_labels"] and not facts.get("takes_labels", False):
        labels = "not used" if facts["needs_text"] else "only without text"  # to make class means of
    text = "needed" if facts["needs_text"] else "optional" if facts.get("takes_text", True) else "not used"
    return {"labels": labels, "text": text}


def method_facts(name: str) -> dict[str, Any]:
    """Class attributes of a method of the library that are constants, own and inherited.

    They are read from the source, because importing a method imports torch and scikit-learn, which takes seconds.
    """
    module, cls = location(name)
    return _constants(f"modalign.methods.{module}", cls)


@cache
def _constants(module: str, name: str) -> dict[str, Any]:
    classes, homes = _contents(module)
    found: dict[str, Any] = {}
    for node in reversed(classes[name].bases):
        base = ast.unparse(node.value if isinstance(node, ast.Subscript) else node)  # TowerMethod of TowerMethod[…]
        if base in classes or base in homes:
            found |= _constants(homes.get(base, module), base)
    for statement in classes[name].body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if isinstance(targets[0], ast.Name) and isinstance(value, ast.Constant):
            found[targets[0].id] = value.value
    return found


@cache
def _contents(module: str) -> tuple[dict[str, ast.ClassDef], dict[str, str]]:
    """The classes of a module, and the names that it imports from other modules of methods."""
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))  # type: ignore[union-attr, arg-type]  # a file of this package
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    homes = {
        a.name: i.module for i in imports for a in i.names if i.module and i.module.startswith("modalign.methods.")
    }
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}, homes


def _methods() -> Table:
    rows = []
    for name in ALL_METHODS:
        facts = method_facts(name)
        needs = requirements(facts)
        where = "in the encoder" if name in TOWER_METHODS else "on vectors"
        rows.append([name, facts["title"], where, needs["labels"], needs["text"], facts["paper"]])
    for name, cls in OTHER_METHODS.usable().items():
        needs = requirements({fact: getattr(cls, fact) for fact in dir(cls) if fact.startswith(("needs_", "takes_"))})
        where = "on vectors" if is_vector_method(name) else "in the encoder"
        origin = cls.paper or f"package {OTHER_METHODS.package(name) or cls.__module__}"
        rows.append([name, cls.title or cls.__name__, where, needs["labels"], needs["text"], origin])
    return ["name", "method", "learns", "labels", "text", "paper"], rows


def _hyperparameters(name: str) -> Table:
    from modalign.methods import method_class
    from modalign.methods.contract.parameters import format_annotation, parameters

    rows = [
        [
            p.name,
            format_annotation(p.annotation),
            repr(p.default),
            p.meaning.replace("``", ""),
        ]  # as docstrings mark code
        for p in parameters(method_class(name))
    ]
    return ["hyper-parameter", "type", "default", "meaning"], rows


def _encoders() -> Table:
    from modalign.encoders.registry import KNOWN_ENCODERS, OTHER_ENCODERS

    others = {name: f"package {OTHER_ENCODERS.package(name) or '–'}" for name in OTHER_ENCODERS.usable()}
    return ["name", "what it is"], [list(row) for row in (KNOWN_ENCODERS | others).items()]


def _datasets() -> Table:
    from modalign.data.splits.benchmark_sets import DATASETS

    rows = [[d.name, str(d.n_classes), d.templates[0], d.licence] for d in DATASETS]
    return ["name", "classes", "template", "license"], rows
