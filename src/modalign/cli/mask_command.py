"""``evaluate`` of masks: agreement with true masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modalign.cli.options import check_file
from modalign.cli.terminal import announce, print_json, print_lines, print_table
from modalign.core.errors import InputError


def evaluate_mask_folder(
    masks: Path | None,
    truth: Path | None,
    *,
    baseline: Path | None,
    ignore: int | None,
    mask_classes: Path | None,
    palette: Path | None,
    photos: Path | None,
    confusion: Path | None,
    figure: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare masks with true masks, print IoU per class, and write the requested pictures and page."""
    check_file(confusion, ".png", ".svg", drawn=True)
    check_file(figure, ".png")
    check_file(page, ".html", ".htm", drawn=True)
    if masks is None or truth is None:
        raise InputError("Expected a folder of masks: modalign evaluate MASKS --truth TRUTH.")
    from modalign.data.items import load_items
    from modalign.evaluate.masks.own_masks import evaluate_masks
    from modalign.report.masks.mask_evaluation import (
        pixel_confusion,
        require_same_photos,
        save_columns_figure,
        save_mask_evaluation,
    )

    reading: dict[str, Any] = {"ignore": ignore, "mask_classes": mask_classes, "palette": palette}
    shown = None if photos is None else load_items(photos, labels=-1)
    result = evaluate_masks(masks, truth, **reading)
    other = None if baseline is None else evaluate_masks(baseline, truth, **reading)
    if other is not None:
        require_same_photos(result, other)
    if confusion is not None:
        pixel_confusion(result.scores).save(confusion)
    if figure is not None:
        save_columns_figure(result, figure, baseline=other, photos=shown)
    if page is not None:
        save_mask_evaluation(result, page, baseline=other, photos=shown)
    scores = result.scores
    own = scores.image_miou
    worst = [{"file": result.pairs[i].file, "miou": float(own[i])} for i in result.worst()]
    if as_json:
        compared = {} if other is None else {"baseline": other.scores.as_dict()}
        print_json({**scores.as_dict(), "worst": worst, "notes": list(result.notes), **compared})
        return
    from modalign.report.text import count

    print_table(*scores.table)
    low, high = (f"{100 * end:.1f}" for end in scores.interval())
    tested = f"{count(scores.n_images, 'photo')}, {scores.n_occurring} of {len(scores.names)} classes in masks or truth"
    print_lines("", f"mIoU: {100 * scores.miou:.1f} % ({low} to {high}, {tested})", err=False)
    if other is not None:
        print_lines(f"mIoU of the baseline: {100 * other.scores.miou:.1f} %", err=False)
    print_lines(f"pixel accuracy: {100 * scores.accuracy:.1f} %", err=False)
    for what, path in (("confusion matrix", confusion), ("figure", figure)):
        if path is not None:
            print_lines(f"{what}: {path}", err=False)
    for note in result.notes:
        print_lines(f"note: {note}")
    announce(page)
