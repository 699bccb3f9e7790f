"""``fit --multi-label``, and ``predict`` and ``evaluate`` for its models: several classes per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modalign.cli.arguments.assignments import settings_of
from modalign.cli.options import check_file
from modalign.cli.terminal import announce, next_step, print_json, print_lines, print_table, report_quarantine
from modalign.core.errors import InputError, argument
from modalign.core.name_matching import quoted


def fit_multi_label(
    source: Path,
    out: Path,
    *,
    method: str,
    time: str | None,
    settings: Sequence[str],
    unused: Mapping[str, Any],
    as_json: bool,
    **given: Any,
) -> None:
    """Adapt a classifier to images that may show several classes, save it, and print a summary.

    Parameters
    ----------
    source, out : Path
        The images, and the folder of the model.
    method : str
        A method on vectors.
    time : str or None
        Time limit of ``auto``.
    settings : sequence of str
        Hyper-parameters ``name=value``.
    unused : mapping
        Options of ``fit`` that do not apply here; a given one raises an error.
    as_json : bool
        Print one JSON object.
    **given : Any
        Of :func:`~modalign.model.multi_label.multi_label_fit.adapt_multi_label`.
    """
    from modalign.model.multi_label import adapt_multi_label
    from modalign.model.multi_label.multi_label_files import check_multi_label_folder

    check_multi_label_folder(out)
    _refuse(unused)
    hyperparameters = settings_of(method, list(settings), time)
    model = adapt_multi_label(source, method=method, **given, **hyperparameters)
    model.save(out)
    record = model.record
    if as_json:
        print_json({"out": str(out), "classes": list(model.class_names), "record": record})
        return
    rows = [[name, str(n), f"{record['thresholds'][name]:.2f}"] for name, n in record["labels"].items()]
    print_table(["class", "images", "threshold"], rows)
    print_lines(
        "",
        f"{record['method']} on {model.encoder.name}: {len(model.class_names)} classes, fitted to "
        f"{record['images']['train']} images in {record['seconds']:.1f} s.",
        err=False,
    )
    print_lines(*_quality_lines(record["quality"]), err=False)
    for note in record["notes"]:
        print_lines(f"note: {note}")
    if record["uncalibrated"]:
        print_lines(f"note: too few labels to calibrate: {quoted(record['uncalibrated'], 3)}")
    report_quarantine(record["quarantined"])
    print_lines(f"Saved in {out}; {next_step(out, source, testable=record['images']['test'] > 0)}", err=False)


def _quality_lines(quality: Mapping[str, Any] | None) -> list[str]:
    """What a fit measured of itself."""
    if quality is None:
        return ["Not measured: no class has images to hold out."]
    from modalign.evaluate.multi_label_metrics import Share, share_in_words

    shares = {name: quality[name] for name in ("mean_average_precision", "micro_F1", "exactly_right_sets")}
    measures = ", ".join(
        f"{name.replace('_', ' ')} {share_in_words(share and Share(**share))}" for name, share in shares.items()
    )
    return [f"On {quality['images']} images, each predicted by models that were not fitted on it: {measures}."]


def predict_multi_label(
    folder: Path, images: Any, *, encoder: str | None, out: Path | None, unused: Mapping[str, Any], as_json: bool
) -> None:
    """Print, or write to ``out``, the classes of images."""
    from modalign.data.items import load_items
    from modalign.model.multi_label.multi_label_answers import check_multi_label_output
    from modalign.model.multi_label.multi_label_files import load_multi_label

    _refuse(unused)
    if out is not None:
        check_multi_label_output(out)
        check_file(out, ".csv", ".json")
    items = load_items(images, labels=-1)
    found = load_multi_label(folder, encoder=encoder).predict(items)
    if out is not None:
        found.save(out)
    if as_json:
        print_json(found.as_dict())
        return
    if out is None:
        print_table(*found.table)
    else:
        print_lines(f"answers for {len(found)} images, in {out}", err=False)
    report_quarantine(found.quarantined)


def evaluate_multi_label(
    folder: Path,
    source: Path,
    *,
    encoder: str | None,
    split: Path | None,
    page: Path | None,
    include_fitted: bool,
    unused: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Print average precision and F1 per class, and write the requested page."""
    from modalign.data.label_sets import load_label_sets
    from modalign.evaluate.multi_label_metrics import share_in_words
    from modalign.model.multi_label.multi_label_files import load_multi_label
    from modalign.report.photos.multi_label_page import save_multi_label_page

    _refuse(unused)
    check_file(page, ".html", ".htm")
    images = load_label_sets(source, split=split)
    model = load_multi_label(folder, encoder=encoder)
    result = model.evaluate(images, include_fitted=include_fitted)
    if page is not None:
        save_multi_label_page(model, result, page, images.items)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(*result.scores.table)
    print_lines("", *(f"{name}: {share_in_words(share)}" for name, share in result.scores.totals.items()), err=False)
    print_lines(f"intervals: 95 %, over draws of the {result.scores.n} images", err=False)
    for note in result.notes:
        print_lines(f"note: {note}")
    if result.left_out:
        print_lines(f"note: left out {len(result.left_out)} images that the model was fitted on")
    report_quarantine(result.quarantined)
    announce(page)


def _refuse(unused: Mapping[str, Any]) -> None:
    """Raise if an option was given that does not apply to several classes per image."""
    for name, value in unused.items():
        if value not in (None, False, 0):
            raise InputError(f"Expected no {argument(name)} where images may show several classes; leave it out.")
