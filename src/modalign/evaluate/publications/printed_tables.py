"""The tables of all papers as blocks of numbers, and each number with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from modalign.evaluate.publications import (
    align_tables,
    cmm_tables,
    dam_tables,
    fair_tables,
    gpua_segmentation_tables,
    gpua_tables,
)
from modalign.evaluate.publications.printed_block import PrintedBlock, printed_value
from modalign.evaluate.publications.printed_lists import images_tested
from modalign.evaluate.publications.published_number import Published

BLOCKS: dict[str, tuple[PrintedBlock, ...]] = {
    "cmm": cmm_tables.TABLES,
    "align": align_tables.TABLES,
    "dam": dam_tables.TABLES,
    "fair": fair_tables.TABLES,
    "gpua": tuple(sorted((*gpua_tables.TABLES, *gpua_segmentation_tables.TABLES), key=lambda block: block.table)),
}
_CAUTIONS: dict[str, tuple[tuple[dict[str, Any], str], ...]] = {
    "cmm": cmm_tables.CAUTIONS,
    "align": align_tables.CAUTIONS,
    "dam": dam_tables.CAUTIONS,
    "fair": fair_tables.CAUTIONS,
    "gpua": (*gpua_tables.CAUTIONS, *gpua_segmentation_tables.CAUTIONS),
}
REMARKS: dict[str, tuple[tuple[str, str], ...]] = {
    "cmm": cmm_tables.REMARKS,
    "align": align_tables.REMARKS,
    "dam": dam_tables.REMARKS,
    "fair": fair_tables.REMARKS,
    "gpua": gpua_tables.REMARKS,
}
"""What is odd about a table as a whole: its name and a sentence."""

_SEEDS = {"cmm": 3, "align": 3, "dam": 3}  # CoOp's protocol; FAIR and GPUA do not say
_HAND_WRITTEN, _STRUCTURED = "one hand-written sentence", "descriptions and structures of a language model"
_PROMPTS = {  # the first entry that the name of a method contains
    "cmm": {"CoOp": "learned", "ProGrad": "learned", "": f"{_HAND_WRITTEN}, seven for ImageNet"},
    "align": {"CLIP": _HAND_WRITTEN, "VPT": _HAND_WRITTEN, "": "learned"},
    "dam": {
        "CLIP": _HAND_WRITTEN, "LFA": _HAND_WRITTEN, "2SFS": _HAND_WRITTEN, "DAM": _STRUCTURED, "HPT": _STRUCTURED,
        "": "learned",
    },
    "fair": {
        "CuPL": "sentences of CuPL", "WCA": "sentences of CuPL", "CODER": "sentences of a language model",
        "FAIR": "sentences of CuPL", "LaFTer": "sentences of a language model", "UPL": "learned", "POUF": "learned",
        "": "hand-written sentences",
    },
    "gpua": {"": _HAND_WRITTEN},
}  # fmt: skip


@cache
def printed_numbers() -> tuple[Published, ...]:
    """All printed numbers, in the order of the papers and of their tables."""
    return tuple(number for paper, blocks in BLOCKS.items() for block in blocks for number in _of(paper, block))


def _of(paper: str, block: PrintedBlock) -> Iterator[Published]:
    for cell, printed in block.cells():
        entry: dict[str, Any] = {"metric": "top-1", "shots": None, **cell}
        if entry["method"] == "CLIP" and entry["shots"] is not None:
            entry["shots"] = 0
        lists, tested = images_tested(paper, block.setting, entry["dataset"], entry["metric"])
        yield Published(
            paper=paper,
            table=block.table,
            setting=block.setting,
            value=printed_value(printed),
            printed=printed,
            caution=_caution(paper, {"table": block.table, "setting": block.setting, **entry}),
            split=lists,
            n_test=tested,
            prompts=next(text for part, text in _PROMPTS[paper].items() if part in entry["method"]),
            seeds=None if entry["shots"] == 0 else _SEEDS.get(paper),
            **entry,
        )


def _caution(paper: str, entry: dict[str, Any]) -> str:
    agreeing = (text for match, text in _CAUTIONS[paper] if match.items() <= entry.items())
    return "; ".join(agreeing)
