"""One block of a printed table: rows of numbers, with the meaning of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

SHOTS = "1 2 4 8 16"
ELEVEN = "imagenet caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101"
TARGETS = ELEVEN.removeprefix("imagenet ")
SHIFTS = "imagenet imagenetv2 imagenet_sketch imagenet_a imagenet_r"
BASE_NEW = "base new harmonic-mean"

_UNITS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "sec": 1, "min": 60, "h": 3600, "hr": 3600}
_PRINTED = re.compile(r"([+-]?[\d.]+)([a-zA-Z]*)")


@dataclass(frozen=True)
class PrintedBlock:
    """Numbers of one table that share a setting and a backbone.

    Attributes
    ----------
    table : str
        ``"Table 1"``, or the section of a number in the text.
    setting : str
        The protocol.
    backbone : str
        The encoder; ``""`` where the columns are encoders.
    columns : mapping of str to str
        What varies along a row, such as ``{"dataset": "dtd eurosat"}``; several entries multiply, the last one fastest.
    rows : str
        A row per line: name, colon, numbers as printed. ``-`` is an empty cell.
    fixed : mapping of str to str or int
        What is the same in all cells.
    rows_are : str
        What the names of the rows are.
    """

    table: str
    setting: str
    backbone: str
    columns: Mapping[str, str]
    rows: str
    fixed: Mapping[str, object] = field(default_factory=dict)
    rows_are: str = "method"

    def cells(self) -> Iterator[tuple[dict[str, object], str]]:
        """Each number as what it is and as it is printed, row by row."""
        names, values = self.columns.keys(), (entry.split() for entry in self.columns.values())
        heads = [dict(zip(names, combination, strict=True)) for combination in product(*values)]
        for line in self.rows.strip().splitlines():
            name, _, numbers = line.strip().partition(": ")
            for head, printed in zip(heads, numbers.split(), strict=True):
                if printed != "-":
                    own = {key: _typed(key, value) for key, value in head.items()}
                    yield {"backbone": self.backbone, **self.fixed, self.rows_are: name, **own}, printed


def printed_value(printed: str) -> float:
    """A number as printed, in its base unit: ``"8.2K"`` is 8200, ``"14h40min"`` 52800 seconds."""
    parts = _PRINTED.findall(printed)
    assert "".join(number + unit for number, unit in parts) == printed, printed
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def rounding(printed: str) -> float:
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


def _typed(key: str, value: str) -> str | int:
    if key == "shots":
        return int(value)
    return value.replace("-", " ") if key == "metric" and value != "top-1" else value.replace("_and_", " and ")
