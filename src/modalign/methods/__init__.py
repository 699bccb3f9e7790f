"""All methods by name. Adding one: its file, its test, and one line here; discovery does the rest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modalign.errors import UnknownNameError

if TYPE_CHECKING:
    from modalign.methods.base import VectorMethod

METHODS = {
    "zero_shot": "ZeroShot",
    "linear_probe": "LinearProbe",
    "cmm": "CMM",
}


def method_class(name: str) -> type[VectorMethod]:
    """The class of a method: ``method_class("cmm")`` is :class:`modalign.methods.cmm.CMM`."""
    key = name.lower().replace("-", "_")
    if key not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return getattr(import_module(f"modalign.methods.{key}"), METHODS[key])
