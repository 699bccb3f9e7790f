"""All methods by name. Adding one: its file, its test, and one line here; discovery does the rest.

A name is that of the method's file, and stands before its class; a second class of a file is written ``file.Class``.
``METHODS`` learn from vectors, ``TOWER_METHODS`` inside an encoder from images.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modalign.errors import UnknownNameError

if TYPE_CHECKING:
    from modalign.methods.base import VectorMethod
    from modalign.methods.tower import TowerMethod

METHODS = {
    "zero_shot": "ZeroShot",
    "linear_probe": "LinearProbe",
    "cmm": "CMM",
    "gpua": "GPUA",
    "lfa": "LFA",
    "tip_adapter": "TipAdapter",
    "tip_adapter_f": "tip_adapter.TipAdapterF",
    "cross_modal_probe": "CrossModalProbe",
    "auto": "Auto",
    "anchored_gaussian": "AnchoredGaussian",
    "gda": "GDA",
    "task_res": "TaskRes",
    "clip_adapter": "CLIPAdapter",
    "lp_plus_plus": "LPPlusPlus",
    "clap": "CLAP",
    "transclip": "TransCLIP",
    "cma": "CMA",
    "wca": "WCA",
    "fair_vectors": "FAIRVectors",
}

TOWER_METHODS: dict[str, str] = {
    "dam": "DAM",
    "align": "ALIGN",
    "coop": "CoOp",
    "cocoop": "CoCoOp",
    "vpt": "VPT",
    "upt": "UPT",
    "maple": "MaPLe",
    "plot": "PLOT",
    "clip_lora": "CLIPLoRA",
    "fair": "FAIR",
    "lafter_like": "LaFTerLike",
    "dpa_like": "DPALike",
}

ALL_METHODS = METHODS | TOWER_METHODS


def location(name: str) -> tuple[str, str]:
    """Module below :mod:`modalign.methods` and class of a method: ``("tip_adapter", "TipAdapterF")``."""
    module, _, cls = ALL_METHODS[name].rpartition(".")
    return module or name, cls


def method_class(name: str) -> type[VectorMethod] | type[TowerMethod]:
    """The class of a method: ``method_class("cmm")`` is :class:`modalign.methods.cmm.CMM`."""
    key = name.lower().replace("-", "_")
    if key not in ALL_METHODS:
        raise UnknownNameError("method", name, ALL_METHODS)
    module, cls = location(key)
    return getattr(import_module(f"modalign.methods.{module}"), cls)
