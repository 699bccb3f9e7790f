"""Table of all methods by name. A new method needs its file, its test, and one line here.

Each name maps to the folder, file and class of the method. ``METHODS`` learn from vectors, ``TOWER_METHODS`` inside an
encoder from images. Methods of other packages are registered, or found by the entry points ``modalign.methods`` of
installed packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modalign.core.errors import InputError, UnknownNameError
from modalign.core.registration import Registry, canonical_name

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
    "wise_ft": "baselines.wise_ft.WiSEFT",
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
    "hpt": "dam.hpt.HPT",
    "align": "align.align.ALIGN",
    "coop": "prompts.coop.CoOp",
    "cocoop": "prompts.cocoop.CoCoOp",
    "kgcoop": "prompts.kgcoop.KgCoOp",
    "vpt": "prompts.vpt.VPT",
    "upt": "prompts.upt.UPT",
    "maple": "prompts.maple.MaPLe",
    "promptsrc": "prompts.promptsrc.PromptSRC",
    "plot": "prompts.plot.PLOT",
    "clip_lora": "prompts.clip_lora.CLIPLoRA",
    "upl": "prompts.upl.UPL",
    "fair": "fair.fair.FAIR",
    "lafter_like": "fair.lafter_like.LaFTerLike",
    "dpa_like": "fair.dpa_like.DPALike",
    "reclip": "fair.reclip.ReCLIP",
}

ALL_METHODS = METHODS | TOWER_METHODS

COMPOSED: dict[str, str] = {"added_classes": "added.added_classes.AddedClasses"}
"""Made of fitted methods and saved as methods, but not fitted and not listed."""

_TITLES = {
    "zero_shot_clip": "zero_shot",
    "linear_feature_alignment": "lfa",
    "cross_modal_linear_probe": "cross_modal_probe",
    "cross_modal_alignment": "cma",
    "automatic_choice": "auto",
    "fair_on_vectors": "fair_vectors",
    "taskres": "task_res",
    "lp++": "lp_plus_plus",
}
"""Titles that differ from the name by more than case, blanks and hyphens."""


def method_name(name: str) -> str:
    """Return the name of a method that is given by its name or title: ``"lp_plus_plus"`` for ``"LP++"``."""
    key = canonical_name(name)
    title = "_".join(key.partition("(")[0].split())
    return key if key in ALL_METHODS or title not in ALL_METHODS | _TITLES else _TITLES.get(title, title)


def location(name: str) -> tuple[str, str]:
    """Return module and class of a method: ``("baselines.tip_adapter", "TipAdapterF")``."""
    module, _, cls = (ALL_METHODS | COMPOSED)[name].rpartition(".")
    return module, cls


def method_class(name: str) -> type[VectorMethod] | type[TowerMethod]:
    """Return the class of a method: ``method_class("cmm")`` is :class:`modalign.methods.cmm.cmm.CMM`.

    Raises
    ------
    UnknownNameError
        Neither the library nor another package has the method; the message suggests the nearest name.
    InputError
        The package of the method cannot be imported.
    """
    key = method_name(name)
    if key in ALL_METHODS or key in COMPOSED:
        module, cls = location(key)
        return getattr(import_module(f"modalign.methods.{module}"), cls)
    if key in OTHER_METHODS:
        return OTHER_METHODS.get(key)
    raise UnknownNameError("method", name, [*ALL_METHODS, *OTHER_METHODS.names()])


def register_method(name: str, cls: type[VectorMethod] | type[TowerMethod]) -> None:
    """Register a method of your own under a name, for ``adapt``, ``compare``, ``save`` and ``load``.

    The registration is valid in this process. For the command line, or to avoid this call, define an entry point of the
    group ``modalign.methods`` in your package.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and underscores.
    cls : type
        Subclass of :class:`~modalign.methods.contract.vectors.VectorMethod` or
        :class:`~modalign.methods.contract.tower.TowerMethod`.

    Raises
    ------
    InputError
        The name is taken, or ``cls`` is not such a class.

    Examples
    --------
    >>> import modalign as ma
    >>> class OwnGDA(ma.GDA):
    ...     title = "GDA with a name of its own"
    >>> ma.register_method("own_gda", OwnGDA)
    >>> ma.methods.method_class("own_gda").__name__
    'OwnGDA'
    """
    OTHER_METHODS.register(name, cls)


def is_known(name: str) -> bool:
    """Return whether the library or another package has a method of that name. Nothing is imported."""
    return method_name(name) in ALL_METHODS | COMPOSED or name in OTHER_METHODS


def vector_methods() -> list[str]:
    """Return the names of all methods on vectors, those of other packages last.

    Warns
    -----
    UserWarning
        A method of another package cannot be used and is left out.
    """
    from modalign.methods.contract.vectors import VectorMethod

    return [*METHODS, *(name for name, cls in OTHER_METHODS.usable().items() if issubclass(cls, VectorMethod))]


def is_vector_method(name: str) -> bool:
    """Whether there is a method on vectors of that name."""
    from modalign.methods.contract.vectors import VectorMethod

    key = method_name(name)
    return key in METHODS or (key in OTHER_METHODS and issubclass(OTHER_METHODS.get(key), VectorMethod))


def name_of(cls: type) -> str | None:
    """Return the name for which :func:`method_class` returns this class, or None."""
    for key in ALL_METHODS | COMPOSED:
        module, name = location(key)
        if (cls.__module__, cls.__qualname__) == (f"modalign.methods.{module}", name):
            return key
    for key in OTHER_METHODS.names():
        try:
            if OTHER_METHODS.get(key) is cls:
                return key
        except InputError:  # of a package that cannot be imported, which is not where the class is from
            continue
    return None


def _checked(cls: object) -> object:
    """Return ``cls`` after checking that it is a complete method class."""
    from modalign.methods.contract.tower import TowerMethod
    from modalign.methods.contract.vectors import VectorMethod

    if not isinstance(cls, type) or not issubclass(cls, (VectorMethod, TowerMethod)):
        raise InputError(f"expected a subclass of VectorMethod or TowerMethod, got {cls!r:.80}.")
    own = ("_fit", "_scores") if issubclass(cls, VectorMethod) else ("_learner",)
    if missing := [name for name in own if getattr(getattr(cls, name), "__isabstractmethod__", False)]:
        raise InputError(f"expected {cls.__name__} to define {' and '.join(missing)}.")
    return cls


OTHER_METHODS = Registry("method", "modalign.methods", ALL_METHODS | COMPOSED, _checked)
"""Methods of other packages."""
