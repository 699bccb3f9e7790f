"""All methods by name. Adding one: its file, its test, and one line here; discovery does the rest.

A name stands before the folder, file and class of the method.
``METHODS`` learn from vectors, ``TOWER_METHODS`` inside an encoder from images.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modalign.core.errors import UnknownNameError

if TYPE_CHECKING:
    from modalign.methods.contract.tower import TowerMethod
    from modalign.methods.contract.vectors import VectorMethod

METHODS = {
    "zero_shot": "baselines.zero_shot.ZeroShot",
    "linear_probe": "baselines.linear_probe.LinearProbe",
    "cmm": "cmm.cmm.CMM",
    "gpua": "gpua.gpua.GPUA",
    "lfa": "baselines.lfa.LFA",
    "tip_adapter": "baselines.tip_adapter.TipAdapter",
    "tip_adapter_f": "baselines.tip_adapter.TipAdapterF",
    "cross_modal_probe": "baselines.cross_modal_probe.CrossModalProbe",
    "auto": "auto.auto.Auto",
    "anchored_gaussian": "anchored.anchored_gaussian.AnchoredGaussian",
    "gda": "baselines.gda.GDA",
    "task_res": "baselines.task_res.TaskRes",
    "clip_adapter": "baselines.clip_adapter.CLIPAdapter",
    "lp_plus_plus": "baselines.lp_plus_plus.LPPlusPlus",
    "clap": "baselines.clap.CLAP",
    "transclip": "baselines.transclip.TransCLIP",
    "cma": "dam.cma.CMA",
    "wca": "baselines.wca.WCA",
    "fair_vectors": "fair.fair_vectors.FAIRVectors",
}

TOWER_METHODS: dict[str, str] = {
    "dam": "dam.dam.DAM",
    "align": "align.align.ALIGN",
    "coop": "prompts.coop.CoOp",
    "cocoop": "prompts.cocoop.CoCoOp",
    "vpt": "prompts.vpt.VPT",
    "upt": "prompts.upt.UPT",
    "maple": "prompts.maple.MaPLe",
    "plot": "prompts.plot.PLOT",
    "clip_lora": "prompts.clip_lora.CLIPLoRA",
    "fair": "fair.fair.FAIR",
    "lafter_like": "fair.lafter_like.LaFTerLike",
    "dpa_like": "fair.dpa_like.DPALike",
}

ALL_METHODS = METHODS | TOWER_METHODS


def location(name: str) -> tuple[str, str]:
    """Module below :mod:`modalign.methods` and class of a method: ``("baselines.tip_adapter", "TipAdapterF")``."""
    module, _, cls = ALL_METHODS[name].rpartition(".")
    return module, cls


def method_class(name: str) -> type[VectorMethod] | type[TowerMethod]:
    """The class of a method: ``method_class("cmm")`` is :class:`modalign.methods.cmm.cmm.CMM`."""
    key = name.lower().replace("-", "_")
    if key not in ALL_METHODS:
        raise UnknownNameError("method", name, ALL_METHODS)
    module, cls = location(key)
    return getattr(import_module(f"modalign.methods.{module}"), cls)
