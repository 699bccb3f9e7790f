"""What the command line reads beyond single options: hyper-parameters as ``name=value``."""

from __future__ import annotations

import json
from typing import Any

from modalign.errors import InputError, UnknownNameError


def hyperparameters_of(cls: type, assignments: list[str]) -> dict[str, Any]:
    """``["steps=100", "init=zero"]`` as keyword arguments; values are JSON where they can be, else strings."""
    from modalign.methods.parameters import parameters

    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"Expected --set name=value, got '{assignment}'.")
        if name not in {p.name for p in parameters(cls)}:
            raise UnknownNameError(f"hyper-parameter of {cls.__name__}", name, [p.name for p in parameters(cls)])
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def hyperparameters_by_method(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """``["cmm.steps=100"]`` as method → hyper-parameters."""
    from modalign.methods import method_class

    values: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, dot, rest = assignment.partition(".")
        if not dot or "=" in name:
            raise InputError(f"Expected --set method.name=value, got '{assignment}'.")
        values.setdefault(name, {}).update(hyperparameters_of(method_class(name), [rest]))
    return values
