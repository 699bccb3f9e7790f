"""Parsing of hyper-parameters that are given as ``name=value``, and of durations."""

from __future__ import annotations

import json
from typing import Any

from modalign.core.errors import InputError


def hyperparameters_of(cls: type, assignments: list[str]) -> dict[str, Any]:
    """Parse ``["steps=100", "init=zero"]`` into keyword arguments; a value that is not JSON is a string."""
    from modalign.methods.contract.parameters import known_parameters

    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"Expected --set name=value, got '{assignment}'.")
        if name in values:
            raise InputError(f"Expected --set {name}=… once, got it twice; leave one out.")
        try:
            values[name] = json.loads(text)
        except (ValueError, RecursionError):
            values[name] = text
    return known_parameters(cls, values)


def hyperparameters_by_method(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """Parse ``["cmm.steps=100"]`` into method → hyper-parameters."""
    from modalign.evaluate.publications.printed_methods import refuse_printed_rows
    from modalign.methods import method_class

    values: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, dot, rest = assignment.partition(".")
        if not dot or "=" in name or "=" not in rest:
            raise InputError(f"Expected --set method.name=value, got '{assignment}'.")
        refuse_printed_rows([name])
        known = values.setdefault(name, {})
        for parameter, value in hyperparameters_of(method_class(name), [rest]).items():
            if parameter in known:
                raise InputError(f"Expected --set {name}.{parameter}=… once, got it twice; leave one out.")
            known[parameter] = value
    return values


def words(text: str) -> list[str]:
    """Split ``"a, b"`` at its commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def method_words(text: str) -> list[str]:
    """Split the value of ``--methods``; a row of the papers' tables with a comma in its name is refused as a whole."""
    from modalign.evaluate.publications.printed_methods import refuse_printed_rows

    if "," in text:
        refuse_printed_rows([text], "methods")
    return words(text)


def settings_of(method: str, settings: list[str], time: str | None) -> dict[str, Any]:
    """Hyper-parameters of a method by name, from ``--set`` and ``--time``."""
    from modalign.evaluate.publications.printed_methods import refuse_printed_rows
    from modalign.methods import method_class

    refuse_printed_rows([method], "method")
    found = hyperparameters_of(method_class(method), settings)
    if time is not None:
        if method != "auto":
            raise InputError(f"Expected --time with the method auto, which tries several, got --method {method}.")
        found["seconds"] = seconds_of(time)
    if "random_state" in found:
        raise InputError(f"Expected --seed {found['random_state']}, got --set random_state=….")
    return found


def shots_of(text: str) -> list[int | str]:
    """Convert ``"0, 4, all"`` to numbers of labels and words."""
    return [int(word) if word.isdecimal() else word for word in words(text)]


def seconds_of(text: str) -> float:
    """Convert ``"90"``, ``"90s"``, ``"10m"`` or ``"1h"`` to seconds."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in "smh" else (text, "s")
    try:
        value = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(f"Expected a positive --time in seconds, or as 10m or 1h, got '{text}'.")
    return value
