"""``audit`` and ``search``: problems in a set of images, and the images nearest to a sentence or an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.options import AsJson, ClassFile, EncoderName, SplitFile, check_file, command, seed_option
from modalign.cli.terminal import announce, print_json, print_lines, print_table
from modalign.core.errors import InputError, argument, require_choice

if TYPE_CHECKING:
    from modalign.core.features import Features
    from modalign.data.items import Items

FAILED = 1
Searched = Annotated[
    Path,
    typer.Argument(
        help="Folder, CSV, list, zip or tar of images, DATAROOT:NAME, or what embed wrote: a features file or a folder "
        "of parts."
    ),
]


@command()
def audit(
    source: Searched,
    page: Annotated[Path | None, typer.Option(help="HTML page (.html) with the photos to write.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="All findings as JSON (.json) to write.")] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(help="copies, labels, outliers, pictures or names (repeatable); all by default."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of findings to print per kind.")] = 5,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="Kind of finding, such as leak or label (repeatable), that makes the exit code 1."),
    ] = None,
    near_identical: Annotated[float, typer.Option(help="Cosine from which two images are copies.")] = 0.999,
    method: Annotated[str, typer.Option("--method", "-m", help="Method that predicts labels for comparison.")] = "gda",
    encoder: EncoderName = "tiny",
    split: SplitFile = None,
    classes: ClassFile = None,
    seed: Annotated[int, seed_option("the folds")] = 0,
    as_json: AsJson = False,
) -> None:
    """Find label errors, copies, leaks between train and test, outliers and bad pictures."""
    from modalign.audit.audit_findings import FOUND_BY, KINDS
    from modalign.audit.auditing import CHECKS, audit_images
    from modalign.core.files import write
    from modalign.core.record import plain
    from modalign.data.items import Items
    from modalign.report.photos.audit_page import save_audit_page

    check_file(page, ".html", ".htm")
    check_file(out, ".json")
    if check and "labels" not in check:
        refuse_unused("with --check labels", "method", "seed")
    if check and "copies" not in check:
        refuse_unused("with --check copies", "near_identical")
    for kind in fail_on or ():
        require_choice("--fail-on", kind, KINDS)
        if check and FOUND_BY.get(kind, check[0]) not in check:
            raise InputError(f"Expected --check {FOUND_BY[kind]}, which finds it, with --fail-on {kind}; add it.")
    subject = _images_or_features(source, split=split, classes=classes)
    if not isinstance(subject, Items):
        refuse_unused("with images; vectors were made by theirs", "encoder")
    found = audit_images(
        subject,
        encoder=encoder,
        checks=check or CHECKS,
        method=method,
        near_identical=near_identical,
        random_state=seed,
    )
    if page is not None:
        save_audit_page(found, page, subject if isinstance(subject, Items) else None)
    if out is not None:
        write(out, json.dumps(plain(found.as_dict()), indent=1, ensure_ascii=False).encode())
    if as_json:
        print_json(found.as_dict())
    else:
        if found.findings:
            print_table(*found.worst(top))
            print_lines("", err=False)
            print_table(*found.table)
        else:
            print_lines(f"nothing was found in {found.images} images", err=False)
        for note in found.notes:
            print_lines(f"note: {note}")
        for name, reason in found.skipped.items():
            print_lines(f"note: {name} were not checked: {reason}")
        announce(page)
    if set(fail_on or ()) & set(found.counts):
        raise typer.Exit(FAILED)


@command()
def search(
    source: Searched,
    query: Annotated[str, typer.Argument(help="A sentence, or an image file.")],
    top: Annotated[int, typer.Option(min=1, help="Number of images.")] = 20,
    page: Annotated[Path | None, typer.Option(help="HTML page (.html) with the photos to write.")] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="As for fit; tiny by default, or the encoder of the features.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the images nearest to a sentence or to another image."""
    from modalign.audit.searching import search_images
    from modalign.data.items import Items
    from modalign.evaluate.outcome import about_encoder
    from modalign.report.photos.search_page import save_search_page

    check_file(page, ".html", ".htm")
    subject = _images_or_features(source, sets=True)
    found = search_images(subject, query, top=top, encoder=encoder)
    if page is not None:
        save_search_page(found, page, subject if isinstance(subject, Items) else None)
    if as_json:
        print_json(found.as_dict())
    else:
        print_table(*found.table)
    if found.spec is not None:
        for note in about_encoder(found.spec.name, subject.class_names, guesses=not subject.class_names):
            print_lines(f"note: {note}")
    if not as_json:
        announce(page)


def _images_or_features(
    source: Path, *, split: Path | None = None, classes: Path | None = None, sets: bool = False
) -> Items | Features:
    """Load the images of a source, with ``sets`` also those of several classes, or the vectors that ``embed`` wrote."""
    from modalign.core.features import Features
    from modalign.core.part_files import is_features_source
    from modalign.data.items import load_items, load_with_sets

    if not is_features_source(source):
        return load_with_sets(source)[0] if sets else load_items(source, split=split, classes=classes)
    if split is not None or classes is not None:
        given = "split" if split is not None else "classes"
        raise InputError(f"Expected {argument(given)} with images, got the vectors in '{source}'; leave it out.")
    return Features.open(source)
