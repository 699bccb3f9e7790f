"""``figures``: figures about a saved model, with their data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modalign.cli.options import AsJson, ModelEncoder, ModelFolder, SplitFile, check_file, command, seed_option
from modalign.cli.predict_commands import load_classifier
from modalign.cli.terminal import announce, print_json, print_lines
from modalign.core.errors import require


@command()
def figures(
    model: ModelFolder,
    source: Annotated[
        Path, typer.Argument(help="Labeled images: a folder (one sub-folder per class), CSV, list, zip or tar.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page (.html) to write.")] = None,
    seed: Annotated[int, seed_option("t-SNE and of random crops")] = 0,
    split: SplitFile = None,
    classes: Annotated[Path | None, typer.Option(help="The file of class names given to fit.")] = None,
    encoder: ModelEncoder = None,
    as_json: AsJson = False,
) -> None:
    """Draw figures about a model: similarities, t-SNE, modality gap, errors, the course of the fit."""
    require("matplotlib", "plot")
    from modalign.data.items import load_items
    from modalign.report.papers.figures_page import save_figures_page
    from modalign.report.papers.model_figures import model_figures

    check_file(out, ".html", ".htm", drawn=True)
    items = load_items(source, split=split, classes=classes)
    classifier = load_classifier(model, encoder)
    groups = model_figures(classifier, items, seed=seed)
    for note in dict.fromkeys(note for group in groups for note in group.notes):
        print_lines(f"note: {note}")
    if out is not None:
        save_figures_page(classifier, groups, out)
    if as_json:
        print_json([group.as_dict() for group in groups])
        return
    for group in groups:
        for picture in group.pictures:
            print_lines(f"{picture.title}: {picture.alt}", err=False)
    announce(out)
