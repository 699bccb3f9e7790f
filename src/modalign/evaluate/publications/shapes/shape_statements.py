"""Whether runs on other data have the order of rows that a table prints: confirmed, not confirmed or reversed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.paired import Comparison, compare_pairs, signed
from modalign.evaluate.publications.shapes.row_claims import PARTS, TARGETS, RowClaim, row_claims
from modalign.evaluate.publications.shapes.row_pairs import pair_rows
from modalign.evaluate.runs import labels_in_words

ShapeVerdict = Literal["confirmed", "not confirmed", "reversed"]
VERDICTS: tuple[ShapeVerdict, ...] = get_args(ShapeVerdict)
SHAPE_LEGEND = (
    "Differences in points, first row minus second; those printed are means over the backbones of a table. The "
    "interval is that of the test images, from a sign-flip test on the same images averaged over seeds, corrected for "
    "all statements of the table (Holm). An average weighs its targets equally; a digit that several of them show "
    "counts as one image. Confirmed: the interval excludes 0 on the printed side. Reversed: on the other side. They "
    "describe this data and encoder alone."
)


@dataclass(frozen=True)
class ShapeStatement:
    """One claim of a table on one data set.

    Attributes
    ----------
    claim : RowClaim
        Two rows and their printed difference.
    dataset, encoder, prompts, settings : str
        Of the runs.
    seeds : int
        Of both rows.
    comparison : Comparison
        First minus second on the test images.
    changes : tuple of str, default=()
        Hyper-parameters of the rows that differ from the settings, such as ``"fair.epochs=2"``.
    below : tuple of str, default=()
        Names of the rows that are less accurate than zero-shot, where that was run too.
    """

    claim: RowClaim
    dataset: str
    encoder: str
    prompts: str
    settings: str
    seeds: int
    comparison: Comparison
    changes: tuple[str, ...] = ()
    below: tuple[str, ...] = ()

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
        elif self.claim.metric not in PARTS:
            words.append({TARGETS: "average of the targets"}.get(self.claim.metric, self.claim.metric))
        return ", ".join(words)

    @property
    def cells(self) -> list[str]:
        """As a row of a table: claim, protocol, printed and own difference, interval, verdict."""
        own = self.comparison
        equal = " (equal)" if own.low == own.difference == own.high == 0 else ""
        weak = f" ({' and '.join(self.below)} below zero-shot)" if self.below else ""
        return [self.sentence, self.tested, signed(self.printed / 100), signed(own.difference), own.interval,
                self.verdict + equal + weak]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        own = self.comparison
        return {
            "first": self.claim.first.name, "second": self.claim.second.name, "metric": self.claim.metric,
            "protocol": self.tested, "dataset": self.dataset, "encoder": self.encoder, "prompts": self.prompts,
            "settings": self.settings, "changes": list(self.changes), "below_zero_shot": list(self.below),
            "seeds": self.seeds, "printed": self.printed / 100, "difference": own.difference, "low": own.low,
            "high": own.high, "verdict": self.verdict,
        }  # fmt: skip


def by_place(statements: Iterable[ShapeStatement]) -> dict[str, list[ShapeStatement]]:
    """Data, encoder, prompts, settings, what differs from them, and seeds in words → statements."""
    found: dict[str, list[ShapeStatement]] = {}
    for one in statements:
        words = [one.dataset, one.encoder, one.prompts, "published settings" if one.settings == "paper" else ""]
        words += one.changes
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
        self._places: dict[tuple[str, str, str, str], list[BenchmarkRun]] = {}
        for run in runs:
            encoder = f"{run.encoder}+{run.clip_encoder}" if run.clip_encoder else run.encoder
            self._places.setdefault((run.dataset, encoder, run.prompts, run.settings), []).append(run)
        for (dataset, encoder, prompts, settings), joined in self._places.items():
            if "+" in encoder:  # rows of CLIP alone are compared with those of both
                joined += self._places.get((dataset, encoder.rpartition("+")[2], prompts, settings), [])

    def __call__(self, paper: str, table: str) -> list[ShapeStatement]:
        """All claims of a table whose rows were run with the same seeds on the same images, per hyper-parameters."""
        found: list[ShapeStatement] = []
        for place, runs in self._places.items():
            claims = (one for one in row_claims(paper, table) if one.difference(place[0]))
            pairs = [pair for claim in claims for pair in pair_rows(runs, claim, place[1])]
            compared = compare_pairs([(pair.first, pair.second) for pair in pairs])
            found += [
                ShapeStatement(pair.claim, *place, pair.seeds, pair.in_points(comparison), pair.changes, pair.below)
                for pair, comparison in zip(pairs, compared, strict=True)
            ]
        return found
