"""What a printed table states about its rows: the method of the paper is above or below each other row.

In an ablation, the other rows are the method with one ingredient changed: the sign of a claim is that of the ablation.
Tables of transfers have claims about the source, about each target, and about the average of the targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from modalign.evaluate.publications.bench_commands import ImagesOf, images_of, protocol_of, unlabeled_per_class
from modalign.evaluate.publications.paper_settings import SOURCE_PROTOCOLS
from modalign.evaluate.publications.printed_methods import built_method
from modalign.evaluate.publications.printed_tables import printed_numbers
from modalign.evaluate.publications.published_number import Published
from modalign.evaluate.runs import Shots

AVERAGE = "average"
PARTS = {"top-1": ("test",), "base": ("base",), "new": ("new",), "harmonic mean": ("base", "new")}
"""Metric → parts of the test images. The claims about a harmonic mean are tested on the images of both halves."""
SOURCE, TARGETS = "source", "targets"
"""What a claim about a transfer is tested on, in place of a metric: the source, or the average of the targets."""

_OWN_METHODS = {"dam": ("dam", "cma")}  # of a paper, where it has several
_LABELED = ("few-shot", "base-to-new", *SOURCE_PROTOCOLS)  # protocols that draw images with labels
_LABELS: dict[str, Shots] = {"long-tail": "all", "inductive": 0, "transductive": 0}  # by protocol, whatever the table
_PRINTED_SOURCE = "imagenet"
_USUAL_SHOTS = 16  # where the table does not vary the number


@dataclass(frozen=True)
class TableRow:
    """A row of a table by one protocol, as ``modalign bench`` runs it.

    Attributes
    ----------
    name : str
        As printed.
    method : str
        Name in the library.
    changes : tuple of (str, object)
        Hyper-parameters that make the row what it is.
    protocol : str
        As in ``modalign bench``.
    shots : int or str
        Labeled images per class; 0 without labels.
    imbalance : float, optional
        Of the long-tail protocol.
    per_class : int, optional
        Unlabeled images per class.
    images : str
        Whose vectors of the images it uses, see :data:`~modalign.evaluate.publications.bench_commands.ImagesOf`.
    """

    name: str
    method: str
    changes: tuple[tuple[str, Any], ...]
    protocol: str
    shots: Shots
    imbalance: float | None = None
    per_class: int | None = None
    images: ImagesOf = "one"

    @property
    def key(self) -> tuple[object, ...]:
        """All but the name."""
        return (self.method, self.changes, self.protocol, self.shots, self.imbalance, self.per_class, self.images)

    def runs_on(self, encoder: str) -> bool:
        """Whether an encoder, or ``"vision+clip"``, has what the row compares.

        With one encoder the rows of both are those of this one, and so are the ablations of their hyper-parameters.
        """
        return "+" in encoder or self.images in ("one", "both") or (self.images == "clip" and bool(self.changes))


@dataclass(frozen=True)
class RowClaim:
    """The printed difference of two rows, first minus second.

    Attributes
    ----------
    first, second : TableRow
        The row of the paper's method, and another one.
    metric : str
        One of :data:`PARTS`; of a transfer :data:`SOURCE`, :data:`TARGETS` or the name of a target.
    printed : mapping of str to float
        Data set → points; ``"average"`` as the table has it, or else the mean of its data sets.
    whole : bool, default=False
        Whether the rows learn from all unlabeled images although the printed ones learned from fewer.
    """

    first: TableRow
    second: TableRow
    metric: str
    printed: Mapping[str, float]
    whole: bool = False

    def difference(self, dataset: str) -> float:
        """The printed difference on a data set, or on average where the table has none."""
        return self.printed.get(dataset, self.printed[AVERAGE])


def table_row(number: Published) -> TableRow | None:
    """The row of a number; None where it cannot be run on data of another kind."""
    method, protocol = built_method(number.method), protocol_of(number)
    if method is None or number.metric not in PARTS or protocol == "segmentation":
        return None
    imbalance, shots = None, _USUAL_SHOTS if number.shots is None else number.shots
    if protocol == "long-tail":
        imbalance = float(number.setting.rpartition(" ")[2])
    labels = _LABELS.get(protocol, shots)
    changes = tuple(method.changes.items())
    return TableRow(
        number.method, method.name, changes, protocol, labels, imbalance, unlabeled_per_class(number), images_of(number)
    )


@cache
def printed_rows(paper: str, table: str) -> tuple[TableRow, ...]:
    """The rows of a table that can be run on other data, each once."""
    rows = (table_row(number) for number in _numbers(paper, table))
    return tuple({row.key: row for row in rows if row is not None}.values())


@cache
def row_claims(paper: str, table: str) -> tuple[RowClaim, ...]:
    """The method of the paper against each other row, by protocol, number of labels and metric or part."""
    groups: dict[tuple[object, ...], dict[TableRow, dict[str, list[float]]]] = {}
    unlabeled: dict[tuple[object, ...], dict[TableRow, dict[str, list[float]]]] = {}
    for number in _numbers(paper, table):
        row = table_row(number)
        if row is None:
            continue
        free = row.shots == 0 and row.protocol in _LABELED  # beside each number of labels
        for compared in _compared(number, row):
            key = (row.protocol, row.imbalance, compared, *(() if free else (row.shots,)))
            own = (unlabeled if free else groups).setdefault(key, {})
            own.setdefault(row, {}).setdefault(number.dataset, []).append(number.value)
    found: list[RowClaim] = []
    for key, rows in groups.items():
        metric = str(key[2])
        if metric == "harmonic mean" and any(other[:2] == key[:2] and other[2] == "base" for other in groups):
            continue  # it follows from both halves
        found += _claims(paper, metric, unlabeled.get(key[:3], {}) | rows)
    return tuple(found)


def _compared(number: Published, row: TableRow) -> tuple[str, ...]:
    """The metric that a number is compared by; of a transfer the parts, to whose average a target belongs as well."""
    if row.protocol not in SOURCE_PROTOCOLS:
        return (number.metric,)
    if number.dataset == _PRINTED_SOURCE:
        return (SOURCE,)
    return (TARGETS,) if number.dataset == AVERAGE else (number.dataset, TARGETS)


def _claims(paper: str, metric: str, rows: Mapping[TableRow, Mapping[str, list[float]]]) -> Iterator[RowClaim]:
    """Claims about the rows of a group, of rows that are run alike the first one."""
    first = _of_paper(paper, rows)
    if first is None:
        return
    known = {first.key}
    for row, values in rows.items():
        common = [name for name in rows[first] if name in values]
        if row.key in known or not common:
            continue
        known.add(row.key)
        printed = {name: float(np.mean(rows[first][name]) - np.mean(values[name])) for name in common}
        printed.setdefault(AVERAGE, float(np.mean(list(printed.values()))))
        yield RowClaim(first, row, metric, printed)


def _of_paper(paper: str, rows: Mapping[TableRow, Mapping[str, list[float]]]) -> TableRow | None:
    """The method of the paper as it is, or else its highest row."""
    own = [row for row in rows if row.method in _OWN_METHODS.get(paper, (paper,))]

    def merit(row: TableRow) -> tuple[bool, bool, bool, float]:
        mean = float(np.mean([value for values in rows[row].values() for value in values]))
        return not row.changes, row.images in ("one", "both"), row.per_class is None, mean

    return max(own, key=merit, default=None)


def _numbers(paper: str, table: str) -> Iterator[Published]:
    return (number for number in printed_numbers() if (number.paper, number.table) == (paper, table))
