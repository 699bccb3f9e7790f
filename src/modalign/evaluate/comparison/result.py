"""Result of a comparison: all runs and the statistics derived from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.display import html_table, shorten_repr, text_table
from modalign.core.errors import InputError
from modalign.core.files import write
from modalign.core.record import plain
from modalign.core.renaming import former_attributes
from modalign.evaluate.comparison.findings import (
    REFERENCE,
    SEPARATOR,
    Ablation,
    Cost,
    LeftOut,
    MethodDiagnostics,
    Verdict,
    left_out_in_words,
    title,
    title_of_run,
)
from modalign.evaluate.metrics import chance_level, interval_legend, percent, proportion
from modalign.evaluate.paired import Comparison, compare_pairs
from modalign.evaluate.runs import (
    Run,
    Shots,
    Summary,
    amount,
    labels_in_words,
    labels_per_class,
    shared_warnings,
    summarize,
)

FORMAT = "modalign-comparison-1"


@former_attributes(looks="diagnostics")
@dataclass(frozen=True)
class MethodComparison:
    """Result of :func:`compare`.

    Attributes
    ----------
    runs : tuple of Run
        All runs; those with a component switched off are named ``method: component``.
    left_out : tuple of LeftOut, default=()
        What was not run, and why.
    notes : tuple of str, default=()
        Notes about the data and the protocol.
    record : dict
        Encoders, counts, seeds, versions, seconds.
    diagnostics : tuple of MethodDiagnostics, default=()
        Diagnostics of the best method, and of the best one that has a map.
    """

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    diagnostics: tuple[MethodDiagnostics, ...] = ()

    def __repr__(self) -> str:
        best = f"best {shorten_repr(self.best.method)} with {labels_in_words(self.best.shots)}: {self.best.accuracy}"
        return f"MethodComparison({len(self.methods)} methods on {self.n_test} test images, {best})"

    def __str__(self) -> str:
        return f"{text_table(self.header, self.rows)}\n\n{self.sentence}"

    def _repr_html_(self) -> str:
        return html_table(self.sentence, self.header, self.rows)

    @cached_property
    def table(self) -> tuple[Summary, ...]:
        """Mean and 95 % interval over seeds for every method and number of labels."""
        return tuple(summarize(run for run in self.runs if SEPARATOR not in run.method))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the table."""
        return tuple(dict.fromkeys(row.method for row in self.table))

    @property
    def shots(self) -> tuple[Shots, ...]:
        """Numbers of labels per class, ascending."""
        return tuple(sorted({row.shots for row in self.table}, key=amount))

    @property
    def best(self) -> Summary:
        """Row with the highest mean accuracy; of equal rows the one with fewer labels."""
        return max(self.table, key=lambda row: (row.accuracy.mean, -amount(row.shots)))

    def at(self, method: str, shots: Shots) -> Summary | None:
        """Row of a method at a number of labels; a method without labels has a single row, at 0."""
        rows = {row.shots: row for row in self.table if row.method == method}
        return rows.get(shots, rows.get(0) if set(rows) == {0} else None)

    def standing(self, shots: Shots) -> list[Summary]:
        """Return all methods applicable with this number of labels, best first."""
        rows = (self.at(method, shots) for method in self.methods)
        return sorted((row for row in rows if row is not None), key=lambda row: -row.accuracy.mean)

    @property
    def n_test(self) -> int:
        """Number of test images; the same for every run."""
        return self.runs[0].accuracy.n

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing one of the classes; None where the record does not name them."""
        classes = self.record.get("classes", ())
        return chance_level(len(classes)) if classes else None

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """At every number of labels, each method against zero-shot, and the best method against the second.

        Predictions are compared per image, averaged over seeds. All comparisons at one number of labels are corrected
        together (:func:`~modalign.evaluate.paired.compare_pairs`). Methods without labels are compared once.
        """
        known: dict[tuple[Summary, Summary], Comparison] = {}
        found: list[Verdict] = []
        for shots in self.shots:
            standing = self.standing(shots)
            references = [row for row in standing if row.method == REFERENCE][:1]
            wanted = [(row, other, "reference") for row in standing for other in references if other != row]
            wanted += [(standing[0], standing[1], "runner-up")] if len(standing) > 1 else []
            known |= self._compared([(a, b) for a, b, _ in wanted], known)
            found += [Verdict(shots, a.method, b.method, kind, known[a, b]) for a, b, kind in wanted]
        return tuple(found)

    @cached_property
    def ablations(self) -> tuple[Ablation, ...]:
        """Every method compared with itself with one component switched off.

        All ablations of one number of labels are corrected together, as the verdicts are."""
        # random text differs per seed, so these runs have other features
        ablated = summarize(replace(run, features="") for run in self.runs if SEPARATOR in run.method)
        found = []
        for shots in dict.fromkeys(row.shots for row in ablated):
            pairs = [
                (full, row)
                for row in ablated
                if row.shots == shots and (full := self.at(row.method.partition(SEPARATOR)[0], shots)) is not None
            ]
            compared = compare_pairs([(self._answers(full), self._answers(row)) for full, row in pairs])
            for (full, row), comparison in zip(pairs, compared, strict=True):
                ingredient = row.method.partition(SEPARATOR)[2]
                found.append(Ablation(full.method, ingredient, shots, full.accuracy, row.accuracy, comparison))
        order = {name: i for i, name in enumerate(self.methods)}
        return tuple(sorted(found, key=lambda a: (order[a.method], amount(a.shots))))

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """Time and memory of every method at its largest number of labels."""
        found = []
        for method in self.methods:
            own = [run for run in self.runs if run.method == method]
            most = max((run.shots for run in own), key=amount)
            own = [run for run in own if run.shots == most]
            peaks = [run.peak_bytes for run in own if run.peak_bytes is not None]
            found.append(
                Cost(
                    method,
                    most,
                    fit_seconds=float(np.median([run.fit_seconds for run in own])),
                    predict_seconds=float(np.median([run.predict_seconds for run in own])),
                    n_train=own[0].n_train,
                    n_unlabeled=own[0].n_unlabeled,
                    n_test=own[0].accuracy.n,
                    peak_bytes=int(np.median(peaks)) if peaks else None,
                )
            )
        return tuple(found)

    @property
    def sentence(self) -> str:
        """Result in words: the most accurate method, chance level, and whether it differs from the second."""
        best = self.best
        parts = [f"{title(best.method)} with {labels_per_class(best.shots)} has the highest accuracy, "
                 f"{percent(best.accuracy.mean)} %."]  # fmt: skip
        if self.chance is not None:
            at_chance = self.test_interval(best)[0] <= self.chance
            parts.append(
                f"This does not differ significantly from chance level, {percent(self.chance)} %."
                if at_chance
                else f"Chance level is {percent(self.chance)} %."
            )
        parts += [v.outcome for v in self.verdicts if v.shots == best.shots and v.kind == "runner-up"]
        return " ".join(parts)

    def test_interval(self, row: Summary) -> tuple[float, float]:
        """95 % interval of a mean accuracy over test images, as if it were the accuracy of one run."""
        share = proportion(round(row.accuracy.mean * self.n_test), self.n_test)
        return share.low, share.high

    @property
    def header(self) -> list[str]:
        """Columns of :attr:`rows`."""
        return ["accuracy, %", *map(labels_in_words, self.shots)]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of the table as text, explained by :attr:`legend`; the last row is chance level."""
        beyond = {(v.first, v.shots): v.comparison for v in self.verdicts if v.kind == "reference"}
        rows = []
        for method in self.methods:
            line = [title(method)]
            for shots in self.shots:
                row, against = self.at(method, shots), beyond.get((method, shots))
                mark = "" if against is None or not against.significant else " +" if against.difference > 0 else " −"
                mean = "" if row is None else percent(row.accuracy.mean)
                same = row is not None and row.accuracy.n > 1 and row.accuracy.half_width < 1e-9
                line.append(f"{mean if same or row is None else row.accuracy}{mark}")
            rows.append(line)
        if self.chance is not None:
            rows.append(["Chance level", *([percent(self.chance)] * len(self.shots))])
        return rows

    @property
    def legend(self) -> str:
        """Meaning of ±, + and − in :attr:`rows`, of those that occur."""
        cells = " ".join(cell for row in self.rows for cell in row[1:])
        has_interval = any(mark in cells for mark in ("±", " to ", "one run"))
        parts = [interval_legend(row.accuracy for row in self.table)] if has_interval else []
        if " +" in cells or " −" in cells:
            parts.append(
                f"+ and − mark what is significantly better or worse than {title(REFERENCE)} on the same test images "
                "(5 % level, corrected for the number of comparisons per column)."
            )
        return " ".join(parts)

    @property
    def remarks(self) -> list[str]:
        """Notes, warnings of methods, and what was left out, one sentence each, with the methods concerned."""
        return [*self.notes, *shared_warnings(self.runs, title_of_run), *left_out_in_words(self.left_out)]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; entries that are derived from the runs are not read back."""
        return {
            "format": FORMAT,
            "sentence": self.sentence,
            "chance": self.chance,
            "table": plain([vars(row) for row in self.table]),
            "verdicts": [plain(asdict(v)) | {"sentence": v.sentence} for v in self.verdicts],
            "ablations": plain([asdict(a) for a in self.ablations]),
            "costs": plain([asdict(c) for c in self.costs]),
            "left_out": [asdict(entry) for entry in self.left_out],
            "notes": list(self.notes),
            "remarks": self.remarks,
            "record": plain(self.record),
            "looks": [entry.as_dict() for entry in self.diagnostics],
            "runs": [json.loads(run.to_json()) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MethodComparison:
        """Restore the result of :meth:`as_dict`, without the point clouds."""
        if content.get("format") != FORMAT:
            raise InputError(f"Expected a comparison of format {FORMAT}, got {content.get('format')!r}.")
        return cls(
            runs=tuple(Run.from_json(json.dumps(run)) for run in content["runs"]),
            left_out=tuple(LeftOut(**entry) for entry in content["left_out"]),
            notes=tuple(content["notes"]),
            record=content["record"],
            diagnostics=tuple(MethodDiagnostics.from_dict(entry) for entry in content["looks"]),
        )

    def save(self, path: str | Path) -> Path:
        """Write :meth:`as_dict` as one JSON file, atomically."""
        return write(path, json.dumps(self.as_dict(), ensure_ascii=False, indent=1))

    def _compared(
        self, pairs: Iterable[tuple[Summary, Summary]], known: Mapping[tuple[Summary, Summary], Comparison]
    ) -> dict[tuple[Summary, Summary], Comparison]:
        """Compare the pairs that are not cached yet, in both directions."""
        new = list({frozenset(pair): pair for pair in pairs if pair not in known}.values())
        compared = compare_pairs([(self._answers(a), self._answers(b)) for a, b in new])
        found: dict[tuple[Summary, Summary], Comparison] = {}
        for (a, b), comparison in zip(new, compared, strict=True):
            found |= {(a, b): comparison, (b, a): comparison.reversed()}
        return found

    def _answers(self, row: Summary) -> np.ndarray:
        """(n,) share of seeds with a correct prediction, per test image."""
        own = [run.correct for run in self.runs if (run.method, run.shots) == (row.method, row.shots)]
        return np.mean(own, axis=0)
