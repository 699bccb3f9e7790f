"""The page of the figures of a classifier, and that of a sweep over a hyper-parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.core.record import versions
from modalign.evaluate.benchmark.parameter_sweep import ParameterSweep
from modalign.evaluate.comparison.findings import title
from modalign.model.classifier import Classifier
from modalign.report.evaluation import record_of
from modalign.report.page import Page
from modalign.report.papers.model_figures import FigureGroup
from modalign.report.papers.sweeps import sweep_curve
from modalign.report.run_tables import Table
from modalign.report.statements import paragraphs
from modalign.report.text import count, fact

SHARED = {
    "protocol": "protocol {}", "labels": "{}", "data set": "data set {}", "tested": "tested part {}", "n": "{} images",
}  # fmt: skip
"""Columns of a sweep that often have one value, and how to say it."""


def save_figures_page(model: Classifier, groups: Sequence[FigureGroup], path: str | Path) -> Path:
    """Write one self-contained HTML page, atomically.

    Parameters
    ----------
    model : Classifier
        What the figures are of.
    groups : sequence of FigureGroup
        What :func:`~modalign.report.papers.model_figures.model_figures` returned.
    path : str or Path
        The page to write.
    """
    images = max((group.images for group in groups), default=0)
    notes = dict.fromkeys(note for group in groups for note in group.notes)
    summary = f"{model.method.title} on {count(images, 'labeled image')}, compared with the frozen encoder."
    page = Page(
        f"Figures of {model.method.title}",
        "\n\n".join(part for part in (summary, paragraphs(list(notes))) if part),
        facts=[(f"{len(model.class_names)}", "classes"), fact(images, "image")],
        record=record_of(model),
    )
    for group in groups:
        page.section(group.heading, group.text, blocks=group.pictures)
    return page.save(path)


def save_sweep_page(sweep: ParameterSweep, path: str | Path) -> Path:
    """Write one self-contained HTML page about a sweep, atomically.

    Parameters
    ----------
    sweep : ParameterSweep
        What :func:`~modalign.evaluate.benchmark.parameter_sweep.sweep_parameter` returned.
    path : str or Path
        The page to write.
    """
    name = title(sweep.method)
    values = {sweep.name: sorted({row.value for row in sweep.rows})}
    if sweep.second:
        values[sweep.second] = sorted({row.other for row in sweep.rows if row.other is not None})
    counted = " and ".join(f"{len(numbers)} values of {parameter}" for parameter, numbers in values.items())
    page = Page(
        f"{name}: {' and '.join(values)}",
        f"Accuracy of {name} at {counted}. They are compared on test images, so the curves describe the method and "
        "choose nothing.",
        record={"method": name, "values": values, "versions": versions()},
    )
    picture = sweep_curve(
        sweep.curves, quantity=sweep.name, unit="accuracy, percent", title=f"Accuracy against {sweep.name}"
    )
    several = any(row.found.accuracy.n > 1 for row in sweep.rows)
    page.section("Accuracy", "Bands are the 95 % intervals of the table." if several else "", blocks=picture)
    costs = [
        sweep_curve(curves, quantity=sweep.name, unit=unit, scale=1, title=f"{what} against {sweep.name}")
        for what, unit, curves in (
            ("Processor time", "processor seconds of a fit", sweep.seconds),
            ("Peak memory", "peak memory, MB", sweep.megabytes),
        )
        if curves
    ]
    page.section("Cost", blocks=costs)
    page.section("Runs", paragraphs(sweep.notes), blocks=_varying(*sweep.table, sweep.legend))
    return page.save(path)


def _varying(header: Sequence[str], rows: Sequence[Sequence[str]], legend: str) -> Table:
    """The table without columns of one value, which the caption has."""
    kept = [i for i, name in enumerate(header) if name not in SHARED or len({row[i] for row in rows}) > 1]
    shared = [SHARED[name].format(rows[0][i]) for i, name in enumerate(header) if i not in kept]
    caption = f"All runs: {', '.join(shared)}." if shared else ""
    cells = [[row[i].replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}") for i in kept] for row in rows]
    return Table([header[i] for i in kept], cells, f"{caption} {legend}".strip())
