"""Which method of the library, with which hyper-parameters, a row of a printed table is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from modalign.core.errors import InputError, argument, current_options
from modalign.methods import ALL_METHODS, is_known, method_class
from modalign.methods.contract.parameters import check_parameters

if TYPE_CHECKING:
    from modalign.evaluate.publications.published_number import Published


@dataclass(frozen=True)
class BuiltMethod:
    """A method of the library as a table has it.

    Attributes
    ----------
    name : str
        As in ``modalign list``.
    changes : dict
        Hyper-parameters that make the row what it is; the others are those of the paper.
    """

    name: str
    changes: dict[str, Any]

    @property
    def in_tower(self) -> bool:
        """Whether it learns inside an encoder, from images."""
        return hasattr(method_class(self.name), "score_images")


_NO_FUSION: dict[str, Any] = {"training_zero_shot_weight": 0.0, "zero_shot_weight": 0.0}
_NO_TRIPLET: dict[str, Any] = {"triplet_weight": 0.0}

# Rows whose name is not that of a method, or that change it.
_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("zero_shot", {}),
    "CuPL": ("zero_shot", {}),
    "CLIP + CMA": ("cma", {}),
    "TransCLIP-ZS": ("transclip", {}),
    "Image-only linear probe": ("linear_probe", {}),
    "Cross-modal linear probe": ("cross_modal_probe", {}),
    "Cross-modal WiSE-FT, ratio 0.5": ("cross_modal_probe", {"probe_weight": 0.5}),
    "CoOp, logit-adjusted loss": ("coop", {"loss": "logit-adjusted"}),
    "CoCoOp, logit-adjusted loss": ("cocoop", {"loss": "logit-adjusted"}),
    "CMM, mapped scores only": ("cmm", _NO_FUSION | _NO_TRIPLET),
    "CMM, mapped scores and triplet": ("cmm", _NO_FUSION),
    "CMM, mapped and zero-shot scores": ("cmm", _NO_TRIPLET | {"zero_shot_weight": 1.0}),
    "CMM, mapped and zero-shot scores and triplet": ("cmm", {"zero_shot_weight": 1.0}),
    "CMM, mapped and weighted zero-shot scores": ("cmm", _NO_TRIPLET),
    "CMM, full": ("cmm", {}),
    "CMM, no map, no triplet, no fusion": ("cmm", _NO_FUSION | _NO_TRIPLET | {"map": False}),
    "CMM, triplet only": ("cmm", _NO_FUSION | {"map": False}),
    "CMM, map only": ("cmm", _NO_FUSION | _NO_TRIPLET),
    "CMM, map and triplet": ("cmm", _NO_FUSION),
    "CMM, linear": ("cmm", {}),
    **{f"CMM, {depth} non-linear layers": ("cmm", {"layers": depth}) for depth in (2, 3, 4, 5)},
    "DAM, no alignment": ("dam", {"sma": "none", "cma": "none"}),
    "DAM, images aligned": ("dam", {"sma": "image", "cma": "none"}),
    "DAM, texts aligned": ("dam", {"sma": "text", "cma": "none"}),
    "DAM, modalities aligned": ("dam", {"sma": "none"}),
    "DAM, images and texts aligned": ("dam", {"cma": "none"}),
    "DAM, images and modalities aligned": ("dam", {"sma": "image"}),
    "DAM, texts and modalities aligned": ("dam", {"sma": "text"}),
    "DAM, image-to-text only": ("dam", {"directions": "image-to-text"}),
    "DAM, text-to-image only": ("dam", {"directions": "text-to-image"}),
    "DAM, all maps learned": ("dam", {"maps": "learned"}),
    "DAM, same-modal maps learned": ("dam", {"maps": "sma"}),
    "DAM, cross-modal maps learned": ("dam", {"maps": "cma"}),
    "FAIR without alignment score": ("fair", {"alignment": "fixed"}),
    "FAIR without pseudo-label weight": ("fair", {"weighting": "none"}),
    "FAIR, weight by highest score": ("fair", {"weighting": "top"}),
    "FAIR, global features": ("fair", {"labeler": "cupl", "view": "global", "weighting": "none"}),
    "FAIR, global features and weight": ("fair", {"labeler": "cupl", "view": "global"}),
    "FAIR, global features, learned score": ("fair", {"view": "global", "weighting": "none"}),
    "FAIR, global features, learned score and weight": ("fair", {"view": "global"}),
    "WCA labels": ("fair", {"labeler": "wca", "weighting": "none"}),
    "WCA labels, selected crops": ("fair", {"labeler": "wca", "weighting": "none", "wca_keep": 4}),
    "WCA labels, class-token crop weights": ("fair", {"labeler": "wca", "weighting": "none", "wca_weights": "cls"}),
    "WCA labels, learned score": ("fair", {"keep": None, "crop_weights": "softmax", "weighting": "none"}),
    "FAIR, WCA labels": ("fair", {"labeler": "wca"}),
    "FAIR, LoRA": ("fair", {"trainable": "lora"}),
    "FAIR, K-Adaptation": ("fair", {"trainable": "k_adaptation"}),
    "GPUA, semantic scores only": ("gpua", {"semantic_weight": 1.0}),
    **{f"GPUA, {loss} loss": ("gpua", {"loss": loss.lower()})
       for loss in ("CSLS", "contrastive", "adaptive", "triplet", "THS")},
}  # fmt: skip
_IN_PART = {
    "LaFTer": "lafter_like follows it in part",
    "DPA": "dpa_like follows it in part",
    "FAIR, CODER labels": "fair with labeler=coder has CODER's first stage; its second needs sentences about pairs of "
    "similar classes, which are not published, and its code applies it only to images whose true class is among the "
    "five best",
}
"""Rows that a method of the library resembles, and what is missing."""


@cache
def built_method(row: str) -> BuiltMethod | None:
    """The method that a row of a table is; None where the library has neither it nor a switch that it needs."""
    name, changes = _ROWS.get(row) or (_named(row), {})
    if name is None or row in _IN_PART:
        return None
    try:
        check_parameters(method_class(name)(**changes))
    except InputError:
        return None
    return BuiltMethod(name, changes)


def missing_method_reason(row: str) -> str:
    """Return what is missing, as text."""
    if row in _ROWS:
        name, changes = _ROWS[row]
        return f"{name} has no switch for {', '.join(changes)}"
    plain = row.partition(",")[0]
    return _IN_PART.get(row) or _IN_PART.get(plain, plain)


def refuse_printed_rows(names: Iterable[str], of: str = "") -> None:
    """Raise for the name of a row of the tables that is no method of the library, with what to write instead.

    Parameters
    ----------
    names : iterable of str
        Names of methods as a user wrote them.
    of : str, default=""
        The argument that they are given by: "methods", "method", or "" if there is none.
    """
    for name in (name for name in names if not is_known(name)):
        if row := _printed_row(name):
            raise InputError(f"Expected names of 'modalign list', got '{name}': {_printed_as(row, of)}.")


def refuse_row(name: str) -> None:
    """Raise for the name of a row where that of a table is expected, with the tables that have the row."""
    row = _printed_row(name)
    if row is not None:
        tables = dict.fromkeys(f"{n.paper} {n.table}" for n in _printed() if n.method == row)
        where = ", ".join(tables) if len(tables) < 5 else f"{', '.join(list(tables)[:4])} and {len(tables) - 4} more"
        raise InputError(f"Expected a paper or a table, such as gpua:1, got '{name}', a row of {where}: "
                         f"{_printed_as(row, '')}.")  # fmt: skip


def _printed_row(name: str) -> str | None:
    """The row of a table that is called so, whatever its capitals and hyphens."""
    return next((row for row in {n.method: 0 for n in _printed()} if _plain(row) == _plain(name)), None)


def _printed() -> tuple[Published, ...]:
    from modalign.evaluate.publications.printed_tables import printed_numbers

    return printed_numbers()


def _printed_as(row: str, of: str) -> str:
    """What to do with the name of a row of the tables that is no name of a method."""
    method = built_method(row)
    if method is None:
        reason = missing_method_reason(row)
        return f"'{row}' is in the papers' tables and not in the library{'' if reason == row else f' ({reason})'}"
    changes = ", ".join(f"{key}={value}" for key, value in method.changes.items())
    words = f"'{row}' of the papers' tables is {method.name}{changes and f' with {changes}'}"
    if not of or current_options() is None:
        return words
    prefix = f"{method.name}." if of == "methods" else ""
    options = [f"--set {prefix}{key}={value}" for key, value in method.changes.items()]
    return f"{words}; write {' '.join([argument(of, method.name), *options])}"


@cache
def switches(name: str) -> Mapping[str, None]:
    """All hyper-parameters of a method that some row of a table changes."""
    rows = (built_method(row) for row in _ROWS)
    return dict.fromkeys(key for method in rows if method and method.name == name for key in method.changes)


def _named(row: str) -> str | None:
    """The method whose name is that of the row up to the first comma, whatever its capitals and hyphens."""
    plain = {name.replace("_", ""): name for name in ALL_METHODS}
    return plain.get(_plain(row.partition(",")[0]))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
