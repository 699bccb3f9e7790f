"""``explain``: explanations of the answers of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modalign.cli.options import AsJson, ModelEncoder, ModelFolder, check_file, command, seed_option
from modalign.cli.predict_commands import load_classifier
from modalign.cli.terminal import announce, print_json, print_lines, print_table
from modalign.core.errors import InputError, UndecodableError

if TYPE_CHECKING:
    from modalign.data.items import Items


@command("explain")
def explain_answers(
    model: ModelFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or one folder, list or archive.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page (.html) to write.")] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            help="Images that the model was not fitted on, for the deletion test; patch maps are shown if it is passed."
        ),
    ] = None,
    labeled: Annotated[
        Path | None, typer.Option(help="Labeled images, such as those of the fit, to find the nearest among.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class to explain, whose labeled images are listed; by default the most probable one."
        ),
    ] = None,
    seed: Annotated[int, seed_option("the deletion test")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of images to explain.")] = 20,
    encoder: ModelEncoder = None,
    as_json: AsJson = False,
) -> None:
    """Explain answers: patch maps, if they pass a deletion test, nearest labeled images and sentences."""
    from modalign.data.items import load_items
    from modalign.report.photos.explanation_page import save_explanation_page

    check_file(out, ".html", ".htm")
    items = load_items(images[0] if len(images) == 1 else images)
    more = f"explained the first {limit} of {len(items)} images; raise --limit for more"
    notes = [more] if len(items) > limit else []
    chosen, unreadable = _readable(items, min(limit, len(items)))
    classifier = load_classifier(model, encoder)
    given = None if labeled is None else load_items(labeled)
    test = None if check is None else classifier.deletion_test(load_items(check), random_state=seed)
    found = [classifier.explain(items.select([i]), label=label, check=test, labeled=given) for i in chosen]
    if out is not None:
        save_explanation_page(found, out)
    for note in (*notes, *(f"left out {reason}" for reason in unreadable)):
        print_lines(f"note: {note}")
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    for one in found:
        shown = (
            one.top[:3] if one.class_name in dict(one.top[:3]) else (*one.top[:3], (one.class_name, one.probability))
        )
        print_lines(f"{one.id}: {one.subject} ({', '.join(f'{n} {100 * p:.1f} %' for n, p in shown)})", err=False)
        for table in (one.neighbor_table, one.sentence_table):
            if table[1]:
                print_table(table[0], table[1][:3])
        print_lines("", err=False)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        print_lines(f"note: {note}")
    announce(out)


def _readable(items: Items, count: int) -> tuple[list[int], list[str]]:
    """Which of the first ``count`` images can be decoded, and the others with reasons; at least one must be."""
    chosen: list[int] = []
    unreadable: list[str] = []
    for i in range(count):
        try:
            items.open(i)
            chosen.append(i)
        except UndecodableError as error:
            unreadable.append(f"{items.ids[i]}: {error}")
    if not chosen:
        raise InputError(f"Expected an image that can be decoded, got none ({'; '.join(unreadable[:3])}).")
    return chosen, unreadable
