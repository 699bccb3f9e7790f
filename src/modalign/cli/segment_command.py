"""``segment``: photos to masks, by class names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modalign.cli.arguments.given_options import refuse_unused, was_given
from modalign.cli.options import AsJson, Device, EncoderName, command
from modalign.cli.terminal import announce, print_json, print_lines, print_table, report_quarantine
from modalign.core.errors import InputError, argument
from modalign.core.name_matching import quoted

if TYPE_CHECKING:
    from modalign.segmentation.mask_run import MaskRun
    from modalign.segmentation.segmenter import Segmenter


@command()
def segment(
    source: Annotated[
        Path | None, typer.Argument(help="An image, or a folder, list, zip or tar of images; none with --dataset.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write masks and a page to.")] = None,
    classes: Annotated[
        str | None, typer.Option(help='"cat; grass, lawn; sky", or a file with a class per line: name, other name.')
    ] = None,
    background: Annotated[
        str, typer.Option(help="Names of the background, separated by commas; they become class 0.")
    ] = "",
    encoder: EncoderName = "tiny",
    features: Annotated[
        str, typer.Option(help="scclip, sclip, maskclip, maskclip-residual, clearclip, proxy, clip or window.")
    ] = "scclip",
    template: Annotated[list[str] | None, typer.Option(help="Sentence with {} for the name; repeatable.")] = None,
    short_side: Annotated[int | None, typer.Option(help="Resize the shorter side of photos to this.")] = None,
    window: Annotated[int | None, typer.Option(help="Side of a window in pixels.")] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels between two windows.")] = None,
    logit_scale: Annotated[float | None, typer.Option(help="Factor of the cosines before the softmax.")] = None,
    prob_threshold: Annotated[
        float | None, typer.Option(help="Pixels whose largest probability is lower get no class, or the background.")
    ] = None,
    area_threshold: Annotated[
        float | None, typer.Option(help="With --background: drop classes with at most this share of the others.")
    ] = None,
    gpua: Annotated[
        str | None, typer.Option(help="Vision-only encoder for a map that is learned without labels (GPUA).")
    ] = None,
    fit_on: Annotated[Path | None, typer.Option(help="Photos to learn the map from.")] = None,
    vfm: Annotated[str | None, typer.Option(help="Vision-only encoder of --features proxy.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a fitted segmenter: written with --fit-on, read without; OUT/model by default."),
    ] = None,
    transductive: Annotated[bool, typer.Option("--transductive", help="Accept photos of --fit-on.")] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Leave out photos with more pixels.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Evaluate on a benchmark data set instead, such as voc20; see: modalign list datasets."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that contains the data set of --dataset.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Assign a class to every pixel of photos, from class names alone; an interrupted run can be resumed."""
    chosen = {"background": background, "templates": template or None, "short_side": short_side, "window": window,
              "stride": stride, "logit_scale": logit_scale, "prob_threshold": prob_threshold,
              "area_threshold": area_threshold, "vfm": vfm}  # fmt: skip
    given = {name: value for name, value in chosen.items() if value not in (None, "")}
    if dataset is not None:
        refuse_unused(
            "without --dataset, whose photos and classes are measured", "source", "out", "classes", "fit_on", "model",
            "transductive", "max_pixels",
        )  # fmt: skip
        _measure(dataset, root, encoder, features, gpua, as_json, device, given)
        return
    refuse_unused("with --dataset, the data set that lies there", "root")
    if source is None or out is None:
        raise InputError("Expected photos and a folder for their masks: modalign segment PHOTOS --classes … --out DIR.")
    if fit_on is None and model is None:
        refuse_unused("with --fit-on or --model", "transductive")
    if (gpua is None) != (fit_on is None):
        raise InputError("Expected --gpua and --fit-on together: a vision-only encoder, and photos to learn from.")
    from modalign.data.items import load_items
    from modalign.report.masks.mask_page import save_mask_page
    from modalign.segmentation.mask_folder import MODEL, check_mask_folder
    from modalign.segmentation.mask_run import fit_map_once, limit_pixels, segment_to_folder
    from modalign.segmentation.photos import content_hashes, require_apart

    check_mask_folder(out)
    _require_outside(out, source, fit_on)
    items = load_items(source, labels=-1)
    if max_pixels is not None:
        items = limit_pixels(items, max_pixels)
    if fit_on is not None and gpua is not None:
        photos = load_items(fit_on, labels=-1)
        if not transductive:
            require_apart(items, content_hashes(photos))
        segmenter = _new(classes, encoder, features, given, device)
        fit_map_once(segmenter, photos, gpua, out / MODEL if model is None else model, device=device)
    elif model is not None:
        refuse_unused("without --model, which has its own", "features", "device")
        segmenter = _loaded(model, classes, given, encoder if was_given("encoder") else None)
    else:
        segmenter = _new(classes, encoder, features, given, device)
    run = segment_to_folder(segmenter, items, out, transductive=transductive)
    page = save_mask_page(run.document, items, out)
    if as_json:
        print_json(_summary(run) | {"out": str(out), "page": str(page)})
        return
    _print(run, segmenter, page)


def _require_outside(out: Path, *sources: Path | None) -> None:
    """Raise if the folder of photos contains the masks, which the next run would read as photos."""
    for source in sources:
        if source is not None and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            raise InputError(
                f"Expected --out outside of '{source}', got '{out}', where the masks would count as photos; choose "
                "another name."
            )


def _new(classes: str | None, encoder: str, features: str, given: Mapping[str, Any], device: str) -> Segmenter:
    from modalign.segmentation.segmenter import Segmenter

    if classes is None:
        raise InputError('Expected --classes, such as "cat; grass, lawn; sky" or a file of names, got none.')
    return Segmenter(encoder, classes, features=features, device=device, **given)


def _loaded(model: Path, classes: str | None, given: Mapping[str, Any], encoder: str | None) -> Segmenter:
    from modalign.segmentation.segmenter_files import load_segmenter

    if classes is not None or given:
        first = "classes" if classes is not None else next(iter(given))
        raise InputError(f"Expected classes and settings from --model '{model}' alone, got {argument(first)} too.")
    return load_segmenter(model, encoder=encoder)


def _summary(run: MaskRun) -> dict[str, Any]:
    """Result for ``--json``."""
    from modalign.report.masks.mask_page import page_classes, share_without_class

    classes = page_classes(run.document)
    return {
        "images": len(run.document["images"]),
        "segmented_now": run.n_new,
        "from_an_earlier_run": run.n_kept,
        "seconds": run.seconds,
        "shares": {c.name: c.share for c in classes},
        "none_share": share_without_class(run.document),
        "without_a_pixel": [c.name for c in classes if not c.n_images],
        "quarantined": run.quarantined,
        "settings": run.document["settings"],
    }


def _print(run: MaskRun, segmenter: Segmenter, page: Path) -> None:
    from modalign.report.masks.mask_page import page_classes, share_without_class
    from modalign.report.text import count
    from modalign.segmentation.overlay import share_text

    classes = page_classes(run.document)
    won = sorted((c for c in classes if c.n_images), key=lambda c: -c.share)
    rows = [[c.name, c.share_text, str(c.n_images), f"{c.confidence:.2f}"] for c in won if c.confidence is not None]
    none = share_without_class(run.document)
    print_table(["class", "share of pixels", "photos", "mean confidence"],
                rows + ([["none", share_text(none), "", ""]] if none else []))  # fmt: skip
    kept = f", {run.n_kept} finished before" if run.n_kept else ""
    print_lines(
        "",
        f"{count(run.n_new, 'photo')} in {run.seconds:.1f} s on {segmenter.encoder.device_name}{kept}",
        err=False,
    )
    if never := [c.name for c in classes if not c.n_images]:
        print_lines(f"note: no pixel of {quoted(never)}")
    report_quarantine(run.quarantined)
    announce(page)


def _measure(
    dataset: str,
    root: Path | None,
    encoder: str,
    features: str,
    gpua: str | None,
    as_json: bool,
    device: str,
    given: Mapping[str, Any],
) -> None:
    """Print the table of a benchmark data set."""
    from modalign.evaluate.masks.set_runs import HEADER, run_segmentation_set

    if root is None:
        raise InputError("Expected --root, the folder in which the data set of --dataset lies, got none.")
    vfm = given.get("vfm", gpua)
    settings = {name: value for name, value in given.items() if name != "vfm"}
    rows = run_segmentation_set(
        dataset, root, encoder=encoder, features=features.split(","), gpua="without" if gpua is None else "both",
        vfm=vfm, device=device, **settings,
    )  # fmt: skip
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    print_table(HEADER, [row.cells for row in rows])
    for row in rows:
        if row.scores is not None:
            print_lines("", f"{row.dataset}, {row.method}:", err=False)
            print_table(*row.scores.table)
