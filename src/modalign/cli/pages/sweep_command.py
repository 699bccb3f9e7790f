"""``sweep``: a method at several values of one hyper-parameter."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.arguments.assignments import hyperparameters_by_method, shots_of, words
from modalign.cli.options import (
    AsJson,
    BenchEncoder,
    Device,
    HtmlPage,
    Jobs,
    SentenceFiles,
    Templates,
    TextEncoder,
    check_file,
    command,
)
from modalign.cli.terminal import announce, print_json, print_lines, print_table
from modalign.core.errors import InputError


@command()
def sweep(
    source: Annotated[str, typer.Argument(help="As for bench: data root, images, vectors (.npz), or 'digits'.")],
    values: Annotated[
        str, typer.Argument(help="method.name=values, for example gpua.semantic_weight=0,0.3,0.6,0.9,1.")
    ],
    by: Annotated[
        str | None, typer.Option(help="Another hyper-parameter of the method and its values; a curve for each.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="As for bench; several are separated by commas.")] = "few-shot",
    shots: Annotated[str | None, typer.Option(help="Labeled images per class, separated by commas.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws.")] = 3,
    datasets: Annotated[
        str | None, typer.Option(help="Data sets, separated by commas; by default all that the source contains.")
    ] = None,
    encoder: BenchEncoder = None,
    clip_encoder: TextEncoder = None,
    template: Templates = None,
    descriptions: SentenceFiles = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Other hyper-parameters, method.name=value (repeatable).")
    ] = None,
    page: HtmlPage = None,
    record: Annotated[Path | None, typer.Option(help="Results file (.jsonl); runs in it are not repeated.")] = None,
    jobs: Jobs = 1,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a method at several values of one hyper-parameter, or of two, by a protocol of bench."""
    from modalign.evaluate.benchmark.parameter_sweep import sweep_parameter
    from modalign.evaluate.runs import RunWarning
    from modalign.report.papers.figures_page import save_sweep_page

    check_file(page, ".html", ".htm", drawn=True)
    method, name, numbers = _values(values)
    other = None if by is None else _values(by)
    if other is not None and other[0] != method:
        raise InputError(f"Expected a hyper-parameter of {method} as --by, got one of {other[0]}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)  # they are among the notes
        result = sweep_parameter(
            source, method, name, numbers, by=None if other is None else other[1:], protocol=words(protocol),
            seeds=seeds, encoder=encoder, clip_encoder=clip_encoder, device=device,
            shots=shots_of(shots) if shots else None,
            datasets=[word.strip() for word in datasets.split(",")] if datasets else None,
            templates=template or None, descriptions=descriptions, record=record, jobs=jobs or os.cpu_count() or 1,
            hyperparameters=hyperparameters_by_method(set_ or []),
        )  # fmt: skip
    if page is not None:
        save_sweep_page(result, page)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(*result.table)
    print_lines("", result.legend, err=False)
    for note in result.notes:
        print_lines(f"note: {note}")
    announce(page)


def _values(text: str) -> tuple[str, str, list[float]]:
    """Parse ``gpua.semantic_weight=0,0.5,1``; the name and each value must be those of a hyper-parameter."""
    where, equals, listed = text.partition("=")
    method, dot, name = where.partition(".")
    words = [word.strip() for word in listed.split(",") if word.strip()]
    if not (equals and dot and name and words):
        raise InputError(f"Expected method.name=values, such as gpua.semantic_weight=0,0.5,1, got '{text}'.")
    found = [hyperparameters_by_method([f"{where}={word}"])[method][name] for word in words]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found):
        raise InputError(f"Expected numbers as values of {name}, got '{listed}'.")
    return method, name, found
