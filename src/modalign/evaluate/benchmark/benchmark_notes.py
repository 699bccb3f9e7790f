"""Notes of a benchmark: what users should know about its data and runs, and why runs are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.benchmark.benchmark_source import BenchmarkSource
from modalign.evaluate.benchmark.benchmark_tasks import TRANSFER, transfer_targets
from modalign.evaluate.comparison.findings import LeftOut, title
from modalign.evaluate.publications.settings_notes import settings_notes
from modalign.evaluate.runs import shared_warnings


def benchmark_notes(
    opened: BenchmarkSource, protocols: Sequence[str], runs: Sequence[BenchmarkRun], datasets: Sequence[str] | None
) -> tuple[str, ...]:
    """Messages about the data, named data sets without a test, draws of the runs and published settings, each once."""
    sets = [opened.open(name) for name in all_names(opened, protocols)]
    found = dict.fromkeys(note for data in sets for note in (*data.notes, *data.official.notes))
    drawn = (f"{run.dataset}, {run.drawn}: {note}" for run in runs for note in run.run.notes if note not in found)
    transfers = [one for one in protocols if one in TRANSFER]
    if datasets is not None and len(transfers) == 1:  # both together test on all
        learned = opened.open(opened.names[0])
        left = [one.name for one in transfer_targets(transfers[0], learned, opened)[1]]
        other = "other" if transfers[0] == "domain" else "no other"
        found |= {
            f"{one} is not tested by {transfers[0]}: it has {other} classes than {learned.name}": None for one in left
        }
    warned = shared_warnings([run.run for run in runs], title)
    return tuple(found | dict.fromkeys([*drawn, *settings_notes(runs), *warned]))


def all_names(opened: BenchmarkSource, protocols: Iterable[str]) -> list[str]:
    """The data sets of all protocols, each once."""
    return list(dict.fromkeys(name for protocol in protocols for name in opened.names_for(protocol)))


def reasons_in_words(left_out: Sequence[LeftOut]) -> str:
    """Return why nothing could be run: each reason once, with the methods it applies to."""
    held: dict[str, dict[str, None]] = {}
    for entry in left_out:
        held.setdefault(entry.reason.rstrip("."), {})[entry.method] = None
    return (
        "; ".join(f"{', '.join(methods)}: {reason}" for reason, methods in list(held.items())[:3]) or "no method suits"
    )
