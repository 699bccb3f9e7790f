"""``demo``, ``list`` and ``doctor``: what there is and whether it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.options import AsJson, app, check_file
from modalign.cli.terminal import print_json, print_table, say


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("demo-report.html"),
    seeds: Annotated[int, typer.Option(min=2, help="How many few-shot draws.")] = 3,
    as_json: AsJson = False,
) -> None:
    """The main job, offline, on real handwritten digits: zero-shot, linear probe and CMM with few labels."""
    check_file(out, ".html")
    from modalign.demo import run_demo

    result = run_demo(out, seeds=seeds)
    if as_json:
        print_json(result.as_dict())
        return
    print_table(result.header, result.rows)
    say("", result.sentence, f"Pictures: {out}", err=False)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, encoders, datasets, or a method's name.")] = "methods",
    as_json: AsJson = False,
) -> None:
    """What there is: methods (and the hyper-parameters of one), encoders, datasets."""
    from modalign.listing import listing

    header, rows = listing(what)
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    print_table(header, rows)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, device, memory, cache, extras, and one image through the whole path."""
    from modalign.doctor import examine

    findings = examine()
    if as_json:
        print_json([vars(f) for f in findings])
    else:
        print_table(["", "what", "found"], [["ok" if f.ok else "!!", f.what, f.found] for f in findings])
    if not all(f.ok for f in findings):
        raise typer.Exit(1)
