"""``convert``: labels, or the answers of a model, in the form of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.options import ModelEncoder, command
from modalign.cli.terminal import print_lines, report_quarantine
from modalign.core.card_names import MULTI_LABEL, holds
from modalign.core.display import n_images


@command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="Images: a folder, CSV, list, zip, tar, or an export of another program.")
    ],
    format: Annotated[
        str,
        typer.Argument(help="coco, label_studio, parquet, webdataset, fiftyone, roboflow, imagefolder or yolo."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The .json, .parquet or .tar file, or the new folder, to write.")
    ],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A folder written by fit, whose answers replace the labels.")
    ] = None,
    encoder: ModelEncoder = None,
) -> None:
    """Write labels, or the answers of a model, in the form of another program."""
    from modalign.data.interchange.writing_labels import check_conversion, convert_labels, load_to_convert

    check_conversion(format, out)
    if model is None:
        refuse_unused("with --model", "encoder")
        labeled = load_to_convert(source)
        print_lines(f"written: {convert_labels(labeled, format, out)}, {_counts(labeled)}", err=False)
        return
    images, answers = _answers(source, model, encoder)
    path = convert_labels(images, format, out, predictions=answers)
    print_lines(f"written: {path}, with the answers for {len(answers)} images", err=False)
    report_quarantine(answers.quarantined)


def _counts(labeled: Any) -> str:
    """``20 images of 10 classes, 3 of them unlabeled``."""
    unknown = labeled.labels < 0 if hasattr(labeled, "labels") else (labeled.matrix < 0).all(axis=1)
    classes = len(labeled.class_names)
    shown = f"{n_images(len(labeled))} of {classes} {'class' if classes == 1 else 'classes'}"
    return shown + (f", {unknown.sum()} of them unlabeled" if unknown.any() else "")


def _answers(source: Path, model: Path, encoder: str | None) -> tuple[Any, Any]:
    """The images, and the predictions of a model of either kind."""
    from modalign.cli.predict_commands import load_classifier
    from modalign.data.items import load_items
    from modalign.model.multi_label.multi_label_files import load_multi_label

    images = load_items(source, labels=-1)
    several = holds(model, MULTI_LABEL)
    found: Any = load_multi_label(model, encoder=encoder) if several else load_classifier(model, encoder)
    return images, found.predict(images)
