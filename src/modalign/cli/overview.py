"""Tables of methods and their hyper-parameters, encoders and data sets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from modalign.core.errors import UnknownNameError
from modalign.core.name_matching import nearest
from modalign.methods import (
    ALL_METHODS,
    OTHER_METHODS,
    TOWER_METHODS,
    is_known,
    is_vector_method,
    method_class,
    method_name,
)

LIBRARY = Path(__file__).with_name("methods.json")
FACTS = ("title", "paper", "needs_labels", "takes_labels", "needs_text", "takes_text")
Table = tuple[list[str], list[list[str]]]


def listing(what: str) -> Table:
    """Header and rows for ``"methods"``, ``"encoders"``, ``"datasets"``, or the name of one of these."""
    from modalign.encoders.registry import SHORT_NAMES
    from modalign.evaluate.publications.printed_methods import refuse_printed_rows

    tables = {"methods": _methods, "encoders": _encoders, "datasets": _datasets}
    if what in tables:
        return tables[what]()
    if is_known(what):
        return _hyperparameters(what)
    named: dict[str, Table] = {}
    for table in (_encoders, _datasets):
        header, rows = table()
        named |= {row[0]: (header, [row]) for row in rows}
    meant = SHORT_NAMES.get(what, what)
    if meant in named:
        return named[meant]
    refuse_printed_rows([what])
    near = nearest(what, [*tables, *ALL_METHODS, *OTHER_METHODS.names(), *named, *SHORT_NAMES])
    raise UnknownNameError("list or name", what, [near] if near else tables)


def requirements(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return whether a method uses labels and class text, as text.

    Parameters
    ----------
    facts : mapping
        See :func:`described`.
    """
    labels = "needed" if facts["needs_labels"] else "optional"
    if not facts["needs_labels"] and not facts.get("takes_labels", False):
        labels = "not used" if facts["needs_text"] else "only without text"  # to make class means of
    text = "needed" if facts["needs_text"] else "optional" if facts.get("takes_text", True) else "not used"
    return {"labels": labels, "text": text}


def described(cls: type) -> dict[str, Any]:
    """Return the listed facts of a method: class attributes, and a row for each hyper-parameter."""
    from modalign.methods.contract.parameters import format_annotation, parameters

    facts = {fact: getattr(cls, fact) for fact in FACTS if hasattr(cls, fact)}
    rows = [
        [p.name, format_annotation(p.annotation), repr(p.default), without_markup(p.meaning)] for p in parameters(cls)
    ]
    return {**facts, "parameters": rows}


def without_markup(text: str) -> str:
    """Return the text of a docstring without the marks of code, and with the last part of the names it refers to."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")


@cache
def library() -> dict[str, dict[str, Any]]:
    """Name → :func:`described`, of the methods of the library.

    ``scripts/make_docs.py`` writes the file, because importing the methods imports torch and scikit-learn, which takes
    seconds.
    """
    return json.loads(LIBRARY.read_text(encoding="utf-8"))


def _methods() -> Table:
    rows = []
    for name, facts in library().items():
        needs = requirements(facts)
        where = "in the encoder" if name in TOWER_METHODS else "on vectors"
        rows.append([name, facts["title"], where, needs["labels"], needs["text"], facts["paper"]])
    for name, cls in OTHER_METHODS.usable().items():
        needs = requirements(described(cls))
        where = "on vectors" if is_vector_method(name) else "in the encoder"
        package = f"package {OTHER_METHODS.package(name) or cls.__module__}"
        origin = f"{package}; {cls.paper}" if cls.paper else package
        rows.append([name, cls.title or cls.__name__, where, needs["labels"], needs["text"], origin])
    return ["name", "method", "learns", "labels", "text", "paper"], rows


def _hyperparameters(name: str) -> Table:
    key = method_name(name)
    facts = library()[key] if key in library() else described(method_class(name))
    return ["hyper-parameter", "type", "default", "meaning"], facts["parameters"]


def _encoders() -> Table:
    from modalign.encoders.registry import KNOWN_ENCODERS, OTHER_ENCODERS

    others = {name: f"package {OTHER_ENCODERS.package(name) or '–'}" for name in OTHER_ENCODERS.usable()}
    return ["name", "what it is"], [list(row) for row in (KNOWN_ENCODERS | others).items()]


def _datasets() -> Table:
    from modalign.data.splits.benchmark_sets import DATASETS
    from modalign.evaluate.benchmark.library_sets import DIGITS, LIBRARY_SETS, TARGETS, library_set_size
    from modalign.segmentation.sets.segmentation_sets import SEGMENTATION_SETS

    rows = []
    for d in DATASETS:
        vissl = f"{d.vissl[1]:,}" if d.vissl else ""
        rows.append([d.name, "classification", str(d.n_classes), f"{d.n_test:,}", vissl, d.templates[0], d.license])
    for name in LIBRARY_SETS:
        size = library_set_size(name)
        origin = "CC BY 4.0; in scikit-learn" if name in (DIGITS, *TARGETS["domain"]) else "drawn by modalign"
        rows.append([name, "classification", str(size.n_classes), f"{size.n_test:,}", "", size.templates[0], origin])
    rows += [
        [s.name, "segmentation", str(s.n_classes), f"{s.n_images:,}", "", "", s.license] for s in SEGMENTATION_SETS
    ]
    return ["name", "task", "classes", "test images", "in VISSL's lists", "template", "license"], rows
