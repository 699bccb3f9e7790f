"""The pages about a classifier: how well it does, where it errs, whether its probabilities can be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from modalign.classifier import Classifier
from modalign.data.items import Items
from modalign.evaluate.metrics import percent, reliability
from modalign.features import ClassText, Features
from modalign.linalg.prototypes import text_prototypes
from modalign.methods.base import VectorMethod
from modalign.predictions import Evaluation
from modalign.record import versions
from modalign.report.classes import confusion_matrix, per_class_bars
from modalign.report.examples import Example, Examples
from modalign.report.figures import modality_gap, reliability_diagram
from modalign.report.page import Page


def save_confusion(result: Evaluation, path: str | Path) -> Path:
    """Write the confusion matrix as a picture (``.png`` or ``.svg``)."""
    return confusion_matrix(result.confusion, result.class_names).save(path)


def save_evaluation_page(classifier: Classifier, result: Evaluation, path: str | Path) -> Path:
    """Write one self-contained HTML page about a classifier on labelled images."""
    accuracy = result.accuracy
    page = Page(
        f"{classifier.method.title} on {len(result.class_names)} classes",
        f"{percent(accuracy.top1)} % of {accuracy.n:,} images that the model was not fitted on are named right.",
        facts=[
            (f"{percent(accuracy.top1)} %", "top-1 accuracy"),
            (f"{percent(accuracy.low)} to {percent(accuracy.high)}", "95 % interval"),
            (f"{percent(result.calibration_error)} %", "calibration error"),
        ],
        record=record_of(classifier),
    )
    add_mistakes(page, result)
    add_calibration(page, result)
    if result.quarantined:
        listed = "\n\n".join(f"{q.id}: {q.reason}" for q in result.quarantined[:50])
        page.section(f"Left out: {len(result.quarantined)} files that could not be used", listed)
    return page.save(path)


def add_mistakes(page: Page, result: Evaluation) -> None:
    """Confusion matrix and accuracy a class."""
    page.section(
        "Where it errs",
        "Each row holds the images of one class, each column one answer; what is off the diagonal is a mistake. "
        "Beside it the accuracy of every class with its 95 % interval, lowest first.",
        figure=[confusion_matrix(result.confusion, result.class_names), per_class_bars(result.per_class)],
    )


def add_calibration(page: Page, result: Evaluation) -> None:
    """Reliability diagram."""
    page.section(
        "Can its probabilities be believed?",
        "Of the answers given with 80 % confidence, 80 % should be right. The temperature that brings this about was "
        "fitted on validation images, never on the ones shown here.",
        figure=reliability_diagram({"calibrated": reliability(result.probabilities, result.labels)}),
    )


def add_examples(page: Page, result: Evaluation, items: Items, limit: int = 24) -> None:
    """Images and answers, the surest mistakes first, then the least sure right answers."""
    predicted = result.probabilities.argmax(axis=1)
    sure = result.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != result.labels)
    right = np.flatnonzero(predicted == result.labels)
    chosen = [*wrong[np.argsort(-sure[wrong])][: limit // 2], *right[np.argsort(sure[right])]][:limit]
    row_of = {name: i for i, name in enumerate(items.ids)}
    examples = [
        Example(
            items.open(row_of[result.ids[i]]),
            result.class_names[predicted[i]],
            result.class_names[result.labels[i]],
            float(sure[i]),
        )
        for i in chosen
    ]
    page.section(
        "The hardest images",
        "First the mistakes it was surest of, then the right answers it was least sure of.",
        figure=Examples(examples),
    )


def add_modality_gap(page: Page, method: VectorMethod, features: Features, text: ClassText) -> None:
    """Images and class texts before and after a method's map; for methods that have ``transform``."""
    gap = method.diagnosis_["modality_gap"]
    page.section(
        "The modality gap",
        "Image vectors and text vectors of one class lie apart in the encoder's space. How much closer the learned map "
        "brings them is what the two halves show.",
        figure=modality_gap(
            (features.vectors, text_prototypes(torch.from_numpy(text.vectors)).numpy()),
            (method.transform(features), method.prototypes_),
            labels=features.labels,
            notes=tuple("" if (kl := gap[when]["kl_pca2"]) is None else f"KL {kl:.2f}" for when in ("before", "after")),
        ),
    )


def record_of(classifier: Classifier) -> dict[str, object]:
    """What the numbers of a page rest on."""
    return {
        "method": type(classifier.method).__name__,
        "parameters": classifier.method.get_params(deep=False),
        "encoder": f"{classifier.encoder.spec.name} ({classifier.encoder.spec.fingerprint[:12]})",
        "temperature": round(classifier.temperature, 4),
        **{k: v for k, v in classifier.record.items() if k in ("shots", "random_state", "images", "notes")},
        "versions": versions(),
    }
