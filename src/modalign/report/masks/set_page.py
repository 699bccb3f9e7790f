"""Page of the segmentation protocol: a table per data set, with measured and published numbers."""

from __future__ import annotations

from pathlib import Path

from modalign.core.record import versions
from modalign.evaluate.masks.set_benchmark import SegmentationBenchmark
from modalign.report.page import Page
from modalign.report.run_tables import Table
from modalign.report.text import count, without_folders

CAPTION = (
    "Mean intersection over union in percent, with a 95 % interval from resampling the images. Published numbers are "
    "of CLIP ViT-B/16; with another encoder the two cannot be compared."
)


def save_segmentation_page(result: SegmentationBenchmark, path: str | Path) -> Path:
    """Write one self-contained HTML page.

    Parameters
    ----------
    result : SegmentationBenchmark
        From :func:`~modalign.evaluate.masks.set_benchmark.run_segmentation_benchmark`.
    path : str or Path
        A name that ends in ``.html``.

    Returns
    -------
    Path
        The page.
    """
    sets = list(dict.fromkeys(row.cells[0] for row in result.rows))
    kinds = list(dict.fromkeys(row.cells[1] for row in result.rows))
    page = Page(
        f"Segmentation: {count(len(kinds), 'method')} on {count(len(sets), 'data set')}",
        "The validation photos of each data set, resized and thresholded as in the public code of each method.",
        facts=[(f"{len(kinds)}", "methods"), (f"{len(sets)}", "data sets")],
        record={"data sets": sets, "versions": versions()},
    )
    for name in sets:
        rows = [[without_folders(cell) for cell in row.cells[1:]] for row in result.rows if row.cells[0] == name]
        page.section(name, blocks=[Table(result.header[1:], rows, CAPTION)])
    if result.missing:
        missing = [[name, without_folders(reason)] for name, reason in result.missing.items()]
        page.section("Left out", blocks=[Table(["data set", "what was found"], missing)])
    return page.save(path)
