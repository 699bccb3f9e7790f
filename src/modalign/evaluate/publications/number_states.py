"""State of each printed number: whether it can be reproduced here, or what is missing.

The first rule that applies determines the state. No rule is for a single number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from modalign.evaluate.publications.bench_commands import SEGMENTERS, bench_command, encoder_of, protocol_of
from modalign.evaluate.publications.gpu_hours import gpu_hours, sets_of_average
from modalign.evaluate.publications.parameter_counts import counted
from modalign.evaluate.publications.printed_methods import built_method, missing_method_reason
from modalign.evaluate.publications.printed_tables import printed_numbers
from modalign.evaluate.publications.published_number import Published

StateKind = Literal[
    "here", "other backbone", "needs weights", "needs images", "needs GPU-hours", "method not built",
    "not reproducible",
]  # fmt: skip
KINDS: tuple[StateKind, ...] = get_args(StateKind)

FEATURES = ("oxford_flowers", "ViT-B/32")
"""Data set and encoder of public image features with CoOp's lists; they have no text."""
WITHOUT_TEXT = ("cmm", "linear_probe", "tip_adapter", "tip_adapter_f")
"""Methods that replace text by class means."""
MANY_HOURS = 1.0


@dataclass(frozen=True)
class NumberState:
    """Whether a printed number can be reproduced, and how.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    detail : str
        Which weights, images, hours or method are missing, or the reason.
    command : str
        The command line that reproduces the number; ``""`` if there is none.
    """

    kind: StateKind
    detail: str
    command: str = ""

    @property
    def words(self) -> str:
        """In a few words, for a cell."""
        return (
            f"needs about {self.detail} GPU-hours" if self.kind == "needs GPU-hours" else f"{self.kind}: {self.detail}"
        )


def _time(number: Published) -> NumberState | None:
    if number.metric != "seconds":
        return None
    return NumberState("not reproducible", "a time on a machine that the paper does not name")


def _contradicted(number: Published) -> NumberState | None:
    """A gain that the paper's own equations exclude."""
    if built_method(number.method) is None or "added term is equal for all classes" not in number.caution:
        return None
    return NumberState("not reproducible", "by the paper's equations no decision can change")


def _unstated(number: Published) -> NumberState | None:
    if number.backbone != "not stated" or number.setting == "segmentation" or number.method == "CLIP":
        return None
    return NumberState("not reproducible", "the paper does not state the encoder and the images")


def _unbuilt(number: Published) -> NumberState | None:
    if number.setting == "segmentation":
        known = number.method.removesuffix(" + GPUA") in SEGMENTERS.values()
        return None if known else NumberState("method not built", number.method)
    if built_method(number.method) is None:
        return NumberState("method not built", missing_method_reason(number.method))
    return None


def _counted(number: Published) -> NumberState | None:
    """Parameters follow from the sizes of the towers, the number of iterations is a setting."""
    if number.metric == "iterations":
        return NumberState("here", "a setting", bench_command(number))
    if "parameters" in number.metric:
        count = counted(number.method, number.metric, number.backbone)
        if count is not None:
            table = number.table.removeprefix("Table ")
            return NumberState("here", f"{count:,}", f"modalign tables {number.paper}:{table}")
    return None


def _features(number: Published) -> NumberState | None:
    """Real features of the same test images, by another encoder."""
    method = built_method(number.method)
    dataset, encoder = FEATURES
    if method is None or number.dataset != dataset or number.split != "coop" or method.name not in WITHOUT_TEXT:
        return None
    if number.metric not in ("top-1", "fusion weight"):
        return None
    return NumberState("other backbone", encoder, bench_command(number, source="FEATURES"))


def _hours(number: Published) -> NumberState | None:
    method = built_method(number.method)
    if number.setting == "segmentation" or method is None or not method.in_tower:
        return None
    hours = gpu_hours(number, protocol_of(number), sets_of_average(number, sets_beside(number.paper, number.table)))
    if hours < MANY_HOURS:
        return None
    return NumberState("needs GPU-hours", f"{hours:.0f}", bench_command(number))


def _weights(number: Published) -> NumberState | None:
    method = built_method(number.method)
    if number.setting == "segmentation" or method is None or not method.in_tower:
        return None
    return NumberState("needs weights", encoder_of(number.backbone), bench_command(number))


def _images(number: Published) -> NumberState | None:
    if number.dataset == "average":
        sets = len(sets_beside(number.paper, number.table)) or 11
        what = f"{sets} data sets"
    else:
        what = number.dataset if number.dataset != "not stated" else "a data set that is not named"
    lists = ", VISSL's lists" if number.split == "vissl" else ""
    return NumberState("needs images", what + lists, bench_command(number))


RULES: tuple[Callable[[Published], NumberState | None], ...] = (
    _time, _contradicted, _unstated, _unbuilt, _counted, _features, _hours, _weights, _images
)  # fmt: skip


@cache
def number_state(number: Published) -> NumberState:
    """The state of a printed number without any run of one's own.

    See Also
    --------
    modalign.evaluate.publications.own_runs.OwnRuns : Numbers that were made.
    """
    return next(state for rule in RULES if (state := rule(number)) is not None)


@cache
def sets_beside(paper: str, table: str) -> tuple[str, ...]:
    """The data sets of a table, ``average`` left out; none where it has no other."""
    names = (p.dataset for p in printed_numbers() if (p.paper, p.table) == (paper, table))
    return tuple(dict.fromkeys(name for name in names if name not in ("average", "not stated")))
