"""``demo``, ``list`` and ``doctor``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.options import AsJson, check_file, command
from modalign.cli.terminal import announce, print_json, print_lines, print_table


@command()
def demo(
    out: Annotated[Path, typer.Option(help="HTML page (.html) to write.")] = Path("demo-report.html"),
    seeds: Annotated[int, typer.Option(min=2, help="Number of few-shot draws.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Compare six methods on handwritten digits with few labels and without; works offline."""
    check_file(out, ".html", ".htm", drawn=True)
    started = time.perf_counter()
    from modalign.cli.demo import run_demo

    result = run_demo(out, seeds=seeds)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.rows)
    spent = f"{time.perf_counter() - started:.0f} s, {time.process_time():.0f} s of processor time"
    print_lines("", result.sentence, f"The whole demonstration took {spent}.", err=False)
    announce(out)


@command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, encoders, datasets, or the name of one of these.")] = "methods",
    as_json: AsJson = False,
) -> None:
    """List the methods, the hyper-parameters of one method, the encoders or the data sets, or one of these."""
    from modalign.cli.overview import listing

    header, rows = listing(what)
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    print_table(header, rows)


@command()
def doctor(
    data: Annotated[
        Path | None, typer.Option(help="Data root of benchmark data sets to check in place of the installation.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation: versions, device, memory, cache, extras, and the classification of digits."""
    if data is not None:
        _data_root(data, as_json)
        return
    from modalign.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json([vars(f) for f in findings])
    else:
        print_table(["", "what", "found"], [["ok" if f.ok else "!!", f.what, f.found] for f in findings])
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def _data_root(root: Path, as_json: bool) -> None:
    """Print what is present of each benchmark data set; exit code 1 if one is incomplete."""
    from modalign.data.splits.data_root import inspect_data_root
    from modalign.segmentation.sets.segmentation_root import inspect_segmentation_sets

    found = [*inspect_data_root(root), *inspect_segmentation_sets(root)]
    if as_json:
        print_json([vars(entry) for entry in found])
    else:
        signs = {"ready": "ok", "incomplete": "!!", "missing": ""}
        print_table(["", "data set", "found"], [[signs[entry.state], entry.name, entry.found] for entry in found])
    if any(entry.state == "incomplete" for entry in found):
        raise typer.Exit(1)
