"""Whether runs on other data have the order of rows that a table prints: confirmed, not confirmed or reversed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.paired import Comparison, compare_pairs, signed
from modalign.evaluate.publications.paper_settings import paper_settings
from modalign.evaluate.publications.printed_methods import switches
from modalign.evaluate.publications.shapes.row_claims import PARTS, RowClaim, TableRow, row_claims
from modalign.evaluate.runs import labels_in_words
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

ShapeVerdict = Literal["confirmed", "not confirmed", "reversed"]
VERDICTS: tuple[ShapeVerdict, ...] = get_args(ShapeVerdict)
SHAPE_LEGEND = (
    "Differences in points, first row minus second. The interval is that of the test images, from a sign-flip test on "
    "the same images averaged over seeds, corrected for all statements of the table (Holm). Confirmed: the interval "
    "excludes 0 on the printed side. Reversed: on the other side. They describe this data and encoder alone."
)
_OF_A_RUN = {"random_state", "structures"}  # hyper-parameters that differ between runs of one row


@dataclass(frozen=True)
class ShapeStatement:
    """One claim of a table on one data set.

    Attributes
    ----------
    claim : RowClaim
        Two rows and their printed difference.
    dataset, encoder, settings : str
        Of the runs.
    seeds : int
        Of both rows.
    comparison : Comparison
        First minus second on the test images.
    """

    claim: RowClaim
    dataset: str
    encoder: str
    settings: str
    seeds: int
    comparison: Comparison

    @property
    def printed(self) -> float:
        """The printed difference in points."""
        return self.claim.difference(self.dataset)

    @property
    def verdict(self) -> ShapeVerdict:
        """Whether the runs have the printed order."""
        if not self.comparison.significant:
            return "not confirmed"
        return "confirmed" if (self.comparison.difference > 0) == (self.printed > 0) else "reversed"

    @property
    def sentence(self) -> str:
        """The claim in words."""
        first, second = self.claim.first, self.claim.second
        return f"{first.name} {'above' if self.printed > 0 else 'below'} {second.name}"

    @property
    def tested(self) -> str:
        """Protocol, labels and tested part."""
        row = self.claim.first
        words = [row.protocol]
        if row.imbalance is not None:
            words.append(f"imbalance {row.imbalance:g}")
        elif row.shots:
            words.append(labels_in_words(row.shots))
        if self.claim.whole:
            words.append("all images")
        elif row.per_class is not None and row.per_class == self.claim.second.per_class:
            words.append(f"{row.per_class} images per class")
        if self.claim.metric in ("base", "new"):
            words.append(f"{self.claim.metric} classes")
        return ", ".join(words)

    @property
    def cells(self) -> list[str]:
        """As a row of a table: claim, protocol, printed and own difference, interval, verdict."""
        own = self.comparison
        equal = " (equal)" if own.low == own.difference == own.high == 0 else ""
        return [self.sentence, self.tested, signed(self.printed / 100), signed(own.difference), own.interval,
                self.verdict + equal]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        own = self.comparison
        return {
            "first": self.claim.first.name, "second": self.claim.second.name, "metric": self.claim.metric,
            "protocol": self.tested, "dataset": self.dataset, "encoder": self.encoder, "settings": self.settings,
            "seeds": self.seeds, "printed": self.printed / 100, "difference": own.difference, "low": own.low,
            "high": own.high, "verdict": self.verdict,
        }  # fmt: skip


def by_place(statements: Iterable[ShapeStatement]) -> dict[str, list[ShapeStatement]]:
    """Data, encoder, published settings and seeds in words → statements."""
    found: dict[str, list[ShapeStatement]] = {}
    for one in statements:
        words = [one.dataset, one.encoder, "published settings" if one.settings == "paper" else ""]
        words.append(f"{one.seeds} seed{'s' if one.seeds > 1 else ''}")
        found.setdefault(", ".join(filter(None, words)), []).append(one)
    return found


def count_verdicts(statements: Iterable[ShapeStatement]) -> Counter[ShapeVerdict]:
    """Verdict → number of statements, each verdict named."""
    counts: Counter[ShapeVerdict] = Counter(dict.fromkeys(VERDICTS, 0))
    counts.update(one.verdict for one in statements)
    return counts


SHAPE_HEADER = ["order of rows", "protocol", "printed", "here", "interval", "verdict"]
"""Columns of :attr:`ShapeStatement.cells`."""


class OwnShapes:
    """Statements about tables from the runs of a results file.

    Parameters
    ----------
    runs : iterable of BenchmarkRun
        Of repeated runs the last one counts.
    """

    def __init__(self, runs: Iterable[BenchmarkRun]) -> None:
        self._places: dict[tuple[str, str, str], list[BenchmarkRun]] = {}
        for run in runs:
            self._places.setdefault((run.dataset, run.encoder, run.settings), []).append(run)

    def __call__(self, paper: str, table: str) -> list[ShapeStatement]:
        """All claims of a table for which both rows were run with the same seeds on the same images."""
        found: list[ShapeStatement] = []
        for place, runs in self._places.items():
            claims = (one for one in row_claims(paper, table) if one.difference(place[0]))
            pairs = [pair for claim in claims if (pair := _pair(runs, claim)) is not None]
            compared = compare_pairs([(pair.first, pair.second) for pair in pairs])
            found += [
                ShapeStatement(pair.claim, *place, pair.seeds, comparison)
                for pair, comparison in zip(pairs, compared, strict=True)
            ]
        return found


class _Pair(NamedTuple):
    """A claim, the (n,) shares of seeds with a right answer of its two rows, and the number of seeds."""

    claim: RowClaim
    first: np.ndarray
    second: np.ndarray
    seeds: int


def _pair(runs: list[BenchmarkRun], claim: RowClaim) -> _Pair | None:
    """The runs of both rows; None without common ones.

    Rows of an ablation learn from equally many unlabeled images: as many as printed, or else all.
    """
    if claim.first.per_class != claim.second.per_class or claim.first.per_class is None:
        return _pair_of(runs, claim)
    first, second = (replace(row, per_class=None) for row in (claim.first, claim.second))
    return _pair_of(runs, claim) or _pair_of(runs, replace(claim, first=first, second=second, whole=True))


def _pair_of(runs: list[BenchmarkRun], claim: RowClaim) -> _Pair | None:
    one = _suiting(runs, claim.first)
    other = _suiting(runs, claim.second)
    if one and claim.first.method == claim.second.method:  # an ablation: all else is equal
        other = [run for run in other if _fixed(run) == _fixed(one[-1])]
    first, second = (_right_answers(own, claim.metric) for own in (one, other))
    seeds = [key for key in first if key in second]
    if not seeds:
        return None
    a, b = (np.mean([side[key] for key in seeds], axis=0) for side in (first, second))
    return _Pair(claim, a, b, len(seeds))


def _suiting(runs: list[BenchmarkRun], row: TableRow) -> list[BenchmarkRun]:
    """The runs of a row, with the other hyper-parameters of the last of them."""
    own = [run for run in runs if _suits(run, row)]
    return [run for run in own if _fixed(run) == _fixed(own[-1])]


def _right_answers(runs: list[BenchmarkRun], metric: str) -> dict[tuple[int, tuple[str, ...]], np.ndarray]:
    """(seed, fingerprints of the test images) → (n,) whether each answer is right."""
    by_seed: dict[int, dict[str, BenchmarkRun]] = {}
    for run in runs:
        by_seed.setdefault(run.run.seed, {})[run.part] = run
    parts = PARTS[metric]
    return {
        (seed, tuple(own[part].run.test for part in parts)): np.concatenate([own[part].run.correct for part in parts])
        for seed, own in by_seed.items()
        if all(part in own and len(own[part].run.correct) for part in parts)
    }


def _suits(run: BenchmarkRun, row: TableRow) -> bool:
    """Whether a run is one of a row, whatever its other hyper-parameters."""
    own = (run.run.method, run.protocol, run.run.shots, run.imbalance, run.per_class)
    if own != (row.method, row.protocol, row.shots, row.imbalance, row.per_class):
        return False
    wanted: dict[str, Any] = {p.name: p.default for p in parameters(method_class(row.method))}
    if run.settings == "paper":
        number = run.run.shots if isinstance(run.run.shots, int) else None
        wanted |= paper_settings(row.method, run.dataset, protocol=run.protocol, shots=number).parameters
    wanted |= dict(row.changes)
    return all(run.run.parameters.get(name) == wanted[name] for name in switches(row.method))


def _fixed(run: BenchmarkRun) -> dict[str, Any]:
    """The hyper-parameters that no row of a table changes."""
    changed = set(switches(run.run.method)) | _OF_A_RUN
    return {name: value for name, value in run.run.parameters.items() if name not in changed}
