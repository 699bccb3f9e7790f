"""All methods by name. Adding one: its file, its test, and one line here; discovery does the rest.

A name is that of the method's file, and stands before its class; a second class of a file is written ``file.Class``.
"""

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
    "gpua": "GPUA",
    "lfa": "LFA",
    "tip_adapter": "TipAdapter",
    "tip_adapter_f": "tip_adapter.TipAdapterF",
    "cross_modal_probe": "CrossModalProbe",
    "transclip": "TransCLIP",
    "cma": "CMA",
}


def method_class(name: str) -> type[VectorMethod]:
    """The class of a method: ``method_class("cmm")`` is :class:`modalign.methods.cmm.CMM`."""
    key = name.lower().replace("-", "_")
    if key not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    module, _, cls = METHODS[key].rpartition(".")
    return getattr(import_module(f"modalign.methods.{module or key}"), cls)
