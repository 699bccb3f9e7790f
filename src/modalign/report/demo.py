"""The page of the demonstration."""

from __future__ import annotations

from pathlib import Path

from modalign.classifier import Classifier
from modalign.data.items import Items
from modalign.demo import Demo
from modalign.evaluate.metrics import percent
from modalign.features import ClassText
from modalign.report.evaluation import add_calibration, add_examples, add_mistakes, add_modality_gap, record_of
from modalign.report.figures import accuracy_over_labels
from modalign.report.page import Page
from modalign.report.tables import accuracy_table


def save_demo_page(demo: Demo, classifier: Classifier, text: ClassText, test: Items, path: str | Path) -> Path:
    """Write the table over seeds, the curve, and a close look at one adapted classifier on its test images."""
    result = classifier.evaluate(test)
    best = max(demo.table, key=lambda row: row.accuracy.mean)
    free = max((row for row in demo.table if not row.shots), key=lambda row: row.accuracy.mean)
    seeds = len({run.seed for run in demo.runs})
    page = Page(
        "Handwritten digits, few labels or none",
        f"{demo.sentence} The encoder was trained on drawings that a program made, never on these digits.",
        facts=[
            (f"{percent(free.accuracy.mean)} %", "without a label"),
            (f"{percent(best.accuracy.mean)} %", f"{best.method}, {best.shots} labels a class"),
            (f"{demo.seconds:.0f} s", "for all of it"),
        ],
        record=record_of(classifier) | {"features": demo.runs[0].features, "seeds": seeds},
    )
    page.section(
        "What a label buys",
        f"Each point is the mean over {seeds} draws of the labelled images; the band is its 95 % interval. Half of the "
        "1,797 digits are set aside and tested on; no method sees their labels, and whatever a method chooses it "
        "chooses on a few validation images.",
        figure=accuracy_over_labels(demo.table),
        table=accuracy_table(demo.table),
    )
    add_mistakes(page, result)
    add_examples(page, result, test)
    add_calibration(page, result)
    features = classifier.encoder.embed_images(test)
    add_modality_gap(page, classifier.method, features, text, classifier.method.prototypes_.cpu().numpy())
    return page.save(path)
