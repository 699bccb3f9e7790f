"""``predict`` and ``evaluate``: what a saved model answers, and how often it is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.options import AsJson, Source, app
from modalign.cli.terminal import print_json, print_table, report_quarantine, say
from modalign.errors import InputError

if TYPE_CHECKING:
    from modalign.classifier import Classifier


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder written by fit.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or one folder, list or archive.")],
    top: Annotated[int, typer.Option(min=1, max=5, help="How many answers an image.")] = 1,
    reject: Annotated[
        float | None,
        typer.Option(help="Answer 'none of these' too; the share of known images that may be refused, such as 0.05."),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Where the encoder is now, if it has moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Name new images, with calibrated probabilities."""
    from modalign.data.items import load_items

    source = images[0] if len(images) == 1 and not _is_image(images[0]) else images
    items = load_items(source)
    predictions = _load_classifier(model, encoder).predict(items, reject=False if reject is None else reject)
    if as_json:
        print_json(
            {
                "predictions": [
                    {"id": p.id, "name": p.name, "probability": p.probability, "top": dict(p.top[:top])}
                    | ({} if reject is None else {"rejected": p.rejected})
                    for p in predictions
                ],
                "quarantined": [vars(q) for q in predictions.quarantined],
            }
        )
        return
    answers = [", ".join(f"{name} {100 * value:.1f} %" for name, value in p.top[:top]) for p in predictions]
    rows = [[p.id, f"{p.name} ({a})" if p.rejected else a] for p, a in zip(predictions, answers, strict=True)]
    print_table(["image", "answer"], rows)
    report_quarantine(predictions.quarantined)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A folder written by fit.")],
    source: Source,
    confusion: Annotated[Path | None, typer.Option(help="Confusion matrix picture (.png or .svg).")] = None,
    page: Annotated[Path | None, typer.Option(help="One HTML page with everything.")] = None,
    include_fitted: Annotated[bool, typer.Option(help="Keep images that the model was fitted on.")] = False,
    encoder: Annotated[str | None, typer.Option(help="Where the encoder is now, if it has moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Top-1 accuracy with a 95 % interval, accuracy a class, and the confusion matrix as a picture."""
    from modalign.data.items import load_items
    from modalign.report.evaluation import save_confusion, save_evaluation_page

    items = load_items(source)
    classifier = _load_classifier(model, encoder)
    result = classifier.evaluate(items, include_fitted=include_fitted)
    picture = save_confusion(result, confusion or Path(f"{model.resolve().name}-confusion.png"))
    if page is not None:
        save_evaluation_page(classifier, result, page)
    if as_json:
        print_json(
            {
                "top1": result.accuracy.top1,
                "interval": [result.accuracy.low, result.accuracy.high],
                "n": result.accuracy.n,
                "calibration_error": result.calibration_error,
                "per_class": [vars(c) for c in result.per_class],
                "confusion": result.confusion.tolist(),
                "classes": list(result.class_names),
                "picture": str(picture),
                "left_out": len(result.left_out),
                "notes": list(result.notes),
                "quarantined": [vars(q) for q in result.quarantined],
            }
        )
        return
    print_table(
        ["class", "images", "accuracy"],
        [[c.name, str(c.n), f"{100 * c.accuracy:.1f} %" if c.n else "–"] for c in result.per_class],
    )
    say("", f"top-1 accuracy: {result.accuracy}", err=False)
    say(f"calibration error: {100 * result.calibration_error:.1f} %", f"confusion matrix: {picture}", err=False)
    for note in result.notes:
        say(f"note: {note}")
    if result.left_out:
        say(f"note: left out {len(result.left_out)} images that the model was fitted on")
    report_quarantine(result.quarantined)


def _load_classifier(folder: Path, encoder: str | None) -> Classifier:
    from modalign.classifier import Classifier, load

    model = load(folder, encoder=encoder)
    if not isinstance(model, Classifier):
        raise InputError(f"Expected a classifier in '{folder}', got a bare method; it knows no encoder for images.")
    return model


def _is_image(path: Path) -> bool:
    from modalign.data.items import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES
