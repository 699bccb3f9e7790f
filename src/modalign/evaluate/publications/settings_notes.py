"""Where the published settings of runs are from, and what they cannot express, in sentences."""

from __future__ import annotations

from collections.abc import Iterable

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.comparison.findings import title
from modalign.evaluate.publications.paper_settings import paper_settings


def settings_notes(runs: Iterable[BenchmarkRun]) -> list[str]:
    """Return a sentence per source and remark of the published settings of runs, and one for methods without any.

    Parameters
    ----------
    runs : iterable of BenchmarkRun
        Of any settings; only those with published ones count.
    """
    asked = {
        (run.run.method, run.dataset, run.protocol, run.run.shots): None for run in runs if run.settings == "paper"
    }
    found: dict[str, None] = {}
    without: dict[str, None] = {}
    for method, dataset, protocol, shots in asked:
        known = paper_settings(method, dataset, protocol=protocol, shots=shots if isinstance(shots, int) else None)
        if not known.parameters:
            without[title(method)] = None
            continue
        own = f"{title(method).partition(' (')[0]}, "  # a source in the method's own paper names it once more
        found |= dict.fromkeys(f"{title(method)}: {n}" for n in (f"{known.source.removeprefix(own)}.", *known.notes))
    if without:
        found[f"the library has no published settings for {', '.join(without)}; the defaults are used."] = None
    return list(found)
