"""Models saved by earlier versions: they load with the same predictions, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modalign.core.errors import InputError

RETIRED: dict[str, set[str]] = {"cmm": {"checkpoints"}}
"""Method → hyper-parameters that were removed. They affected the fit only."""
RESCORED: dict[str, int] = {"transclip": 2}
"""Method → first format of the cards with the current computation of scores."""


def upgraded(card: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a card of any format as of the present one.

    Raises
    ------
    InputError
        The method has changed so that the model would answer differently.
    """
    name, version = card["method"], int(card["format"].rpartition("/")[2])
    if version < RESCORED.get(name, 0):
        raise InputError(
            f"it was saved by an earlier version of modalign, whose '{name}' computed other scores; fit it again."
        )
    retired = RETIRED.get(name, set())
    return {**card, "parameters": {key: value for key, value in card["parameters"].items() if key not in retired}}
