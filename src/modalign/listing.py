"""What there is, as tables: methods and their hyper-parameters, encoders, datasets."""

from __future__ import annotations

from modalign.errors import UnknownNameError
from modalign.methods import ALL_METHODS, method_class

Table = tuple[list[str], list[list[str]]]


def listing(what: str) -> Table:
    """Header and rows for ``"methods"``, ``"encoders"``, ``"datasets"``, or the name of one method."""
    tables = {"methods": _methods, "encoders": _encoders, "datasets": _datasets}
    if what in tables:
        return tables[what]()
    if what.lower().replace("-", "_") in ALL_METHODS:
        return _hyperparameters(what)
    raise UnknownNameError("list", what, [*tables, *ALL_METHODS])


def _methods() -> Table:
    rows = []
    for name in ALL_METHODS:
        cls = method_class(name)
        labels = "needed" if cls.needs_labels else "optional"
        rows.append([name, cls.title, labels, "needed" if cls.needs_text else "optional", cls.paper])
    return ["name", "method", "labels", "text", "paper"], rows


def _hyperparameters(name: str) -> Table:
    from modalign.methods.parameters import describe, parameters

    rows = [[p.name, describe(p.annotation), repr(p.default), p.meaning] for p in parameters(method_class(name))]
    return ["hyper-parameter", "type", "default", "meaning"], rows


def _encoders() -> Table:
    from modalign.encoders import KNOWN_ENCODERS

    return ["name", "what it is"], [list(row) for row in KNOWN_ENCODERS.items()]


def _datasets() -> Table:
    from modalign.data.catalog import DATASETS

    rows = [[d.name, str(d.n_classes), d.templates[0], d.licence] for d in DATASETS]
    return ["name", "classes", "template", "licence"], rows
