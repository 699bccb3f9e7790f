"""Page of a comparison: accuracy of the methods, significant differences, and cost."""

from __future__ import annotations

from pathlib import Path

from modalign.evaluate.comparison.findings import MethodDiagnostics, title, with_titles
from modalign.evaluate.comparison.result import MethodComparison
from modalign.evaluate.metrics import percent
from modalign.evaluate.runs import Shots, labels_in_words, labels_per_class
from modalign.report import statements
from modalign.report.comparison_tables import ablation_blocks, accuracies, against_reference, best_and_second, costs
from modalign.report.curves import accuracy_over_labels, draws_intervals
from modalign.report.gap import plot_modality_gap
from modalign.report.page import Page
from modalign.report.reliability import FEW, reliability_diagram
from modalign.report.run_tables import Table
from modalign.report.text import count, without_folders

TOGETHER = "comparisons at the same number of labels"


def save_comparison_page(result: MethodComparison, path: str | Path) -> Path:
    """Write one self-contained HTML page with all results."""
    best, free = result.best, result.standing(0)
    images = result.record.get("images", {}).get("all", result.n_test)
    facts = [(f"{percent(best.accuracy.mean)} %", f"{title(best.method)}, {labels_per_class(best.shots)}")]
    if free and best.shots:
        facts.insert(0, (f"{percent(free[0].accuracy.mean)} %", f"{title(free[0].method)}, no labels"))
    if result.chance is not None:
        facts.append((f"{percent(result.chance)} %", "chance level"))
    facts += [(f"{len(result.methods)}", "methods"), (f"{result.n_test:,}", "test images")]
    page = Page(
        f"{count(len(result.methods), 'method')} on {count(images, 'image')}",
        result.sentence,
        facts=facts,
        record=_short_record(result),
    )
    _add_accuracies(page, result)
    _add_verdicts(page, result)
    _add_ablations(page, result)
    if result.diagnostics:
        _add_reliability(page, result, result.diagnostics[0])
    for entry in result.diagnostics:
        _add_gap(page, entry)
    page.section(
        "Time and memory",
        "One fit at the most labels, the median over draws, on the machine that ran the comparison. Memory is the peak "
        "resident size of the process while fitting and predicting, less its size before.",
        blocks=costs(result),
    )
    _add_missing(page, result)
    return page.save(path)


def _short_record(result: MethodComparison) -> dict[str, object]:
    """Return the record without entries that grow with the number of classes; the JSON has all of it."""
    record = {k: v for k, v in result.record.items() if k not in ("quarantined", "sentences", "classes")}
    if "classes" in result.record:
        record["classes"] = len(result.record["classes"])
    first = result.record.get("sentences", [])[:1]
    return record | ({"first prompt": first[0][0]} if first and first[0] else {})


def _add_accuracies(page: Page, result: MethodComparison) -> None:
    labeled = [run for run in result.runs if run.shots]
    draws = len({run.seed for run in labeled})
    protocol = without_folders(result.record.get("protocol", "")).removeprefix("tested on ")
    text = [f"All methods are tested on the same {count(result.n_test, 'image')}{protocol and f' ({protocol})'}."]
    if draws > 1:
        text.append(f"Each number is the mean over up to {draws} draws of the labeled images.")
    if labeled and all(run.n_validation for run in labeled):
        text.append("Methods make all choices on validation images, which are neither trained nor tested on.")
    if any("transductive" in run.protocol for run in result.runs):
        text.append("Methods without labels adapt to the test images themselves, without their labels.")
    if draws_intervals(result.table):
        text.append("Bands and bars in the figure are 95 % intervals over these draws.")
    page.section(
        "Accuracy",
        " ".join(text),
        blocks=[
            accuracy_over_labels(with_titles(result.table), chance=result.chance, width=720, height=430),
            accuracies(result),
        ],
    )


def _add_verdicts(page: Page, result: MethodComparison) -> None:
    if not result.verdicts:
        return
    tables = [table for table in (against_reference(result), best_and_second(result)) if table is not None]
    page.section("Significant differences", statements.significance(TOGETHER), blocks=tables)


def _add_ablations(page: Page, result: MethodComparison) -> None:
    if not result.ablations:
        return
    changed = sum(a.comparison.significant for a in result.ablations)
    page.section(
        "Ablations",
        "Each method is run again with one of its components switched off, without labels and at the greatest number "
        "of labels. Random prototypes are random directions in place of the class texts. "
        f"{changed:,} of {count(len(result.ablations), 'ablation')} "
        f"{'changes' if changed == 1 else 'change'} the accuracy significantly.\n\n"
        + statements.significance("ablations at the same number of labels"),
        blocks=ablation_blocks(result),
    )


def _add_reliability(page: Page, result: MethodComparison, diagnostics: MethodDiagnostics) -> None:
    n = sum(b.n for b in next(iter(diagnostics.reliability.values())))
    where = "the test images" if n == result.n_test else f"the {n:,} test images of the fitted classes"
    source = statements.temperature_source("calibrated" in diagnostics.reliability, "validation images", 0)
    page.section(
        "Calibration",
        f"{title(diagnostics.method)}, {labels_per_class(diagnostics.shots)}, one draw, on {where}. "
        + statements.calibration(source, FEW),
        blocks=reliability_diagram(diagnostics.reliability, chance=result.chance),
    )


def _add_gap(page: Page, diagnostics: MethodDiagnostics) -> None:
    if not diagnostics.clouds:
        return
    page.section(
        "Modality gap",
        f"{title(diagnostics.method)}, {labels_per_class(diagnostics.shots)}, one draw: test images and class texts "
        "before and after its map. A line joins the mean image of a class to its text. "
        + statements.gap_change(diagnostics.gap["before"], diagnostics.gap["after"]),
        blocks=plot_modality_gap(diagnostics.clouds["before"], diagnostics.clouds["after"], labels=diagnostics.labels),
    )


def _add_missing(page: Page, result: MethodComparison) -> None:
    groups: dict[tuple[str, str], list[Shots | None]] = {}
    for entry in result.left_out:
        groups.setdefault((title(entry.method), without_folders(entry.reason)), []).append(entry.shots)
    rows = [
        [
            method,
            ", ".join(dict.fromkeys("any number" if k is None else labels_in_words(k) for k in shots)),
            reason,
        ]
        for (method, reason), shots in groups.items()
    ]
    notes = statements.paragraphs(result.notes)
    if rows or notes:
        table = Table(["method", "labels per class", "reason"], rows, title="Not run")
        page.section("Notes", notes, blocks=[table] if rows else ())
