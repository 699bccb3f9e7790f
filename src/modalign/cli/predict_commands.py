"""``predict`` and ``evaluate`` of a saved model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.multi_label_command import evaluate_multi_label, predict_multi_label
from modalign.cli.options import AsJson, HtmlPage, ModelEncoder, ModelFolder, SplitFile, check_file, command
from modalign.cli.shard_options import Addresses, OneShard, Ray, Shards, Verify, Workers, is_sharded, run_sharded
from modalign.cli.terminal import announce, print_json, print_lines, print_table, report_quarantine
from modalign.core.card_names import MULTI_LABEL, SEGMENTER, holds
from modalign.core.display import n_images
from modalign.core.errors import InputError, require_choice

if TYPE_CHECKING:
    from modalign.model.classifier import Classifier
    from modalign.model.predictions import Evaluation

_OF_MASKS = ("segments", "baseline", "ignore", "mask_classes", "palette", "photos", "figure")
_OF_MODELS = ("source", "split", "classes", "include_fitted", "encoder")
"""Options of ``evaluate`` for masks only, and for models only."""


@command()
def predict(
    model: ModelFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or one folder, list or archive.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write all probabilities of every image to this .csv, .json, .parquet or folder of parts.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print per image.")] = 1,
    sort: Annotated[
        str, typer.Option(help="given, uncertain (first), certain (first) or name (of the answer).")
    ] = "given",
    reject: Annotated[
        float | None,
        typer.Option(
            help="Also answer 'none of these'; the share of known images that may be rejected, for example 0.05."
        ),
    ] = None,
    encoder: ModelEncoder = None,
    shards: Shards = None,
    workers: Workers = None,
    shard: OneShard = None,
    ray: Ray = None,
    verify: Verify = False,
    addresses: Addresses = False,
    as_json: AsJson = False,
) -> None:
    """Classify new images and write the probability of every class."""
    if verify or is_sharded(shards, workers, shard, ray):
        from modalign.shards import predict_shards

        refuse_unused("without --shards, since parts have all probabilities in the order of the source", "top", "sort")
        if out is None or len(images) != 1:
            raise InputError("Expected one source of images and --out, a folder for parts, with --shards.")
        run_sharded(
            partial(predict_shards, model, encoder=encoder, reject=reject, verify=verify), images[0], out,
            shards=shards, workers=workers, shard=shard, ray=ray, addresses=addresses, as_json=as_json,
        )  # fmt: skip
        return
    if holds(model, MULTI_LABEL):
        unused = {"reject": reject, "top": None if top == 1 else top, "sort": None if sort == "given" else sort}
        given = images[0] if len(images) == 1 else images
        predict_multi_label(model, given, encoder=encoder, out=out, unused=unused, as_json=as_json)
        return
    from modalign.core.features import Features
    from modalign.core.part_files import is_features_source
    from modalign.data.items import Items, load_items
    from modalign.model import exports
    from modalign.model.predictions import ORDERS, check_top

    require_choice("--sort", sort, ORDERS)
    if out is not None:
        exports.check_output(out)
    items: Items | Features
    if len(images) == 1 and is_features_source(images[0]):
        items = Features.open(images[0])
    else:
        items = load_items(images[0] if len(images) == 1 else images, addresses=addresses)
    classifier = load_classifier(model, encoder)
    check_top(top, classifier.class_names)
    predictions = classifier.predict(items, reject=False if reject is None else reject).sorted_by(sort)
    predictions.origin["model"]["folder"] = model.resolve().name  # no private path in shared answers
    if out is not None:
        exports.save(predictions, out)
    if as_json:
        print_json(exports.as_dict(predictions, top))
        return
    if out is None:
        answers = [", ".join(f"{name} {100 * value:.1f} %" for name, value in best) for best in predictions.top(top)]
        rows = [[p.id, f"{p.name} ({a})" if p.rejected else a] for p, a in zip(predictions, answers, strict=True)]
        print_table(["image", "answer"], rows)
    else:
        print_lines(f"answers for {len(predictions)} images, in {out}", err=False)
    if predictions.transductive is not None and predictions.transductive.any():
        known = int(predictions.transductive.sum())
        print_lines(f"note: answers from the fit, which predicted the images jointly: {known} of {len(predictions)}")
    report_quarantine(predictions.quarantined)


@command()
def evaluate(
    model: Annotated[Path | None, typer.Argument(help="A folder written by fit, or masks written by segment.")] = None,
    source: Annotated[
        Path | None, typer.Argument(help="Labeled images: a folder (one sub-folder per class), CSV, list, zip or tar.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of true masks, to evaluate masks.")] = None,
    masks: Annotated[Path | None, typer.Option(hidden=True, help="The same as --truth.")] = None,
    segments: Annotated[Path | None, typer.Option(hidden=True, help="Masks, in place of the argument.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Other masks of the same photos, to compare with.")] = None,
    ignore: Annotated[int | None, typer.Option(help="Value of true masks to ignore; 255 by default.")] = None,
    mask_classes: Annotated[
        Path | None, typer.Option(help="File: class of each value of true masks (a name per line, or value name).")
    ] = None,
    palette: Annotated[Path | None, typer.Option(help="File: colors of RGB masks, a line 'r g b' per value.")] = None,
    photos: Annotated[Path | None, typer.Option(help="The photos, to show under masks.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Picture (.png) of masks next to the true ones to write.")] = None,
    split: SplitFile = None,
    classes: Annotated[Path | None, typer.Option(help="File of class names that was given to fit.")] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Picture of the confusion matrix (.png or .svg) to write.")
    ] = None,
    page: HtmlPage = None,
    include_fitted: Annotated[bool, typer.Option(help="Also test on images that the model was fitted on.")] = False,
    encoder: ModelEncoder = None,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracy of a model, per class and with a 95 % interval; with --truth, the IoU of masks."""
    if truth is not None or masks is not None:
        refuse_unused("with a model, got masks", *_OF_MODELS)
        from modalign.cli.mask_command import evaluate_mask_folder

        evaluate_mask_folder(
            segments or model, truth or masks, baseline=baseline, ignore=ignore, mask_classes=mask_classes,
            palette=palette, photos=photos, confusion=confusion, figure=figure, page=page, as_json=as_json,
        )  # fmt: skip
        return
    refuse_unused("with --truth, a folder of true masks", *_OF_MASKS)
    if model is None or source is None:
        raise InputError("Expected a model and labeled images, or masks and --truth, a folder of true masks.")
    if holds(model, MULTI_LABEL):
        evaluate_multi_label(
            model, source, encoder=encoder, split=split, page=page, include_fitted=include_fitted, as_json=as_json,
            unused={"confusion": confusion, "classes": classes},
        )  # fmt: skip
        return
    from modalign.data.items import load_items
    from modalign.report.evaluation import fitted_images_note, save_confusion, save_evaluation_page

    check_file(confusion, ".png", ".svg", drawn=True)
    check_file(page, ".html", ".htm", drawn=True)
    items = load_items(source, split=split, classes=classes)
    classifier = load_classifier(model, encoder)
    result = classifier.evaluate(items, include_fitted=include_fitted)
    if confusion is not None:
        save_confusion(result, confusion)
    if page is not None:
        save_evaluation_page(classifier, result, page, items)
    if as_json:
        print_json(_as_dict(result, confusion))
        return
    print_table(*result.table)
    print_lines("", f"top-1 accuracy: {result.accuracy}", err=False)
    print_lines(f"calibration error: {100 * result.calibration_error:.1f} %", err=False)
    if confusion is not None:
        print_lines(f"confusion matrix: {confusion}", err=False)
    for note in result.notes:
        print_lines(f"note: {note}")
    if known := fitted_images_note(classifier, result):
        print_lines(f"note: {known}")
    if result.left_out:
        images = n_images(len(result.left_out))
        print_lines(f"note: left out {images} that the model was fitted on or validated with")
    report_quarantine(result.quarantined)
    announce(page)


def _as_dict(result: Evaluation, confusion: Path | None) -> dict[str, Any]:
    """Result of ``evaluate`` for ``--json``."""
    return {
        "top1": result.accuracy.top1,
        "interval": [result.accuracy.low, result.accuracy.high],
        "n": result.accuracy.n,
        "chance": result.chance,
        "calibration_error": result.calibration_error,
        "per_class": [vars(c) for c in result.per_class],
        "confusion": result.confusion.tolist(),
        "classes": list(result.class_names),
        "picture": None if confusion is None else str(confusion),
        "left_out": len(result.left_out),
        "notes": list(result.notes),
        "quarantined": [vars(q) for q in result.quarantined],
    }


def load_classifier(folder: Path, encoder: str | None) -> Classifier:
    """Load the classifier in ``folder``; an InputError for another kind of model."""
    from modalign.model.classifier import Classifier
    from modalign.model.loading_models import load

    model = load(folder, encoder=encoder)
    if not isinstance(model, Classifier):
        kind = {MULTI_LABEL: "a multi-label model", SEGMENTER: "a segmenter"}
        got = next((what for card, what in kind.items() if holds(folder, card)), "another kind of model")
        raise InputError(f"Expected a classifier with one class per image in '{folder}', got {got}.")
    return model
