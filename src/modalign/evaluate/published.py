"""The papers' own numbers, so that a report can print them beside measured ones.

Values are in percent, as printed, and only such as stand in the papers. Data sets are named as in
:mod:`modalign.data.splits.benchmark_sets`; ``average`` is the mean that the paper itself states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from modalign.core.errors import UnknownNameError
from modalign.evaluate.published_tables import BASE_NEW, CAUTION, TABLES

PAPERS = {
    "cmm": "Cross-Modal Mapping: Mitigating the Modality Gap for Few-Shot Image Classification",
    "align": "Wang et al., Tuning Multi-mode Token-level Prompt Alignment across Modalities",
    "dam": "Lu et al., Fine-Tuning via Linked Domains: A Closed-Form Dual Alignment Mechanism for Transferring "
    "Vision-Language Models",
    "fair": "Ali et al., Towards Fine-Grained Adaptation of CLIP via a Self-Trained Alignment Score",
    "gpua": "Yu et al., Geometry-Preserving Unsupervised Alignment for Heterogeneous Foundation Models",
}


@dataclass(frozen=True)
class Published:
    """One number of one table.

    Attributes
    ----------
    paper, table : where it stands; :data:`PAPERS` has the title.
    setting : the protocol.
    method, dataset, backbone : what was measured on what.
    metric : ``top-1``, ``base``, ``new``, ``harmonic mean``, ``mIoU`` or ``fusion weight``.
    value : percent (a fusion weight is plain).
    shots : labeled images a class; None where the table does not vary them, as its setting says.
    caution : why not to rely on it, if there is a reason.
    """

    paper: str
    table: str
    setting: str
    method: str
    dataset: str
    backbone: str
    metric: str
    value: float
    shots: int | None = None
    caution: str = ""

    @property
    def source(self) -> str:
        """Title and table, for a footnote."""
        return f"{PAPERS[self.paper]}, {self.table} ({self.backbone}, {self.setting})"


def published(
    *,
    paper: str | None = None,
    setting: str | None = None,
    method: str | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    metric: str | None = None,
    shots: int | None = None,
) -> tuple[Published, ...]:
    """All published numbers that agree with what is given; upper and lower case do not matter.

    >>> [p.value for p in published(paper="cmm", method="CMM", dataset="average", shots=16)]
    [77.6]
    """
    if paper is not None and paper.lower() not in PAPERS:
        raise UnknownNameError("paper", paper, PAPERS)
    given = {"paper": paper, "setting": setting, "method": method, "dataset": dataset, "backbone": backbone}
    wanted = {key: value.lower() for key, value in (given | {"metric": metric}).items() if value is not None}
    return tuple(
        p
        for p in _all()
        if all(getattr(p, key).lower() == value for key, value in wanted.items()) and shots in (None, p.shots)
    )


@cache
def _all() -> tuple[Published, ...]:
    found = []
    for paper, table, setting, backbone, row_is, columns, fixed, rows in TABLES:
        for line in rows.strip().splitlines():
            name, _, values = line.strip().partition(": ")
            for column, value in zip(columns.split(), values.split(), strict=True):
                entry: dict = {"metric": "top-1", **fixed, row_is: name}
                if column.isdigit():
                    entry["shots"] = int(column)
                elif column in BASE_NEW.split():
                    entry["metric"] = column.replace("-", " ")
                else:
                    entry["dataset"] = column
                number = Published(paper, table, setting, backbone=backbone, value=float(value), **entry)
                found.append(replace(number, caution=_caution(number)))
    return tuple(found)


def _caution(number: Published) -> str:
    agreeing = (text for entry, text in CAUTION if all(getattr(number, k) == v for k, v in entry.items()))
    return next(agreeing, "")
