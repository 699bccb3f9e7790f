"""The page of explanations: a section per image, and the deletion test of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from modalign.core.errors import InputError
from modalign.core.record import versions
from modalign.evaluate.metrics import percent
from modalign.model.explaining import DeletionTest, Explanation
from modalign.model.explaining.explaining import untested
from modalign.model.explaining.reasons import Neighbor
from modalign.report.explain import patch_plans
from modalign.report.page import Page, PageSection
from modalign.report.photos.overlays import OverlayPicture, Overlays
from modalign.report.photos.photo_groups import PhotoGroup, PhotoGroups
from modalign.report.run_tables import Table
from modalign.report.statements import paragraphs
from modalign.report.text import count, without_folders


def save_explanation_page(explanations: Sequence[Explanation], path: str | Path) -> Path:
    """Write one self-contained HTML page, atomically.

    Parameters
    ----------
    explanations : sequence of Explanation
        Of one model; at least one.
    path : str or Path
        The page to write.
    """
    if not explanations:
        raise InputError("Expected at least one explanation, got none.")
    first = explanations[0]
    alone = len(explanations) == 1
    one = f"{without_folders(first.id)}: {first.subject}"
    page = Page(
        one if alone else f"{count(len(explanations), 'answer')} explained",
        f"Why the model gave {'this answer' if alone else 'each answer'}, as far as its method can be explained.",
        facts=[(f"{percent(first.probability)} %", f"probability of {first.class_name}")] if alone else (),
        record={"model": first.model, "versions": versions()},
    )
    for each in explanations:
        _add(page, each, alone=alone)
    _add_test(page, first.test)
    return page.save(path)


def _add(page: Page, one: Explanation, *, alone: bool) -> None:
    """The image with its maps, then neighbors, sentences and transport plans."""
    name = without_folders(one.id)
    page.section("Image" if alone else f"{name}: {one.subject}", _map_text(one), blocks=_pictures(one))

    def heading(text: str) -> str:
        return text if alone else f"{name}: {text[0].lower()}{text[1:]}"

    if one.neighbors:
        page.section(heading("Nearest labeled images"), _neighbor_text(one), blocks=_neighbors(one))
    if one.sentence_table[1]:
        text = (
            "Cosines of the image with the sentences about the classes. The cosine with the text of a class is a sum "
            "over its sentences; the share is the part of each."
        )
        page.section(heading("Nearest sentences"), text, blocks=Table(*one.sentence_table))
    if one.plans is not None:
        page.section(heading("Prompts and patches"), "Maps of the learned prompts.", blocks=patch_plans(one.plans))
    if alone and one.notes[1:]:
        page.section("Notes", paragraphs(one.notes[1:]))


def _map_text(one: Explanation) -> str:
    if not one.maps:
        return ""
    top = max(float(values.max()) for values in one.maps.values())
    return (
        "A map shows the probability of a class for each patch by itself, from 0 (no color) to "
        f"{percent(top)} % (strongest color). It shows which patches the method assigns to the class, not the outline "
        "of an object."
    )


def _pictures(one: Explanation) -> list[PageSection]:
    probability = dict(one.listed)
    shown = [OverlayPicture(one.image, without_folders(one.id), "input of the encoder", f"the image {one.id}")]
    for name, overlay in one.overlays().items():
        known = probability.get(name)
        note = "" if known is None else f"{percent(known)} % for the whole image"
        row, column = np.unravel_index(one.maps[name].argmax(), one.maps[name].shape)
        alt = f"map of {name}; the strongest patch is in row {row + 1}, column {column + 1}"
        shown.append(OverlayPicture(overlay, name, note, alt))
    rows = [[name, f"{percent(p)} %"] for name, p in one.listed]
    return [Overlays(shown), Table(["class", "probability"], rows)]


def _neighbor_text(one: Explanation) -> str:
    if any(n.weight is not None for n in one.neighbors):
        return "Each labeled image adds to the score of its class; those that add most come first."
    return "Labeled images with the largest cosine to the image, nearest first."


def _neighbors(one: Explanation) -> PageSection:
    """Photos; a table where none were given."""
    if all(n.picture is None for n in one.neighbors):
        return Table(*one.neighbor_table)
    return PhotoGroups([_neighbor(n) for n in one.neighbors])


def _neighbor(neighbor: Neighbor) -> PhotoGroup:
    picture = None if neighbor.picture is None else Image.fromarray(neighbor.picture)
    note = f"cosine {neighbor.cosine:.2f}"
    if neighbor.weight is not None:
        note += f", adds {neighbor.weight:.2g}"
    return PhotoGroup([(without_folders(neighbor.id), picture)], neighbor.class_name, note)


def _add_test(page: Page, test: DeletionTest | None) -> None:
    """Numbers of the deletion test, or that there was none."""
    if test is None:
        page.section("Deletion test of the patch maps", untested())
        return
    rows = [
        ["whole images", percent(test.whole)],
        ["without the 20 % of patches with the highest score", percent(test.marked)],
        ["without 20 % at random", percent(test.random)],
    ]
    caption = "Mean probability of the class predicted for the whole image. Blanked patches have its mean color."
    table = Table(["patches", "probability, %"], rows, caption)
    page.section("Deletion test of the patch maps", test.sentence, blocks=() if test.why_not else table)
