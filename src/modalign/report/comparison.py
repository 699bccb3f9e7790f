"""The page about a comparison: which method is right how often, is that luck, what makes it so, what does it cost."""

from __future__ import annotations

import math
from pathlib import Path

from modalign.errors import InputError, require
from modalign.evaluate.comparison import REFERENCE, Look, MethodComparison, Verdict, title, with_titles
from modalign.evaluate.metrics import Comparison, Interval, percent, proportion
from modalign.evaluate.runs import Shots, Summary, labels_a_class, labels_in_words
from modalign.report.figures import accuracy_over_labels, modality_gap, reliability_diagram
from modalign.report.page import Page
from modalign.report.tables import Cell, Table


def check_page(path: str | Path) -> None:
    """Raise unless a page can be written there; asked before long work, so that its result has a place."""
    require("matplotlib", "plot")
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or not path.resolve().parent.is_dir():
        raise InputError(f"Expected a page name ending in .html in a folder that exists, got '{path}'.")


def save_comparison_page(result: MethodComparison, path: str | Path) -> Path:
    """Write one self-contained HTML page with everything that was found."""
    best, free = result.best, result.standing(0)
    n, images = _tested(result), result.record.get("images", {})
    facts = [(f"{percent(best.accuracy.mean)} %", f"{title(best.method)}, {labels_a_class(best.shots)}")]
    if free and best.shots:
        facts.insert(0, (f"{percent(free[0].accuracy.mean)} %", f"{title(free[0].method)}, no labels"))
    facts += [(str(len(result.methods)), "methods"), (f"{n:,}", "images tested on")]
    page = Page(
        f"{len(result.methods)} methods on {images.get('all', n):,} images",
        result.sentence,
        facts=facts,
        record=_short_record(result),
    )
    seeds = len(result.record.get("seeds", [])) or best.accuracy.n
    page.section(
        "Which method, with how many labels",
        f"{_how_tested(result)} Each number is the mean over {seeds} draws of the labelled images. Whatever a method "
        "chooses it chooses on validation images; no method sees the label of a test image.",
        figure=accuracy_over_labels(with_titles(result.table), width=720, height=430),
        table=_accuracies(result, n),
    )
    _add_verdicts(page, result)
    _add_ablations(page, result)
    if result.looks:
        _add_reliability(page, result.looks[0])
    for look in result.looks:
        _add_gap(page, look)
    page.section(
        "Time and memory",
        "One fit at the most labels, the median over draws, on this machine. Memory is the highest resident size of "
        "the process while fitting and predicting, above that before, by the kernel's account.",
        table=_costs(result),
    )
    _add_missing(page, result)
    return page.save(path)


def _short_record(result: MethodComparison) -> dict[str, object]:
    """What the numbers rest on, without what grows with the number of classes; the JSON has all of it."""
    record = {k: v for k, v in result.record.items() if k not in ("quarantined", "sentences", "classes")}
    if "classes" in result.record:
        record["classes"] = len(result.record["classes"])
    first = result.record.get("sentences", [])[:1]
    return record | ({"first sentence": first[0][0]} if first and first[0] else {})


def _tested(result: MethodComparison) -> int:
    return result.runs[0].accuracy.n


def _how_tested(result: MethodComparison) -> str:
    protocol = result.record.get("protocol", "")
    return f"All methods are {protocol}." if protocol.startswith("tested") else f"Images: {protocol}."


def _accuracies(result: MethodComparison, n: int) -> Table:
    """Methods down, labels across; the best of a column in bold, and a note where it differs from zero-shot."""
    verdicts = {(v.shots, v.first): v for v in result.verdicts if v.kind == "reference"}
    rows: list[list[Cell | str]] = []
    for method in result.methods:
        line: list[Cell | str] = [title(method)]
        for shots in result.shots:
            row = result.at(method, shots)
            if row is None or (row.shots == 0 and shots != 0):
                line.append(Cell("" if row is None else "→"))
                continue
            standing = result.standing(shots)
            strong = len(standing) > 1 and row.accuracy.mean == standing[0].accuracy.mean
            line.append(
                Cell(percent(row.accuracy.mean) + _mark(verdicts.get((shots, method))), _spread(row.accuracy), strong)
            )
        rows.append(line)
    half = percent(_half_width(result.best, n))
    caption = (
        f"Accuracy in percent by labelled images a class, the best of a column in bold. ± is the 95 % interval over "
        f"draws; the {n:,} test images add about ± {half}. ▲ better and ▼ worse than zero-shot, image by image, beyond "
        "luck. → is as without labels: labels do not change this method."
    )
    return Table(["", *map(labels_in_words, result.shots)], rows, caption)


def _mark(verdict: Verdict | None) -> str:
    if verdict is None or not verdict.comparison.significant:
        return ""
    return " ▲" if verdict.comparison.difference > 0 else " ▼"


def _spread(accuracy: Interval) -> str:
    if not math.isfinite(accuracy.half_width):
        return "one run"
    return f"± {percent(accuracy.half_width)}" if accuracy.half_width > 1e-9 else "± 0"


def _half_width(row: Summary, n: int) -> float:
    share = proportion(round(row.accuracy.mean * n), n)
    return (share.high - share.low) / 2


def _add_verdicts(page: Page, result: MethodComparison) -> None:
    """The best against the second at every number of labels, and every method against zero-shot."""
    first = [v for v in result.verdicts if v.kind == "runner-up"]
    if not first:
        return
    rows = [
        [labels_in_words(v.shots), title(v.first), title(v.second), _points(v.comparison), _words(v.comparison)]
        for v in first
    ]
    duel = Table(
        ["", "best", "second", "difference, points", ""],
        rows,
        "Which two these are was seen on the test images, which flatters the best a little.",
    )
    tables = [duel]
    against = [v for v in result.verdicts if v.kind == "reference"]
    if against:
        tables.append(_against_reference(result, against))
    page.section(
        "Is it luck?",
        "Two methods are compared image by image: the interval says how the difference would vary with other test "
        "images. Where luck explains it as well, it says so.",
        table=tables,
    )


def _against_reference(result: MethodComparison, against: list[Verdict]) -> Table:
    found = {(v.first, v.shots): v.comparison for v in against}
    rows: list[list[Cell | str]] = []
    for method in (m for m in result.methods if m != REFERENCE):
        line: list[Cell | str] = [title(method)]
        for shots in result.shots:
            comparison = found.get((method, shots))
            own = result.at(method, shots)
            if comparison is None or own is None or (own.shots == 0 and shots != 0):
                line.append(Cell("" if own is None else "→"))
                continue
            line.append(Cell(_signed(comparison.difference), _range(comparison), strong=comparison.significant))
        rows.append(line)
    return Table(
        [f"against {title(REFERENCE)}", *map(labels_in_words, result.shots)],
        rows,
        "Difference in points with its 95 % interval over test images. In bold what is beyond luck, for all methods of "
        "a column together; for all others there is no significant difference.",
    )


def _add_ablations(page: Page, result: MethodComparison) -> None:
    if not result.ablations:
        return
    rows = [
        [
            title(a.method),
            Cell(a.ingredient, labels_in_words(a.shots)),
            percent(a.accuracy.mean),
            Cell(percent(a.without.mean), _spread(a.without)),
            _points(a.comparison),
            _effect(a.comparison),
        ]
        for a in result.ablations
    ]
    page.section(
        "What really acts",
        "Every method once more with one of its ingredients switched off. Where that changes nothing, the ingredient "
        "does nothing on these images. Random prototypes stand in for the class texts and say nothing about them.",
        table=Table(
            ["", "switched off", "as it is", "without", "difference, points", "the ingredient"],
            rows,
            "Accuracy in percent; the difference is that of the method to itself without the ingredient.",
        ),
    )


def _add_reliability(page: Page, look: Look) -> None:
    page.section(
        "Can its probabilities be believed?",
        f"{title(look.method)}, {labels_a_class(look.shots)}, one draw. Of the answers given with 80 % "
        "confidence, 80 % should be right. "
        + (
            "The temperature that brings this about was fitted on validation images."
            if "calibrated" in look.reliability
            else "Without labels there are no images to fit a temperature on."
        ),
        figure=reliability_diagram(look.reliability),
    )


def _add_gap(page: Page, look: Look) -> None:
    if not look.clouds:
        return
    notes = ["" if (kl := look.gap[when]["kl_pca2"]) is None else f"KL {kl:.2f}" for when in ("before", "after")]
    page.section(
        "Where images and texts lie",
        f"{title(look.method)}, {labels_a_class(look.shots)}, one draw: test images and class texts before "
        "and after its map. A line joins the mean image of a class to its text.",
        figure=modality_gap(look.clouds["before"], look.clouds["after"], labels=look.labels, notes=tuple(notes)),
    )


def _costs(result: MethodComparison) -> Table:
    rows = [
        [
            title(c.method),
            labels_in_words(c.shots),
            f"{c.n_train:,}",
            f"{c.fit_seconds:.2f}",
            f"{1e6 * c.predict_seconds / c.n_test:.0f}",
            "–" if c.peak_bytes is None else f"{c.peak_bytes / 2**20:.0f}",
        ]
        for c in result.costs
    ]
    header = ["", "", "images seen", "fit, seconds", "1,000 images, ms", "memory, MiB"]
    return Table(header, rows)


def _add_missing(page: Page, result: MethodComparison) -> None:
    groups: dict[tuple[str, str], list[Shots | None]] = {}
    for entry in result.left_out:
        groups.setdefault((title(entry.method), entry.reason), []).append(entry.shots)
    rows = [
        [method, ", ".join(dict.fromkeys("always" if k is None else labels_in_words(k) for k in shots)), reason]
        for (method, reason), shots in groups.items()
    ]
    notes = "\n\n".join(f"{note[0].upper()}{note[1:]}." for note in result.notes)
    if rows or notes:
        page.section("What is missing", notes, table=[Table(["", "when", "why"], rows)] if rows else ())


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _range(comparison: Comparison) -> str:
    return f"{_signed(comparison.low)} to {_signed(comparison.high)}"


def _points(comparison: Comparison) -> Cell:
    return Cell(_signed(comparison.difference), _range(comparison))


def _words(comparison: Comparison) -> str:
    return "better, beyond luck" if comparison.significant else "no significant difference"


def _effect(comparison: Comparison) -> str:
    if comparison.significant:
        return "helps" if comparison.difference > 0 else "harms"
    return "no significant difference" if comparison.difference or comparison.high else "changes nothing"
