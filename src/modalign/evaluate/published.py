"""Published numbers of the papers, for comparison with measured ones.

Values are as printed in the papers, and no others. Data sets are named as in
:mod:`modalign.data.splits.benchmark_sets`; ``average`` is the mean that the paper itself states.
"""

from __future__ import annotations

from modalign.core.errors import UnknownNameError
from modalign.evaluate.publications.printed_tables import printed_numbers
from modalign.evaluate.publications.published_number import PAPERS, Published

__all__ = ["PAPERS", "Published", "published"]


def published(
    *,
    paper: str | None = None,
    table: str | None = None,
    setting: str | None = None,
    method: str | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    metric: str | None = None,
    shots: int | None = None,
) -> tuple[Published, ...]:
    """Return all published numbers with the given values; case is ignored.

    >>> [p.value for p in published(paper="cmm", method="CMM", dataset="average", shots=16)]
    [77.6]
    """
    if paper is not None and paper.lower() not in PAPERS:
        raise UnknownNameError("paper", paper, PAPERS)
    given = {"paper": paper, "table": table, "setting": setting, "method": method, "dataset": dataset}
    given |= {"backbone": backbone, "metric": metric}
    wanted = {key: value.lower() for key, value in given.items() if value is not None}
    return tuple(
        p
        for p in printed_numbers()
        if all(getattr(p, key).lower() == value for key, value in wanted.items()) and shots in (None, p.shots)
    )
