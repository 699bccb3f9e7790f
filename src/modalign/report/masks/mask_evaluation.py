"""Page of masks and true masks: IoU per class, confusion matrix, and the worst photos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modalign.core.errors import InputError, UndecodableError
from modalign.core.files import write
from modalign.core.record import versions
from modalign.data.itemset import Items
from modalign.evaluate.masks.iou import SegmentationScores
from modalign.evaluate.masks.own_masks import MaskEvaluation
from modalign.evaluate.metrics import percent
from modalign.report import statements
from modalign.report.confusion import confusion_matrix
from modalign.report.masks.mask_columns import MaskColumns, MaskRow
from modalign.report.page import Page
from modalign.report.run_tables import Table
from modalign.report.style import Picture
from modalign.report.text import count, without_folders
from modalign.segmentation.mask_png import read_mask

WORST, SHOWN = 10, 4
"""Photos on the page, and in a figure of three columns."""


def pixel_confusion(scores: SegmentationScores) -> Picture:
    """True classes down, predicted classes across; cells are percent of the true pixels, and "none" is no class."""
    counts, names = scores.confusion, list(scores.names)
    if scores.missed.any():
        counts = np.block([[counts, scores.missed[:, None]], [np.zeros((1, len(names) + 1), np.int64)]])
        names.append("none")
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return confusion_matrix(counts, names, cells=np.round(shares).astype(int), unit="pixels")


def save_mask_evaluation(
    result: MaskEvaluation,
    path: str | Path,
    *,
    baseline: MaskEvaluation | None = None,
    photos: Items | None = None,
) -> Path:
    """Write one self-contained HTML page about masks and their truth.

    Parameters
    ----------
    result : MaskEvaluation
        The evaluation.
    path : str or Path
        The page to write.
    baseline : MaskEvaluation, default=None
        Other masks of the same photos, for a third column and a second number.
    photos : Items, default=None
        The photos, to show under the colors.
    """
    scores = result.scores
    low, high = scores.interval()
    facts = [
        (f"{percent(scores.miou)} %", "mean IoU"),
        (f"{percent(low)} to {percent(high)}", "95 % interval over photos"),
        (f"{percent(scores.accuracy)} %", "pixel accuracy"),
        (f"{scores.n_occurring} of {len(scores.names)}", "classes that occur"),
    ]
    if baseline is not None:
        facts.insert(1, (f"{percent(baseline.scores.miou)} %", "mean IoU of the baseline"))
    page = Page(
        f"Masks of {count(scores.n_images, 'photo')} against their truth",
        f"Averaged over {count(scores.n_occurring, 'class', 'classes')}, {percent(scores.miou)} % of the pixels that "
        "are predicted or true of a class are both (mean intersection over union).",
        facts=facts,
        record={**_short(result.record), "versions": versions()},
    )
    header, rows = scores.table
    page.section(
        "Classes",
        "IoU is the intersection of predicted and true pixels over their union, precision its share of the predicted "
        "and recall its share of the true pixels. Pixels are summed over all photos. In the matrix each row holds the "
        "true pixels of one class in percent, each column one predicted class.",
        blocks=[Table(header, rows, "In percent. A dash: no pixel to divide by."), pixel_confusion(scores)],
    )
    worst = result.worst(WORST)
    if worst:
        page.section(
            f"The {count(len(worst), 'worst photo')}",
            "Photos with the lowest mean IoU by themselves. Pixels that do not count have no color in the truth.",
            blocks=mask_columns(result, worst, baseline=baseline, photos=photos),
        )
    if result.notes:
        page.section("Notes", statements.paragraphs(result.notes))
    return page.save(path)


def save_columns_figure(
    result: MaskEvaluation,
    path: str | Path,
    *,
    baseline: MaskEvaluation | None = None,
    photos: Items | None = None,
    n: int = SHOWN,
) -> Path:
    """Write the masks of a few photos, the true ones, and those of a baseline if there is one, as one PNG.

    The photos are evenly spaced from the lowest to the highest of the gain over the baseline, without one of the mean
    IoU, so that the figure shows losses as well as gains.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"Expected a file name that ends in .png, got '{path}'.")
    own = result.scores.image_miou
    gain = own if baseline is None else own - baseline.scores.image_miou
    return write(path, mask_columns(result, evenly_spaced(gain, n), baseline=baseline, photos=photos).png())


def evenly_spaced(values: np.ndarray, n: int) -> list[int]:
    """The places of at most ``n`` values from the lowest to the highest, as many between each two; NaN is left out."""
    order = [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
    return [order[round(k)] for k in np.linspace(0, len(order) - 1, min(n, len(order)))]


def mask_columns(
    result: MaskEvaluation,
    rows: list[int],
    *,
    baseline: MaskEvaluation | None = None,
    photos: Items | None = None,
) -> MaskColumns:
    """The masks of some photos: baseline (if any), prediction, truth."""
    place = {} if photos is None else {file: i for i, file in enumerate(photos.ids)}
    own, other = result.scores.image_miou, None if baseline is None else baseline.scores.image_miou
    found = []
    for i in rows:
        pair = result.pairs[i]
        maps = [read_mask(pair.mask), result.reader.read(pair.truth)]
        title = f"{without_folders(pair.file)}, {percent(own[i])} %"
        if baseline is not None and other is not None:
            maps.insert(0, read_mask(baseline.pairs[i].mask))
            title += f", baseline {percent(other[i])} %"
        photo = _photo(photos, place.get(pair.file), maps[0].shape)
        found.append(MaskRow(title, maps, photo))
    headings = ([] if baseline is None else [f"baseline: {_kind(baseline)}"]) + [_kind(result), "truth"]
    return MaskColumns(headings, found, result.scores.names, result.colors)


def require_same_photos(result: MaskEvaluation, baseline: MaskEvaluation) -> None:
    """Raise unless two evaluations are of the same photos and classes."""
    if [p.file for p in result.pairs] != [p.file for p in baseline.pairs]:
        raise InputError("Expected a baseline with masks of the same photos; run segment on the same photos twice.")
    if result.scores.names != baseline.scores.names:
        raise InputError("Expected a baseline with the same classes in the same order; run segment with them.")


def _photo(photos: Items | None, i: int | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if photos is None or i is None:
        return None
    try:
        picture: Image.Image = photos.open(i)
    except UndecodableError:
        return None
    return np.asarray(picture) if (picture.height, picture.width) == shape else None


def _kind(result: MaskEvaluation) -> str:
    """Name of the features and the map."""
    mapped = isinstance(result.record["settings"], dict) and result.record["settings"].get("map")
    return f"{result.record['features'] or 'masks'}{' + GPUA' if mapped else ''}"


def _short(record: Any) -> dict[str, object]:
    """Return the settings of the masks, without long entries."""
    settings = {k: v for k, v in dict(record["settings"]).items() if k not in ("classes", "versions")}
    return _with_short_hashes({"encoder": record["encoder"], **settings, "dense features": record["features"]}) | {
        "features": None
    }


def _with_short_hashes(value: Any) -> Any:
    """A plain value with the first 12 digits of hashes."""
    if isinstance(value, dict):
        return {key: _with_short_hashes(entry) for key, entry in value.items()}
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{40,}", value) else value
