"""Page of a classifier: accuracy, mistakes by class, the hardest images, and calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from modalign.core.errors import UndecodableError
from modalign.core.features import ClassText, Features
from modalign.core.record import versions
from modalign.data.items import Items, load_items
from modalign.evaluate.candidates import HEADER, candidate_rows
from modalign.evaluate.metrics import has_images, percent, reliability
from modalign.evaluate.outcome import outcome_lines
from modalign.linalg.gaussians import modality_gap as measured_gap
from modalign.linalg.prototypes import text_prototypes
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.classifier import Classifier
from modalign.model.predictions import Evaluation
from modalign.report import statements
from modalign.report.confusion import confusion_matrix, mistakes
from modalign.report.examples import Example, Examples
from modalign.report.gap import plot_modality_gap
from modalign.report.page import Page, PageSection
from modalign.report.per_class import per_class_bars
from modalign.report.reliability import FEW, reliability_diagram
from modalign.report.run_tables import Fold, Table
from modalign.report.text import count, without_folders

BARS, PAIRS, REFUSED = 40, 10, 50
"""Classes with a bar, kinds of mistakes, and unusable files that a page lists."""


def save_confusion(result: Evaluation, path: str | Path) -> Path:
    """Write the confusion matrix as a picture (``.png`` or ``.svg``)."""
    return confusion_matrix(result.confusion, result.class_names).save(path)


def save_evaluation_page(classifier: Classifier, result: Evaluation, path: str | Path, images: Any = None) -> Path:
    """Write one self-contained HTML page about a classifier on labeled images.

    Parameters
    ----------
    classifier : Classifier
        The evaluated classifier.
    result : Evaluation
        Result of :meth:`~modalign.Classifier.evaluate`.
    path : str or Path
        The page to write.
    images : object, default=None
        The images that were passed to ``evaluate``, to show the hardest ones. Without them the page has no photos.

    Raises
    ------
    InputError
        If the page cannot be written.
    """
    accuracy, known = result.accuracy, _known(classifier, result)
    keeps = _keeps_answers(classifier)  # then the notes of the result count the images of the fit
    summary = (
        f"{statements.share_right(accuracy.top1, accuracy.n)}."
        if keeps
        else statements.headline(accuracy.top1, accuracy.n, *known)
    )
    if n := len(result.left_out):
        were = "was" if n == 1 else "were"
        summary += f" {count(n, 'image')} that it was fitted on or validated with {were} left out."
    page = Page(
        f"{classifier.method.title} on {count(len(result.class_names), 'class', 'classes')}",
        summary,
        facts=[
            (f"{percent(accuracy.top1)} %", "accuracy (top-1)"),
            (f"{percent(accuracy.low)} to {percent(accuracy.high)}", "95 % interval"),
            (f"{percent(result.chance)} %", "chance level"),
            (f"{percent(result.calibration_error)} %", "calibration error"),
        ],
        record=record_of(classifier),
    )
    add_mistakes(page, result)
    if images is not None:
        add_examples(page, result, load_items(images))
    add_calibration(page, classifier, result)
    _add_outcome(page, classifier)
    _add_notes(page, result)
    return page.save(path)


def fitted_images_note(classifier: Classifier, result: Evaluation) -> str:
    """Return a sentence if the model was, or may have been, fitted on or validated with tested images; else empty."""
    known = _known(classifier, result)
    if known in ((0, 0), (0, None)) or _keeps_answers(classifier):
        return ""
    return statements.headline(result.accuracy.top1, result.accuracy.n, *known)


def add_mistakes(page: Page, result: Evaluation) -> None:
    """Confusion matrix, accuracy per class, and the most frequent mistakes."""
    names = result.class_names
    empty = sum(row.n == 0 for row in result.per_class)
    text = (
        "In the confusion matrix each row holds the images of one class and each column one answer: blue cells are "
        "right answers, red cells mistakes. The stronger the color, the larger the share of the row. "
        f"{statements.chance(result.chance, len(names))}"
    )
    if empty:
        text += f" {count(empty, 'class has', 'classes have')} no image here."
    blocks: list[PageSection] = [
        confusion_matrix(result.confusion, names),
        per_class_bars(result.per_class, chance=result.chance, limit=BARS),
    ]
    if pairs := mistakes(result.confusion):
        blocks.append(_mistake_table(result, pairs))
    if len(names) - empty > BARS:
        blocks.append(_all_classes(result))
    page.section("Mistakes by class", text, blocks=blocks)


def add_calibration(page: Page, classifier: Classifier, result: Evaluation) -> None:
    """Reliability diagram, and the images that the temperature was fitted on."""
    calibrated = classifier.record.get("calibrated")
    how = classifier.record.get("validation", {}).get("how") or "validation images"
    source = statements.temperature_source(calibrated, how, _calibrated_with(classifier, result, how))
    page.section(
        "Calibration",
        statements.calibration(source, FEW),
        blocks=reliability_diagram(
            {"calibrated" if calibrated else "uncalibrated": reliability(result.probabilities, result.labels)},
            chance=result.chance,
        ),
    )


def add_examples(page: Page, result: Evaluation, items: Items, limit: int = 24) -> None:
    """Images and answers: the most confident mistakes, then the least confident right answers.

    Images that cannot be read any more are skipped.
    """
    predicted = result.probabilities.argmax(axis=1)
    sure = result.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != result.labels)
    right = np.flatnonzero(predicted == result.labels)
    row_of = {name: i for i, name in enumerate(items.ids)}

    def take(candidates: np.ndarray, most: int) -> list[Example]:
        found: list[Example] = []
        for i in candidates:
            if len(found) == most:
                break
            name, truth = (result.class_names[k] for k in (predicted[i], result.labels[i]))
            try:
                image = items.open(row_of[result.ids[i]])
            except (KeyError, UndecodableError):
                continue
            image.thumbnail((512, 512))  # the whole image is not kept
            found.append(Example(image, name, truth, float(sure[i]), without_folders(result.ids[i])))
        return found

    errors = take(wrong[np.argsort(-sure[wrong], kind="stable")], limit // 2)
    unsure = take(right[np.argsort(sure[right], kind="stable")], limit - len(errors))
    parts = [f"the {count(len(errors), 'mistake')} with the highest probability"] if errors else []
    parts += [f"the {count(len(unsure), 'right answer')} with the lowest"] if unsure else []
    if not parts:
        return
    text = f"{', then '.join(parts)}. Under each image: the answer, its probability, and the true class if it differs."
    page.section("The hardest images", text[0].upper() + text[1:], blocks=Examples([*errors, *unsure]))


def add_modality_gap(page: Page, method: VectorMethod, features: Features, text: ClassText) -> None:
    """Images and class texts before and after a method's map; for methods that have ``transform``."""
    before = (torch.tensor(features.vectors), text_prototypes(torch.tensor(text.vectors)))
    after = (torch.tensor(method.transform(features)), method.prototypes_.cpu())
    page.section(
        "Modality gap",
        f"{count(len(features), 'image')} and the class texts before and after the map of {method.title}. A line joins "
        "the mean image of a class to its text. "
        + statements.gap_change(*(vars(measured_gap(*pair)) for pair in (before, after))),
        blocks=plot_modality_gap(before, after, labels=features.labels),
    )


def _add_outcome(page: Page, classifier: Classifier) -> None:
    """Outcome of the fit on held-out images, compared with zero-shot and chance, and its notes."""
    outcome = classifier.record.get("outcome")
    lines = [] if outcome is None else [*outcome_lines(outcome), *outcome["notes"]]
    if text := statements.paragraphs([*lines, *classifier.record.get("notes", ())]):
        page.section("When the model was fitted", text, blocks=_candidates(classifier))


def _candidates(classifier: Classifier) -> list[PageSection]:
    """Table of the candidates of the automatic choice."""
    rows = candidate_rows(classifier.record.get("candidates", ()))
    caption = (
        "Accuracy and log-loss are those of held-out predictions. The model is the weighted mean of the "
        "log-probabilities of the candidates. A dash marks a candidate that was not finished in time."
    )
    return [Fold(f"{len(rows)} candidates", [Table(HEADER, rows, caption)])] if rows else []


def record_of(classifier: Classifier) -> dict[str, object]:
    """Return the record for the foot of a page."""
    given = classifier.method.get_params(deep=False)
    record = {k: v for k, v in classifier.record.items() if k in ("shots", "random_state", "images")}
    if record.get("shots", "") is None:
        record["shots"] = "all"
    return {
        "method": classifier.method.title,
        "parameters": {k: without_folders(v) if isinstance(v, str) else v for k, v in given.items()},
        "encoder": f"{classifier.encoder.spec.name} ({classifier.encoder.spec.fingerprint[:12]})",
        "temperature": round(classifier.temperature, 4),
        **record,
        "versions": versions(),
    }


def _known(classifier: Classifier, result: Evaluation) -> tuple[int | None, int | None]:
    """Numbers of tested images that the model was fitted on and validated with, as far as recorded."""
    if not classifier.fitted_on:
        return None, None
    return len(result.fitted), None if result.validated is None else len(result.validated)


def _keeps_answers(classifier: Classifier) -> bool:
    """Whether the model was fitted without labels and recognizes the images that it was fitted on."""
    return not classifier.fitted_on and hasattr(classifier.method, "fitted_answers_")


def _calibrated_with(classifier: Classifier, result: Evaluation, how: str) -> int | None:
    """Number of tested images that the temperature was fitted on, as far as recorded."""
    fitted, validated = _known(classifier, result)
    if fitted is None or (validated is None and fitted):
        return None
    return (validated or 0) + (fitted if "cross-fitting" in how else 0)


def _mistake_table(result: Evaluation, pairs: list[tuple[int, int]]) -> Table:
    totals, names = result.confusion.sum(axis=1), result.class_names
    rows = [
        [names[i], names[j], f"{result.confusion[i, j]:,}", f"{percent(result.confusion[i, j] / totals[i])} %"]
        for i, j in pairs[:PAIRS]
    ]
    hidden = len(pairs) - len(rows)
    return Table(
        ["true class", "answer", "images", "share of the class"],
        rows,
        f"{count(hidden, 'more kind')} of mistakes not listed." if hidden else "",
        title="Most frequent mistakes",
    )


def _all_classes(result: Evaluation) -> Fold:
    ordered = sorted((row for row in result.per_class if has_images(row)), key=lambda row: (row.accuracy, row.name))
    rows = [
        [row.name, f"{row.n:,}", percent(row.accuracy), f"{percent(row.low)} to {percent(row.high)}"] for row in ordered
    ]
    header = ["class", "images", "accuracy, %", "95 % interval"]
    table = Table(header, rows, foot=[["Chance level", "", percent(result.chance), ""]])
    return Fold(f"Accuracy of all {len(rows):,} classes", [table])


def _add_notes(page: Page, result: Evaluation) -> None:
    """Notes on the images, and files that could not be used."""
    n = len(result.quarantined)
    rows = [[without_folders(q.id), without_folders(q.reason)] for q in result.quarantined[:REFUSED]]
    hidden = f"{count(n - REFUSED, 'more file')} not listed." if n > REFUSED else ""
    table = Table(["file", "reason"], rows, hidden, title=f"{count(n, 'file')} that could not be used")
    notes = statements.paragraphs(result.notes)
    if n or notes:
        page.section("Notes on the images", notes, blocks=[table] if n else ())
