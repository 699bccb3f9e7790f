"""``modalign bench``: the published protocols on benchmark data sets."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.arguments.assignments import hyperparameters_by_method, method_words, shots_of, words
from modalign.cli.arguments.given_options import refuse_unused
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
def bench(
    source: Annotated[
        str,
        typer.Argument(help="Data root, folder of images, folder or file of image vectors (.npz), or 'digits'."),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="few-shot, base-to-new, cross-dataset, domain, long-tail, inductive, transductive; or several, "
            "separated by commas; or segmentation, whose methods are kinds of features such as sclip,scclip."
        ),
    ] = "few-shot",
    methods: Annotated[
        str, typer.Option(help="Names separated by commas; all, or vectors for those on image vectors.")
    ] = "vectors",
    datasets: Annotated[
        str | None, typer.Option(help="Names separated by commas; by default all that are found.")
    ] = None,
    shots: Annotated[str | None, typer.Option(help="Labeled images per class, separated by commas.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws.")] = 3,
    encoder: BenchEncoder = None,
    clip_encoder: TextEncoder = None,
    template: Templates = None,
    descriptions: SentenceFiles = None,
    settings: Annotated[str, typer.Option(help="default, or paper for the published hyper-parameters.")] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter method.name=value (repeatable).")
    ] = None,
    imbalances: Annotated[str, typer.Option(help="Ratios of the long-tail protocol.")] = "10,20,50",
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Unlabeled images per class of the inductive protocol; all by default.")
    ] = None,
    page: HtmlPage = None,
    record: Annotated[
        Path | None, typer.Option(help="Results file (.jsonl); runs that it contains are not repeated.")
    ] = None,
    jobs: Jobs = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that the runs are given to; local starts one here.")
    ] = None,
    gpua: Annotated[
        str | None, typer.Option(help="For segmentation: vision-only encoder of a map that is measured too.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run published protocols: data sets, methods, numbers of labels and seeds, with sealed test labels."""
    from modalign.evaluate.benchmark.benchmark import run_benchmark
    from modalign.evaluate.benchmark.benchmark_result import places_once
    from modalign.evaluate.runs import RunWarning
    from modalign.report.benchmark_page import save_benchmark_page

    check_file(page, ".html", ".htm", drawn=True)
    if "long-tail" not in words(protocol):
        refuse_unused("with --protocol long-tail", "imbalances")
    if "inductive" not in words(protocol):
        refuse_unused("with --protocol inductive", "per_class")
    if "segmentation" in words(protocol):
        refuse_unused(
            "with another protocol than segmentation", "shots", "seeds", "clip_encoder", "template", "descriptions",
            "settings", "set_", "jobs",
        )  # fmt: skip
        if ray is not None:
            raise InputError("Expected --ray with another protocol than segmentation, which runs in this process.")
        names = "all" if methods in ("all", "vectors") else words(methods)
        _segmentation(source, protocol, names, datasets, encoder, gpua, page, record, device, as_json)
        return
    if gpua is not None:
        raise InputError("Expected --gpua with --protocol segmentation alone; give gpua with --methods elsewhere.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)  # they are among the notes
        result = run_benchmark(
            source,
            protocol=words(protocol),
            methods=methods if methods in ("all", "vectors") else method_words(methods),
            datasets=None if datasets is None else words(datasets),
            shots=shots_of(shots) if shots else None,
            seeds=seeds,
            encoder=encoder,
            clip_encoder=clip_encoder,
            templates=template or None,
            descriptions=descriptions,
            settings=settings,
            hyperparameters=hyperparameters_by_method(set_ or []),
            imbalances=_ratios(imbalances) if "long-tail" in words(protocol) else None,
            per_class=per_class,
            record=record,
            jobs=jobs or os.cpu_count() or 1,
            ray=ray,
            device=device,
        )
    if page is not None:
        save_benchmark_page(result, page)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.table)
    print_lines("", result.legend, err=False)
    for note in result.notes:
        print_lines(f"note: {note}")
    for reason, missing in result.reasons.items():
        print_lines(f"note: left out {places_once(missing)}: {reason}")
    announce(page)


def _segmentation(
    root: str,
    protocol: str,
    features: str | list[str],
    datasets: str | None,
    encoder: str | None,
    vfm: str | None,
    page: Path | None,
    record: Path | None,
    device: str,
    as_json: bool,
) -> None:
    from modalign.evaluate.masks.set_benchmark import run_segmentation_benchmark
    from modalign.report.masks.set_page import save_segmentation_page

    if protocol.strip() != "segmentation":
        raise InputError(f"Expected --protocol segmentation by itself, got '{protocol}'; run the others separately.")
    result = run_segmentation_benchmark(
        root, encoder=encoder or "tiny", features=features, datasets=words(datasets) if datasets else None, vfm=vfm,
        record=record, device=device,
    )  # fmt: skip
    if page is not None:
        save_segmentation_page(result, page)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.table)
    for name, reason in result.missing.items():
        print_lines(f"note: left out {name}: {reason}")
    announce(page)


def _ratios(text: str) -> list[float]:
    try:
        return [float(word) for word in words(text)]
    except ValueError:
        raise InputError(f"Expected --imbalances as numbers separated by commas, got '{text}'.") from None
