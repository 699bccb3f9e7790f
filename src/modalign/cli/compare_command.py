"""``compare``: every method on the same images."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.arguments.assignments import hyperparameters_by_method, method_words, shots_of
from modalign.cli.arguments.given_options import refuse_unused
from modalign.cli.options import AsJson, ClassFile, Device, HtmlPage, Jobs, SplitFile, Templates, check_file, command
from modalign.cli.terminal import announce, print_json, print_lines, print_table, report_quarantine
from modalign.core.errors import InputError


@command()
def compare(
    source: Annotated[
        Path, typer.Argument(help="Images as for fit, or what embed wrote: a features file or a folder of parts.")
    ],
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Encoder; tiny by default, or the encoder of the features."),
    ] = None,
    clip_encoder: Annotated[
        str | None,
        typer.Option(
            help="Vision-language encoder to use with a vision-only one; for features a features file (.npz)."
        ),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Class-text vectors (.npz) instead of embedded class names.")
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Compare without class text.")] = False,
    methods: Annotated[
        str | None, typer.Option(help="Names separated by commas, for example cmm,gpua; all by default.")
    ] = None,
    shots: Annotated[
        str, typer.Option(help="Labeled images per class, separated by commas; 0 is none.")
    ] = "0,1,2,4,8,16,all",
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws of the labeled images.")] = 3,
    split: SplitFile = None,
    classes: ClassFile = None,
    template: Templates = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name → sentences (CuPL, HPT).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter method.name=value (repeatable).")
    ] = None,
    ablations: Annotated[
        bool, typer.Option(help="Also run each method with one of its components switched off.")
    ] = True,
    page: HtmlPage = None,
    record: Annotated[
        Path | None, typer.Option(help="Results file (.jsonl); runs that it contains are not repeated.")
    ] = None,
    jobs: Jobs = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run every method on your own images at several numbers of labels and test which differences are significant."""
    from modalign.evaluate.comparison.compare import compare as run
    from modalign.evaluate.runs import RunWarning
    from modalign.report.comparison_page import save_comparison_page

    check_file(page, ".html", ".htm", drawn=True)
    if text is not None and no_text:
        raise InputError("Expected --text or --no-text, got both; choose one.")
    if text is not None or no_text:
        refuse_unused("where class names are embedded, got --text or --no-text", "template", "descriptions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)  # they are among the remarks
        result = run(
            source, text=False if no_text else text, encoder=encoder, clip_encoder=clip_encoder,
            methods=None if methods is None else method_words(methods),
            shots=shots_of(shots),
            seeds=seeds, split=split, classes=classes, templates=template or None, descriptions=descriptions,
            hyperparameters=hyperparameters_by_method(set_ or []), ablations=ablations, record=record,
            jobs=jobs or os.cpu_count() or 1, device=device,
        )  # fmt: skip
    if page is not None:
        save_comparison_page(result, page)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.rows)
    if result.legend:
        print_lines("", result.legend, err=False)
    print_lines("", result.sentence, err=False)
    for note in result.remarks:
        print_lines(f"note: {note}")
    report_quarantine(result.record["quarantined"])
    announce(page)
