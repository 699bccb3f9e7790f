"""Page of a multi-label classifier: metrics per class, and the images with wrong sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modalign.core.record import versions
from modalign.data.items import Items
from modalign.evaluate.metrics import percent
from modalign.evaluate.multi_label_metrics import MultiLabelScores, Share
from modalign.model.multi_label.multi_label_answers import MultiLabelEvaluation
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.report.page import Page
from modalign.report.photos.photo_groups import PhotoGroups, photo_group
from modalign.report.run_tables import Table, TableCell
from modalign.report.statements import paragraphs
from modalign.report.text import count

SHOWN = 24  # images with a wrong set


def save_multi_label_page(
    classifier: MultiLabelClassifier, result: MultiLabelEvaluation, path: str | Path, items: Items | None = None
) -> Path:
    """Write one self-contained HTML page about a multi-label classifier on labeled images.

    Parameters
    ----------
    classifier : MultiLabelClassifier
        The evaluated classifier.
    result : MultiLabelEvaluation
        Result of its ``evaluate``.
    path : str or Path
        The page to write.
    items : Items or None, default=None
        The images, whose photos are then shown.
    """
    scores, names = result.scores, classifier.class_names
    page = Page(
        f"{classifier.model.method.title} on {count(len(names), 'class', 'classes')}, several per image",
        f"{_exact(scores)} Average precision measures how well images that show a class are ranked before others; F1 "
        "measures the answers at the threshold of the class.",
        facts=[
            (f"{percent(share.value)} %", f"{name} ({percent(share.low)} to {percent(share.high)})")
            for name, share in scores.totals.items()
            if share is not None
        ],
        record=record_of_sets(classifier),
    )
    rows: list[list[TableCell | str]] = [
        [row.name, f"{row.positives:,}", _cell(row.average_precision), _cell(row.f1), f"{threshold:.2f}"]
        for row, threshold in zip(scores.per_class, classifier.model.thresholds, strict=True)
    ]
    caption = (
        "Small numbers: 95 % interval over bootstrap draws of the images. The threshold has the highest F1 on "
        "out-of-fold predictions of the training images."
    )
    if few := len(classifier.record.get("uncalibrated", ())):
        caption += f" {count(few, 'class has', 'classes have')} too few labels for one."
    header = ["class", "images", "average precision, %", "F1, %", "threshold"]
    page.section("Classes", blocks=Table(header, rows, caption))
    wrong = result.wrong_sets()
    if wrong and items is not None:
        hidden = len(wrong) - SHOWN
        more = f" {hidden:,} more are not shown." if hidden > 0 else ""
        groups = [photo_group(items, [name], _difference(missed, extra)) for name, missed, extra in wrong[:SHOWN]]
        page.section(
            f"Images with a wrong set: {len(wrong):,}", f"The most wrong come first.{more}", blocks=PhotoGroups(groups)
        )
    if notes := paragraphs(result.notes):
        page.section("Notes", notes)
    return page.save(path)


def _exact(scores: MultiLabelScores) -> str:
    """Return how many sets are exactly right, as a sentence."""
    if scores.exact is None:
        return "No image has a known label for every class, so that exactly right sets cannot be counted."
    return f"The set of classes is exactly right for {percent(scores.exact.value)} % of {count(scores.n, 'image')}."


def _cell(share: Share | None) -> TableCell:
    if share is None:
        return TableCell("–")
    return TableCell(percent(share.value), f"{percent(share.low)} to {percent(share.high)}")


def _difference(missed: Sequence[str], extra: Sequence[str]) -> str:
    """Return the mistakes in a set, as text."""
    parts = [f"missed: {', '.join(missed)}"] if missed else []
    parts += [f"wrongly: {', '.join(extra)}"] if extra else []
    return "; ".join(parts)


def record_of_sets(classifier: MultiLabelClassifier) -> dict[str, object]:
    """The settings and versions behind the numbers of a page."""
    return {
        **{name: classifier.record.get(name) for name in ("method", "random_state", "images", "quality")},
        "encoder": f"{classifier.encoder.spec.name} ({classifier.encoder.spec.fingerprint[:12]})",
        "versions": versions(),
    }
