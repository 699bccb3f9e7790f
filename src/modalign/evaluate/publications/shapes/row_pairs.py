"""Answers of the two rows of a claim on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from modalign.data.digit_shifts import DIGIT_SHIFTS, shown_digits
from modalign.evaluate.benchmark.benchmark_records import BenchmarkRun
from modalign.evaluate.comparison.findings import REFERENCE
from modalign.evaluate.paired import Comparison
from modalign.evaluate.publications.bench_commands import assignment, encoder_parts
from modalign.evaluate.publications.paper_settings import paper_settings
from modalign.evaluate.publications.printed_methods import switches
from modalign.evaluate.publications.shapes.row_claims import PARTS, SOURCE, TARGETS, RowClaim, TableRow
from modalign.methods import method_class
from modalign.methods.contract.parameters import parameters

_Tested = tuple[int, tuple[str, ...]]  # seed, fingerprints of the test images
_OF_A_RUN = {"random_state", "structures", "spaces"}  # hyper-parameters that differ between runs of one row


@dataclass(frozen=True, eq=False)
class RowPair:
    """Two rows on the same images.

    Attributes
    ----------
    claim : RowClaim
        About the rows.
    first, second : ndarray of shape (n,)
        Share of seeds with a right answer; of an average over targets, the weighted sum of these shares over the
        targets that show the image, divided by ``scale``.
    seeds : int
        Of both rows.
    scale : float
        Means of ``first`` and ``second`` times this are accuracies.
    changes : tuple of str
        Hyper-parameters of the rows that differ from the settings, such as ``"fair.epochs=2"``.
    below : tuple of str
        Names of the rows that are less accurate than zero-shot, where that was run too.
    """

    claim: RowClaim
    first: np.ndarray
    second: np.ndarray
    seeds: int
    scale: float
    changes: tuple[str, ...]
    below: tuple[str, ...]

    def in_points(self, comparison: Comparison) -> Comparison:
        """The comparison of ``first`` and ``second`` as one of accuracies."""
        low, high = (max(-1.0, min(1.0, end * self.scale)) for end in (comparison.low, comparison.high))
        return replace(comparison, difference=comparison.difference * self.scale, low=low, high=high)


class _Answers(NamedTuple):
    """(n,) right answers in 0…1, and what their mean is multiplied by."""

    right: np.ndarray
    scale: float


def pair_rows(runs: list[BenchmarkRun], claim: RowClaim, encoder: str) -> list[RowPair]:
    """The runs of both rows with an encoder, or with the parts of ``"vision+clip"``, a pair per other hyper-parameters.

    Rows of an ablation learn from equally many unlabeled images: as many as printed, or else all.
    """
    if not (claim.first.runs_on(encoder) and claim.second.runs_on(encoder)):
        return []
    if "+" in encoder and claim.first.images == "one":
        return []  # it is one of CLIP alone
    if claim.first.per_class != claim.second.per_class or claim.first.per_class is None:
        return _pairs_of(runs, claim, encoder)
    first, second = (replace(row, per_class=None) for row in (claim.first, claim.second))
    whole = replace(claim, first=first, second=second, whole=True)
    as_printed = _pairs_of(runs, claim, encoder)
    known = {pair.changes for pair in as_printed}
    return as_printed + [pair for pair in _pairs_of(runs, whole, encoder) if pair.changes not in known]


def _pairs_of(runs: list[BenchmarkRun], claim: RowClaim, encoder: str) -> list[RowPair]:
    ones, others = (_by_changes(_of_encoders(runs, row, encoder), row) for row in (claim.first, claim.second))
    ablation = claim.first.method == claim.second.method  # all else is equal
    zero_shot = _zero_shot(runs, claim, encoder)
    found = []
    for (of_one, one), (of_other, other) in product(ones.items(), others.items()):
        if ablation and of_one != of_other:
            continue
        first, second = (_answers(own, claim.metric) for own in (one, other))
        if seeds := [key for key in first if key in second]:
            a, b = (np.mean([side[key].right for key in seeds], axis=0) for side in (first, second))
            changes = tuple(dict.fromkeys(of_one + of_other))
            usual = np.mean([zero_shot[key].right for key in seeds]) if all(key in zero_shot for key in seeds) else 0.0
            below = tuple(row.name for row, own in ((claim.first, a), (claim.second, b)) if own.mean() < usual)
            found.append(RowPair(claim, a, b, len(seeds), first[seeds[0]].scale, changes, below))
    return found


def _zero_shot(runs: list[BenchmarkRun], claim: RowClaim, encoder: str) -> dict[_Tested, _Answers]:
    """Zero-shot answers on what a claim compares."""
    row = replace(claim.first, method=REFERENCE, changes=(), shots=0, per_class=None, images="clip")
    return _answers([run for run in _of_encoders(runs, row, encoder) if _is_of(run, row)], claim.metric)


def _of_encoders(runs: list[BenchmarkRun], row: TableRow, encoder: str) -> list[BenchmarkRun]:
    """The runs with the vectors that a row uses; methods in one space use those of the class text."""
    known = {encoder_parts(encoder, row.images)}
    if not method_class(row.method).takes_clip_features:
        known.add(encoder_parts(encoder, "clip"))
    return [run for run in runs if "+" not in encoder or (run.encoder, run.clip_encoder) in known]


def _by_changes(runs: list[BenchmarkRun], row: TableRow) -> dict[tuple[str, ...], list[BenchmarkRun]]:
    """The runs of a row by what no row of a table changes and yet differs from their settings, as in ``--set``."""
    changed = {*switches(row.method), *_OF_A_RUN}
    found: dict[tuple[str, ...], list[BenchmarkRun]] = {}
    for run in runs:
        if not _is_of(run, row):
            continue
        wanted, own = _settings(run, row), run.run.parameters
        if any(own.get(name) != wanted[name] for name in switches(row.method)):
            continue
        told = [assignment(row.method, *entry) for entry in own.items() if entry[0] not in changed]
        usual = {assignment(row.method, *entry) for entry in wanted.items()}
        found.setdefault(tuple(one for one in told if one not in usual), []).append(run)
    return found


def _answers(runs: list[BenchmarkRun], compared: str) -> dict[_Tested, _Answers]:
    """Right answers on the parts that a claim compares."""
    by_seed: dict[int, dict[str, BenchmarkRun]] = {}
    for run in runs:
        by_seed.setdefault(run.run.seed, {})[run.part] = run
    targets = tuple(sorted({run.part for run in runs if run.part != run.dataset}))
    if compared == TARGETS and len(targets) < 2:
        return {}
    parts = {SOURCE: tuple({run.dataset for run in runs}), TARGETS: targets, **PARTS}.get(compared, (compared,))
    joined = _average if compared == TARGETS else _concatenated
    return {
        (seed, tuple(own[part].run.test for part in parts)): joined([own[part] for part in parts])
        for seed, own in by_seed.items()
        if all(part in own and len(own[part].run.correct) for part in parts)
    }


def _concatenated(runs: Sequence[BenchmarkRun]) -> _Answers:
    return _Answers(np.concatenate([run.run.correct for run in runs]), 1.0)


def _average(runs: Sequence[BenchmarkRun]) -> _Answers:
    """Answers whose mean is the average of the accuracies, with an entry per image, or per digit that variants show.

    An image of a target of n has the weight N / (T n), for T targets with N images together.
    """
    shown = [_images(run, number) for number, run in enumerate(runs)]
    images, place = np.unique(np.concatenate(shown), return_inverse=True)
    weights = np.concatenate([np.full(len(one), len(images) / (len(runs) * len(one))) for one in shown])
    correct = np.concatenate([run.run.correct for run in runs])
    scale = float(np.bincount(place, weights).max())
    return _Answers(np.minimum(np.bincount(place, weights * correct) / scale, 1.0), scale)


def _images(run: BenchmarkRun, number: int) -> np.ndarray:
    """(n, ) names of the images of a target; variants of the digits that show the same digit share one."""
    if run.part in DIGIT_SHIFTS and len(own := shown_digits(run.part)) == len(run.run.correct):
        return np.array([f"digit {row}" for row in own])
    return np.array([f"{number}/{row}" for row in range(len(run.run.correct))])


def _is_of(run: BenchmarkRun, row: TableRow) -> bool:
    """Whether a run is one of a row, whatever its hyper-parameters."""
    own = (run.run.method, run.protocol, run.run.shots, run.imbalance, run.per_class)
    return own == (row.method, row.protocol, row.shots, row.imbalance, row.per_class)


def _settings(run: BenchmarkRun, row: TableRow) -> dict[str, Any]:
    """The hyper-parameters of a row by the settings of a run."""
    wanted: dict[str, Any] = {p.name: p.default for p in parameters(method_class(row.method))}
    if run.settings == "paper":
        number = run.run.shots if isinstance(run.run.shots, int) else None
        wanted |= paper_settings(row.method, run.dataset, protocol=run.protocol, shots=number).parameters
    return wanted | dict(row.changes)
